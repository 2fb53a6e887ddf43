/* refork.h: a worker becomes the mold of the next generation (refork-after). What its requests have
 * loaded, cached and specialized, the next workers share.
 *
 * The worker asks for it on the board, and is replaced like one that has answered max-requests.
 * With the signal to drain it gets the pipe for its orders. When it has drained, it prepares its
 * heap and is a mold. From then on it is as in a reload: a trial, then the other workers are
 * replaced. */
#ifndef MYSERVER_MASTER_REFORK_H
#define MYSERVER_MASTER_REFORK_H

#include "base/base.h"

#include <stdbool.h>
#include <sys/types.h>

struct book;
struct mold;
struct slot;

/* Whether the worker of `s` may be chosen: it is of the current generation, no refork of which has
 * failed, no other worker is chosen, and no reload, trial, pause or stop is under way. */
bool refork_may_begin(struct book *b, const struct slot *s);
/* Drains the worker, to become the mold. False when something else is under way now, or the worker
 * cannot be told, which is logged: the caller then drains it as at max-requests. */
MUST_CHECK bool refork_begin(struct book *b, struct slot *s);
/* The worker has become the mold: frees its slot; the caller begins a trial as in a reload. False:
 * the server is paused, and the mold leaves. */
MUST_CHECK bool refork_adopt(struct book *b, struct mold *mold);
/* A process has ended. If it was to become the mold, no other worker of its generation will. */
void refork_on_exit(struct book *b, pid_t pid);

#endif
