/* descriptors.h: how many file descriptors this process has left to give away. */
#ifndef MYSERVER_DESCRIPTORS_H
#define MYSERVER_DESCRIPTORS_H

/* How many more may be opened for clients: what RLIMIT_NOFILE leaves beside those now open, less a
 * reserve for the application, its database and bodies in files, which grows with its threads.
 * Never all: an accept that fails for want of one leaves the client in the queue. At least 1;
 * UINT_MAX / 4 where there is no limit. Ask when everything of the process's own is open. */
unsigned descriptors_for_clients(unsigned threads);
/* What to do about an errno, to follow its text: "" unless it says that there are too few. */
const char *descriptors_advice(int error);

#endif
