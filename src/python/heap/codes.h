/* codes.h: gives code objects that change when they run pages of their own. GIL held. */
#ifndef MYSERVER_PYTHON_HEAP_CODES_H
#define MYSERVER_PYTHON_HEAP_CODES_H

#include "owners.h"

/* Before the last round of the warm-up: remembers a checksum of the code of every function among
 * `objects`, the list that gc.get_objects() returns. */
void codes_note(struct _object *objects);

/* In the mold, after the warm-up and before immortal_make_all: moves the code that has changed
 * since codes_note, and on 3.11 all code that has run, to pages of its own. `graph` is that of
 * `objects`. Does nothing without codes_note. Returns how many code objects were moved. */
size_t codes_gather(struct _object *objects, const struct owners *graph);

#endif
