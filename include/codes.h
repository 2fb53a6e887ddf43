/* codes.h: gives code objects that change when they run pages of their own. Layer 3; GIL held. */
#ifndef MYSERVER_CODES_H
#define MYSERVER_CODES_H

#include "base/base.h"

/* Before the last round of the warm-up: remembers a checksum of the code of every function. */
void codes_note(void);

/* In the mold, after the warm-up and before gc.freeze(): moves the code that has changed since
 * codes_note, and on 3.11 all code that has run, to pages of its own. Does nothing without
 * codes_note. Returns how many code objects were moved. */
size_t codes_gather(void);

#endif
