/* replace.h: serving workers that are to be replaced, and why. */
#ifndef MYSERVER_MASTER_REPLACE_H
#define MYSERVER_MASTER_REPLACE_H

#include "base/base.h"
#include "shared/board.h"

struct book;
struct slot;

/* Notes that a serving worker is to be replaced, and why. Only the first reason counts, except that
 * BOARD_RETIRE_STUCK replaces any other and drains the worker at once. */
void replace_worker(struct book *b, struct slot *s, enum board_retire reason);
/* Some seconds have passed: finds workers with more memory than max-worker-memory. */
void replace_heavy(struct book *b);

#endif
