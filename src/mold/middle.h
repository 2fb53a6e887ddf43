/* middle.h: how the mold forks a process that is not its own child. */
#ifndef MYSERVER_MOLD_MIDDLE_H
#define MYSERVER_MOLD_MIDDLE_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

/* Forks a middle process, which calls `run`, and waits for its end; what it forks becomes a child
 * of the master then. `run` does not return, and gets the signal mask from before; all signals are
 * blocked. `has_python`: this process has, and holds the GIL. `what`: what cannot be forked if that
 * fails, for the log. False: the middle process was not forked, or did not end by exit. */
bool middle_fork(bool has_python, void (*run)(void *context, const sigset_t *mask), void *context,
                 const char *what);
/* In what the middle process has forked: waits until that process has ended, so that the
 * application sees the master as its parent. */
void middle_await_end(pid_t middle);

#endif
