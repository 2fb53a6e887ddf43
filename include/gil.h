/* gil.h: how long threads wait for the interpreter. */
#ifndef MYSERVER_GIL_H
#define MYSERVER_GIL_H

#include "base.h"

#include <stdbool.h>

/* What the calling thread has waited for the GIL in its life, in nanoseconds. Exact; 0 for ever
 * under ThreadSanitizer and where libpython is linked statically. */
uint64_t gil_waited_ns(void);
/* From now on the calling thread is one of those that gil_is_wanted speaks of. */
void gil_count_this_thread(void);
/* One of these waits for it now. Never, where the above is 0. */
bool gil_is_wanted(void);

#endif
