/* spared.h: objects whose end a program could notice. GIL held. */
#ifndef MYSERVER_PYTHON_HEAP_SPARED_H
#define MYSERVER_PYTHON_HEAP_SPARED_H

#include "owners.h"

/* Marks of a node: the object has to end as it does in plain Python; and for that the collector has
 * to see it, since it may be in a cycle. */
#define SPARED   1
#define IN_CYCLE 2

/* Marks all such nodes. `python_class`: any class that is written in Python and has no base in C
 * but object or an exception. Returns how many. */
size_t spared_find(struct owners *graph, struct _object *python_class);

#endif
