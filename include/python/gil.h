/* gil.h: how long threads wait for the GIL. */
#ifndef MYSERVER_PYTHON_GIL_H
#define MYSERVER_PYTHON_GIL_H

#include "base/base.h"

#include <stdatomic.h>
#include <stdbool.h>

/* To be called once, before Python starts, with a function of libpython. Until then nothing is
 * counted. */
void gil_measure(void (*of_python)(void));
/* How long the calling thread has waited for the GIL in its life, in nanoseconds. Exact; always 0
 * under ThreadSanitizer. */
uint64_t gil_waited_ns(void);
/* From now on gil_is_wanted counts the calling thread. */
void gil_count_this_thread(void);
/* Whether a counted thread waits for the GIL now. Always false where gil_waited_ns is always 0. */
bool gil_is_wanted(void);

/* From now on `word` is 1 while the calling thread waits for the GIL, else 0; NULL: nothing shows
 * it. */
void gil_show_wait(_Atomic uint32_t *word);

/* With true: the next wait of the calling thread for the GIL is over at once, so that it asks the
 * holder to let go, which others do after 5 ms; then it waits as they do. Nothing where
 * gil_waited_ns is always 0. */
void gil_hurry(bool hurry);

#endif
