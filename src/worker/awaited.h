/* awaited.h: the sockets that threads of this process wait for, according to the kernel. For the
 * watch, which may end such a wait by shutting the socket down. */
#ifndef MYSERVER_WORKER_AWAITED_H
#define MYSERVER_WORKER_AWAITED_H

#include "base/base.h"

#include <pthread.h>
#include <stdbool.h>
#include <sys/types.h>

/* Remembers the sockets that are open when the worker begins: other processes may have them too. */
void awaited_note_inherited(void);
/* The descriptor that a thread's current system call waits for; -1: none, or more than one. */
int awaited_fd(pid_t tid);
/* Whether `fd` is a socket that no other thread of this process waits for, by whatever descriptor,
 * and that was opened in this process. */
MUST_CHECK bool awaited_only_by(pid_t tid, int fd);
/* Whether `other` waits for a lock in code that `thread` is in, by the stacks that faulthandler has
 * written. Then it may use the same connection next. */
MUST_CHECK bool awaited_by_lock(const char *stacks, pthread_t thread, pthread_t other,
                                pid_t other_tid);

#endif
