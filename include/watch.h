/* watch.h: the thread of a worker that looks after requests which take too long. It needs neither
 * the loop nor the interpreter, so that it works when both are stuck.
 *
 * A request that passes its deadline is reported with the stacks of all threads and, if nothing of
 * its answer was sent, answered 504. Then its thread is interrupted; when it does not come back
 * within a second, the watch gives it up and asks the master for another worker. */
#ifndef MYSERVER_WATCH_H
#define MYSERVER_WATCH_H

#include "base.h"

#include <stdatomic.h>
#include <stdbool.h>

struct board;
struct config;
struct conn;
struct pool;
struct pool_thread;

/* What a thread and the watch share of the request the thread runs. Zeroed at first. */
struct watch_turn {
    _Atomic uint64_t state;    /* number of the turn, and who answers; see watch.c */
    _Atomic uint64_t given_up; /* number of the turn that was; the watch's */
    uint64_t expired;          /* the same for the last that passed its deadline */
    uint64_t number;           /* of the last turn, from 1; the thread's */
    struct conn *conn;         /* of the turn; the watch may use it only while it answers */
    _Atomic int fd;            /* the client's */
};

/* Starts the thread; borrows all. */
void watch_start(struct pool *pool, const struct config *config, struct board *board,
                 unsigned slot);
/* Ends it. No request runs any more. */
void watch_stop(void);
/* Ends the process at this time if it has not ended by then: a drain must not last for ever when
 * no master is left to end it. */
void watch_leave_by(uint64_t deadline_ns);
/* The loop is alive: expected several times a second. When it is not, for as long as `timeout`, the
 * master replaces the worker. */
void watch_note_loop(void);
/* How many threads were given up and are not back. */
unsigned watch_given_up(void);

/* Around a request, on its thread. `deadline_ns` (now_ns) 0: none. */
void watch_begin(struct pool_thread *thread, struct conn *conn, uint64_t deadline_ns);
/* Before the first byte of the answer: false when the watch has answered and nothing may be sent.
 * After true the watch will not answer. */
MUST_CHECK bool watch_claim(struct pool_thread *thread);
/* The watch has answered while the thread was still waiting for the interpreter, say. */
bool watch_has_answered(const struct pool_thread *thread);
/* False when the watch has answered: the request is logged and counted already. The connection may
 * be given back only after this. */
MUST_CHECK bool watch_end(struct pool_thread *thread);
/* From now on; 0: none. By the thread itself. */
void watch_set_limit(struct pool_thread *thread, uint64_t limit_ns);
/* The thread waits for its client, whom other limits bound: that time does not count. */
uint64_t watch_pause(struct pool_thread *thread);
/* Takes what watch_pause returned. */
void watch_resume(struct pool_thread *thread, uint64_t paused);

#endif
