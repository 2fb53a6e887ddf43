/* pool.h: the threads of a worker, and which of them leads, that is owns the loop.
 *
 * Leader and followers: the leader runs the loop, reads and parses. It also runs the request that
 * it has read, so no request waits for a hand-off between threads. While it does, nobody leads,
 * until another thread takes over: at once where requests mostly wait, after a delay where they
 * compute. The standby, a thread without Python, makes that happen; when all threads are busy it
 * leads itself: bodies, timeouts, slow clients and stop signals go on, but no request is started.
 * Free threads are used last-in first-out. */
#ifndef MYSERVER_WORKER_POOL_H
#define MYSERVER_WORKER_POOL_H

#include "base/base.h"
#include "conn.h"
#include "policy.h"
#include "python/python.h"
#include "python/trash.h"
#include "turn.h"

#include <pthread.h>
#include <stdbool.h>

struct balance;
struct board_seat;
struct board_worker;

/* A thread that runs requests, always in the same seat. */
struct pool_thread {
    struct pool *pool;
    struct turn turn; /* number 0: the process's main thread */
    /* Under pool->lock. */
    struct pool_thread *next_idle;
    TAILQ_ENTRY(pool_thread) running; /* in pool->runners while it runs a request */
    uint64_t started_ns;              /* when that request started */
    pthread_cond_t wake;
    bool called;    /* woken on purpose: there is work, or `appointed`, or the pool stops */
    bool appointed; /* the waker has made this thread the leader already */
    struct policy_meter meter; /* this thread's own; not under the lock */
};

TAILQ_HEAD(pool_runners, pool_thread);

struct pool {
    struct conn_table *table;
    struct balance *balance;
    struct board_worker *board;
    struct pool_thread *threads; /* [count]; owned */
    struct turns turns;          /* of all threads */
    struct lags lags;            /* of all threads */
    unsigned count;
    pthread_mutex_t lock;
    struct pool_thread *idle; /* parked threads, last-in first-out */
    unsigned idle_count;
    bool led, led_by_standby;
    _Atomic bool stopping; /* set under the lock */
    _Atomic bool
        signalled; /* set under the lock: Python's signal handlers are to run on thread 0 */
    uint64_t unled_since_ns;
    uint64_t looked_ns;     /* leader: when ev_run last reported something */
    uint64_t look_every_ns; /* leader: how long the next look may wait after that */
    struct policy policy;
    pthread_t standby;
    int alarm_fd;               /* timerfd: the standby sleeps until it expires */
    bool alarm_set;             /* it will ring */
    struct conn_queue ready;    /* whole requests that wait for a thread */
    struct conn_queue returned; /* connections that threads give back to the loop */
    /* Set under the lock, behind the connection; the leader looks without it, and is woken or takes
     * the lock to lead when it looked too early. */
    _Atomic bool any_returned;
    struct pool_runners runners; /* threads that run a request; the one that began last is first */
    unsigned running;            /* number of `runners` */
    struct trash trash;

    /* Set by the worker between pool_init and pool_serve. */
    ev_async *bell; /* wakes the leader out of its sleep */
    /* Accepts one connection from the listener that `newcomer` names; NULL: none is there any more,
     * or none may be accepted now. */
    struct conn *(*accept)(void *context);
    void *newcomer; /* argument for `accept`: a client waits in the kernel; NULL: none. Leader. */
    bool newcomer_met; /* since ev_run: whether another one waits is not known. Leader. */
    unsigned (*count_waiting)(void); /* how many clients wait in the kernel; leader */
    uint64_t counted_ns;             /* when it was last asked; leader */
};

/* Starts no thread yet. Borrows all arguments; `seats`: [threads] on the board. */
void pool_init(struct pool *pool, struct conn_table *table, struct balance *balance,
               struct board_worker *board, struct board_seat *seats, unsigned threads);
/* Serves until pool_stop, on the calling thread (thread 0, the interpreter's main thread, GIL held)
 * and on the threads it starts. They have ended when it returns, with the GIL held again. */
void pool_serve(struct pool *pool);
/* Frees what the pool owns, after pool_serve. GIL held. */
void pool_fini(struct pool *pool);
/* Lets pool_serve return when the running requests are done. Leader. */
void pool_stop(struct pool *pool);

/* A signal has arrived for which the application has a handler in Python: lets the main thread run
 * it, unless that runs a request, in which the interpreter does so itself. Leader. */
void pool_signalled(struct pool *pool);

/* Queues a whole request that the standby, as leader, has read and cannot run. */
void pool_queue_ready(struct pool *pool, struct conn *conn);
/* Answers the requests in `ready` with 503 when the watch has given up all threads: none of them
 * would run these. Leader. */
void pool_refuse_behind_stuck(struct pool *pool);
/* Before the process ends at once: conn_cut for the requests in `ready`, and the answers of threads
 * that are still to be sent become the loop's. Leader. */
void pool_cut_waiting(struct pool *pool, const char *why);
/* Answers the requests that have waited here for longer than queue-timeout, without waiting for a
 * thread. Leader, every tick. */
void pool_refuse_late(struct pool *pool);
/* How many requests wait in this worker for a thread. Leader. */
unsigned pool_count_waiting(struct pool *pool);
/* Whether more than `stuck` requests are running, requests wait for a thread, or connections were
 * returned and not taken. */
bool pool_is_busy(struct pool *pool, unsigned stuck);

#endif
