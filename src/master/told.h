/* told.h: what molds are told for the hooks of the application: that a generation serves, and which
 * workers have ended. One generation's hooks are in force at a time: those of the last that has
 * served; while none of its molds lives, what is to be told waits. In the master. */
#ifndef MYSERVER_MASTER_TOLD_H
#define MYSERVER_MASTER_TOLD_H

#include "base/base.h"
#include "shared/board.h"

#include <sys/types.h>

struct book;

/* Notes that worker `number`, the process `pid`, has ended; `status` is waitpid's. */
void told_end(struct book *b, unsigned number, pid_t pid, enum board_end end, int status);
/* The generation of the current mold serves. */
void told_serves(struct book *b);
/* Tells what was noted. */
void told_settle(struct book *b);

#endif
