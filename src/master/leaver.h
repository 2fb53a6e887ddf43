/* leaver.h: processes that have given up their place in the master's book, and end. So a slow end
 * keeps no worker from being replaced, and a mold is there until the last worker of its generation
 * has ended. They bound their end themselves (ending.h); the master kills what does not. Runs in
 * the master only. */
#ifndef MYSERVER_MASTER_LEAVER_H
#define MYSERVER_MASTER_LEAVER_H

#include "base/base.h"
#include "shared/board.h"

#include <stdbool.h>
#include <sys/types.h>

struct book;
struct mold;
struct slot;

/* Whether one more mold can be taken. */
MUST_CHECK bool leaver_has_room(const struct book *b);
/* Takes a mold out of its place; the place is free then. Not one in MOLD_DRAINING. */
void leaver_take_mold(struct book *b, struct mold *mold);
/* Takes a worker out of its slot, which says on the board that it ends; the slot is free then.
 * `end`: why. False: there is no room; it stays. */
MUST_CHECK bool leaver_take_worker(struct book *b, struct slot *s, enum board_end end);
/* Tells those molds to end whose last worker is gone. */
void leaver_settle(struct book *b);
/* `pid` has ended. False: it is no leaver. */
MUST_CHECK bool leaver_on_exit(struct book *b, pid_t pid, int status);
/* Kills those that are late. */
void leaver_meet_deadlines(struct book *b);
/* Kills the mold of `generation`, which does not carry out an order. False: it is no leaver. */
MUST_CHECK bool leaver_kill_mold(struct book *b, uint32_t generation);
/* The server stops at once: kills the workers; molds, whose children would be left behind, have
 * BOOK_QUICK_MS to end. */
void leaver_hurry(struct book *b);

#endif
