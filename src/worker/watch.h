/* watch.h: the watch, a thread of each worker that acts on requests which take too long. It needs
 * neither the loop nor the interpreter, so that it works when both are stuck.
 *
 * A request that passes its deadline is reported with the stacks of all threads and, if nothing of
 * its answer was sent, answered 504. Then its thread is interrupted; when it does not come back
 * within a second, the watch gives it up and asks the master for another worker. */
#ifndef MYSERVER_WATCH_H
#define MYSERVER_WATCH_H

#include "base/base.h"

#include <stdatomic.h>
#include <stdbool.h>

struct board;
struct config;
struct conn;
struct pool;
struct pool_thread;

/* What a thread and the watch share about the request that the thread runs. A turn is one request
 * of the thread. Zeroed at first. */
struct watch_turn {
    _Atomic uint64_t state;    /* number of the turn, and who answers; see watch.c */
    _Atomic uint64_t given_up; /* the watch writes: number of the turn that it gave up last */
    uint64_t expired;          /* only the watch: number of the turn that passed its deadline */
    uint64_t number;           /* only the thread: of its latest turn, from 1 */
    struct conn *conn;         /* of the turn; the watch uses it only to answer */
    _Atomic int fd;            /* the client's socket */
};

/* Starts the thread; borrows all. */
void watch_start(struct pool *pool, const struct config *config, struct board *board,
                 unsigned slot);
/* Ends the thread. To be called when no request runs any more. */
void watch_stop(void);
/* Ends the process at `deadline_ns` (now_ns) if it still runs then: a drain must not last for ever
 * when no master is left to end it. */
void watch_leave_by(uint64_t deadline_ns);
/* To be called by the loop several times a second. When it is not for as long as `timeout`, the
 * master replaces the worker. */
void watch_note_loop(void);
/* How many threads the watch has given up and are still in that request. */
unsigned watch_given_up(void);

/* Around a request, on its thread. `deadline_ns` (now_ns) 0: none. */
void watch_begin(struct pool_thread *thread, struct conn *conn, uint64_t deadline_ns);
/* On the thread, before the first byte of the answer. False: the watch has answered, and nothing
 * may be sent. After true the watch will not answer. */
MUST_CHECK bool watch_claim(struct pool_thread *thread);
/* The watch has answered, for instance while the thread was still waiting for the GIL. */
bool watch_has_answered(const struct pool_thread *thread);
/* Ends what watch_begin began. False when the watch has answered: the request is logged and counted
 * already. The connection may be given back only after this. */
MUST_CHECK bool watch_end(struct pool_thread *thread);
/* Sets a new deadline, `limit_ns` from now; 0: none. By the thread itself. */
void watch_set_limit(struct pool_thread *thread, uint64_t limit_ns);
/* Stops the deadline while the thread waits for its client, which has limits of its own. */
uint64_t watch_pause(struct pool_thread *thread);
/* Takes what watch_pause returned. */
void watch_resume(struct pool_thread *thread, uint64_t paused);

#endif
