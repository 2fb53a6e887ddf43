/* watch.h: the watch, a thread of each worker that acts on requests which take too long. It needs
 * neither the loop nor the interpreter, so that it works when both are stuck.
 *
 * A request that passes its deadline is reported with the stacks of all threads and, if nothing of
 * its answer was sent, answered 504. Then its thread is interrupted; when it does not come back
 * within a second, the watch gives it up and asks the master for another worker. */
#ifndef MYSERVER_WORKER_WATCH_H
#define MYSERVER_WORKER_WATCH_H

#include "turn.h"

struct board;
struct config;

/* Starts the thread; borrows all. */
void watch_start(struct turns *turns, const struct config *config, struct board *board,
                 unsigned slot);
/* Ends the thread. To be called when no request runs any more. */
void watch_stop(void);
/* Ends the process at `deadline_ns` (now_ns) if it still runs then: a drain must not last for ever
 * when no master is left to end it. */
void watch_leave_by(uint64_t deadline_ns);
/* To be called by the loop several times a second. When it is not for as long as `timeout`, the
 * master replaces the worker. */
void watch_note_loop(void);

#endif
