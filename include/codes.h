/* codes.h: code that is written when it runs, put together on few pages. Layer 3; GIL held. */
#ifndef MYSERVER_CODES_H
#define MYSERVER_CODES_H

#include "base.h"

/* Before the last round of the warm-up: remembers what the code of every function looks like. */
void codes_note(void);

/* In the mold, after the warm-up and before gc.freeze(): moves the code that has changed since, and
 * on 3.11 all code that has run, to pages of its own. Without codes_note it does nothing. Returns
 * how many code objects it has moved. */
size_t codes_gather(void);

#endif
