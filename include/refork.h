/* refork.h: a worker becomes the mold of the next generation (refork-after). What its requests have
 * loaded, cached and specialized, the workers after it share.
 *
 * The worker asks, on the board; it is replaced like one that has answered max-requests. When it is
 * to drain it gets the pipe for its orders, and drained, it prepares its heap and is a mold. From
 * there on everything is as in a reload: a trial, then the other workers are replaced. */
#ifndef MYSERVER_REFORK_H
#define MYSERVER_REFORK_H

#include "base.h"

#include <stdbool.h>
#include <sys/types.h>

struct book;
struct mold;
struct slot;

/* Nothing else is going on, and no worker of this generation has been found unfit. */
bool refork_may_begin(struct book *b, const struct slot *s);
/* Drains it to become the mold. False when something has come between, or it cannot be told, which
 * the log says: it is one to be replaced as by max-requests then. */
MUST_CHECK bool refork_begin(struct book *b, struct slot *s);
/* It is a worker no more: its slot is free, and the trial of a reload begins. False: nobody wants
 * workers now, and it leaves. */
MUST_CHECK bool refork_adopt(struct book *b, struct mold *mold);
/* A process has ended: if it was to be a mold, none of its generation will be. */
void refork_on_exit(struct book *b, pid_t pid);

#endif
