/* forks.h: processes that the application forks, by os.fork or multiprocessing, while it is loaded
 * or from a worker.
 *
 * Such a process is a copy in the midst of other work, and none of the server's: signals end it as
 * they end any other, its title says what it is, and it lets go of the listening sockets and of all
 * clients, whose answers would end, and whose port be free, only when it does. What it executes
 * (exec) has none of them anyway. */
#ifndef MYSERVER_FORKS_H
#define MYSERVER_FORKS_H

#include <stdbool.h>

struct listeners;

/* From now on. The main thread, while it is the only one. */
void forks_follow(const struct listeners *listeners);
/* From now on this process forks only what is the server's own. */
void forks_ignore(void);
/* In such a process. */
bool forks_is_copy(void);

#endif
