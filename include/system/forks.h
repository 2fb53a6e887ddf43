/* forks.h: processes that the application forks, by os.fork or multiprocessing, from the mold or
 * from a worker.
 *
 * Such a process is a copy of a mold or worker in the middle of its work, and none of the server's
 * own. Signals end it as they end any process, its title says what it is, and it gives up the
 * listening sockets and all clients: otherwise answers would not end, and the port would not be
 * free, before it does. A program that it executes gets none of them anyway (close-on-exec). */
#ifndef MYSERVER_SYSTEM_FORKS_H
#define MYSERVER_SYSTEM_FORKS_H

#include <stdbool.h>

struct listeners;

/* From now on processes that this one forks are the application's. On the main thread, while it is
 * the only one. */
void forks_follow(const struct listeners *listeners);
/* Whether what the calling thread forks from now on is the server's own. forks_follow says no. */
void forks_are_own(bool are);
/* Whether this process was forked by the application. */
bool forks_is_copy(void);

#endif
