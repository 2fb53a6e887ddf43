/* descriptors.h: how many file descriptors this process has left to give away. */
#ifndef MYSERVER_DESCRIPTORS_H
#define MYSERVER_DESCRIPTORS_H

/* How many descriptors may be opened for clients: RLIMIT_NOFILE without those open now, and without
 * a reserve for the application, its database and bodies in files, which grows with the limit and
 * the threads. Never all that are left: when accept fails for lack of one, the client stays in the
 * queue. At least 1; UINT_MAX / 4 where there is no limit. Call it when everything of the process's
 * own is open. */
unsigned descriptors_for_clients(unsigned threads);
/* What to do about `error`, to be written after its text; "" unless it says that descriptors are
 * used up. */
const char *descriptors_advice(int error);

#endif
