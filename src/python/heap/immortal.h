/* immortal.h: objects whose reference count is never written again (PEP 683). GIL held. */
#ifndef MYSERVER_PYTHON_HEAP_IMMORTAL_H
#define MYSERVER_PYTHON_HEAP_IMMORTAL_H

#include "owners.h"

/* Makes this object immortal; on CPython before 3.12 it gets one reference more instead. */
void immortal_make(struct _object *object);

/* Makes every object of the graph immortal, except those that are SPARED and those that live only
 * for a while (frames, tracebacks). Before gc.freeze(), which hides them from the collector.
 * Returns how many; 0 on CPython before 3.12, where reference counts are always written. */
size_t immortal_make_all(const struct owners *graph);

#endif
