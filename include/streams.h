/* streams.h: the numbers 0 to 2 are for the standard streams, also where one is closed. Anything
 * else that gets such a number would receive what is printed, and would be lost when an error log
 * takes the number. */
#ifndef MYSERVER_STREAMS_H
#define MYSERVER_STREAMS_H

#include "base/base.h"

/* Opens /dev/null in place of every standard stream that is closed. */
void streams_fill(void);
/* Takes a descriptor that was just opened, or -1. One with the number of a standard stream is moved
 * to a higher number, and /dev/null is left in its place. Returns the descriptor to use; -1, with
 * errno, when there was none or no higher number is free. Any thread. */
MUST_CHECK int streams_spare(int fd);

#endif
