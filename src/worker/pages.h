/* pages.h: what the first request of a view in a worker costs that later ones do not: memory of the
 * worker's own, and time. For advice: a page in `prewarm` costs that once, before the fork. */
#ifndef MYSERVER_WORKER_PAGES_H
#define MYSERVER_WORKER_PAGES_H

#include "exchange.h"

struct hints;

/* A worker begins: what it finds goes there. NULL: nothing is looked for. */
void pages_begin(struct hints *hints);
/* Whether the request of that path, which begins, is to be looked at. Any thread. */
bool pages_are_wanted(struct text path);
/* How many pages of memory the kernel has given to the calling thread in its life, or copied for
 * it. Costs a system call. */
uint64_t pages_given(void);
/* A request has ended that was answered with `status`; `view`: from ledger_view. Any thread.
 * Nothing if it was not to be looked at. */
void pages_note(const struct exchange *e, unsigned view, unsigned status);

#endif
