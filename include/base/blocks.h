/* blocks.h: large pieces of memory that are used again, one store a process. A piece fresh from the
 * system costs a page fault every 4 KiB; one that was used a moment ago costs nothing. Any thread,
 * and without a lock, so that a process which another thread has forked may go on. */
#ifndef MYSERVER_BASE_BLOCKS_H
#define MYSERVER_BASE_BLOCKS_H

#include "base/base.h"

#define BLOCK_BYTES ((size_t)128 * 1024)

/* A block with anything in it, if possible the one that was put back last. The caller owns it;
 * NULL: the system has no memory. */
MUST_CHECK char *blocks_take(void);
/* Puts a block back for the next one who wants one. Takes it. */
void blocks_put(char *block);
/* Gives those back to the system that nobody has wanted for `unused_rounds` calls; 0: all. */
void blocks_trim(unsigned unused_rounds);

#endif
