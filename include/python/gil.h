/* gil.h: how long threads wait for the GIL. */
#ifndef MYSERVER_GIL_H
#define MYSERVER_GIL_H

#include "base/base.h"

#include <stdbool.h>

/* How long the calling thread has waited for the GIL in its life, in nanoseconds. Exact; always 0
 * under ThreadSanitizer and where libpython is linked statically. */
uint64_t gil_waited_ns(void);
/* From now on gil_is_wanted counts the calling thread. */
void gil_count_this_thread(void);
/* Whether a counted thread waits for the GIL now. Always false where gil_waited_ns is always 0. */
bool gil_is_wanted(void);

#endif
