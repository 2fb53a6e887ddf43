/* fds.h: file descriptors. The numbers 0 to 2 are for the standard streams, also where one is
 * closed: anything else that gets such a number would receive what is printed, and would be lost
 * when an error log takes the number. */
#ifndef MYSERVER_BASE_FDS_H
#define MYSERVER_BASE_FDS_H

#include "base/base.h"

#include <stdbool.h>
#include <sys/types.h>

#define FDS_SENT_MAX 4 /* descriptors in one message */

/* Opens /dev/null in place of every standard stream that is closed. */
void fds_fill_streams(void);
/* Takes a descriptor that was just opened, or -1. One with the number of a standard stream is moved
 * to a higher number, and /dev/null is left in its place. Returns the descriptor to use; -1, with
 * errno, when there was none or no higher number is free. Any thread. */
MUST_CHECK int fds_spare(int fd);
/* How many descriptors may be opened for clients: RLIMIT_NOFILE without those open now, and without
 * a reserve for the application, its database and bodies in files, which grows with the limit and
 * the threads. Never all that are left: when accept fails for lack of one, the client stays in the
 * queue. At least 1; UINT_MAX / 4 where there is no limit. Call it when everything of the process's
 * own is open. */
unsigned fds_for_clients(unsigned threads);
/* What to do about `error`, to be written after its text; "" unless it says that descriptors are
 * used up. */
const char *fds_advice(int error);

/* Sends `data` and copies of `count` descriptors as one datagram, without waiting. False: errno
 * says why. */
MUST_CHECK bool fds_send(int socket, const void *data, size_t len, const int *fds, unsigned count);
/* Receives such a datagram, without waiting; `flags` as for recvmsg(2). `*count`: room in `fds`,
 * then how many arrived, which the caller owns; fewer than were sent when no number was free, and
 * -1 for one that could not be moved from the number of a standard stream. Returns the length of
 * the data, or -1 with errno. */
ssize_t fds_receive(int socket, void *data, size_t size, int *fds, unsigned *count, int flags);

#endif
