/* pool.h: the threads of a worker, and which of them leads, that is owns the loop.
 *
 * Leader and followers: the leader runs the loop, reads and parses. It also runs the request that
 * it has read, so no request waits for a hand-off between threads. While it does, nobody leads,
 * until another thread takes over: at once where requests mostly wait, after a delay where they
 * compute. The standby, a thread without Python, makes that happen; when all threads are busy it
 * leads itself: bodies, timeouts, slow clients and stop signals go on, but no request is started.
 * Free threads are used last-in first-out. */
#ifndef MYSERVER_POOL_H
#define MYSERVER_POOL_H

#include "base/base.h"
#include "python/python.h"
#include "worker/conn.h"
#include "worker/policy.h"
#include "worker/watch.h"

#include <pthread.h>
#include <stdbool.h>

struct board_thread;
struct board_worker;

/* A thread that runs requests. */
struct pool_thread {
    struct pool *pool;
    unsigned number; /* 0: the process's main thread */
    pthread_t pthread;
    struct python_thread python;
    struct board_thread *slot;
    struct watch_turn turn;
    /* Under pool->lock. */
    struct pool_thread *next_idle;
    TAILQ_ENTRY(pool_thread) running; /* in pool->runners while it runs a request */
    uint64_t started_ns;              /* when that request started */
    pthread_cond_t wake;
    bool called;    /* woken on purpose: there is work, or `appointed`, or the pool stops */
    bool appointed; /* the waker has made this thread the leader already */
    struct policy_meter meter; /* this thread's own; not under the lock */
    uint64_t last_run_ns;      /* how long its last request ran */
};

TAILQ_HEAD(pool_runners, pool_thread);

struct pool {
    struct conn_shared *shared;
    struct board_worker *board;
    struct pool_thread *threads; /* [count]; owned */
    unsigned count;
    pthread_mutex_t lock;
    struct pool_thread *idle; /* parked threads, last-in first-out */
    unsigned idle_count;
    bool led, led_by_standby;
    _Atomic bool stopping; /* set under the lock */
    uint64_t unled_since_ns;
    uint64_t looked_ns; /* leader: when ev_run last returned */
    struct policy policy;
    pthread_t standby;
    int alarm_fd;                /* timerfd: the standby sleeps until it expires */
    bool alarm_set;              /* it will ring */
    struct conn_queue ready;     /* whole requests that wait for a thread */
    struct conn_queue returned;  /* connections that threads give back to the loop */
    struct pool_runners runners; /* threads that run a request; the one that began last is first */
    unsigned running;            /* number of `runners` */
    struct _object **garbage;    /* references to drop at the next hold of the GIL */
    _Atomic size_t garbage_count;
    size_t garbage_room;

    /* Set by the worker between pool_init and pool_serve. */
    ev_async *bell; /* wakes the leader out of its sleep */
    /* Accepts one connection from the listener that `newcomer` names; NULL: none is there any more,
     * or none may be accepted now. */
    struct conn *(*accept)(void *context);
    void *newcomer; /* argument for `accept`: a client waits in the kernel; NULL: none. Leader. */
    bool newcomer_ran; /* the last request was a new client's: now one from `readable`. Leader. */
};

/* Starts no thread yet. Borrows all arguments; `slots`: the threads' lines on the board. */
void pool_init(struct pool *pool, struct conn_shared *shared, struct board_worker *board,
               struct board_thread *slots, unsigned threads);
/* Serves until pool_stop, on the calling thread (thread 0, the interpreter's main thread, GIL held)
 * and on the threads it starts. They have ended when it returns, with the GIL held again. */
void pool_serve(struct pool *pool);
/* Frees what the pool owns, after pool_serve. GIL held. */
void pool_fini(struct pool *pool);
/* Lets pool_serve return when the running requests are done. Leader. */
void pool_stop(struct pool *pool);

/* A thread gives a connection back to the loop; wakes the leader if it sleeps. Any thread. */
void pool_return(struct pool *pool, struct conn *conn);
/* True when the calling thread, whose request ends, will be the next leader: nobody leads, and no
 * other request is running or waits. It then resumes at once what it has returned. */
bool pool_leads_next(struct pool *pool);
/* Takes the connection that was returned first; NULL when there is none. Leader. */
struct conn *pool_take_returned(struct pool *pool);
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
/* Keeps a Python reference until some thread holds the GIL anyway, and drops it then. Takes
 * `object`. Any thread, GIL not needed. */
void pool_discard(struct pool *pool, struct _object *object);
/* Drops what pool_discard keeps. GIL held. */
void pool_drop_garbage(struct pool *pool);
/* Whether more than `stuck` requests are running, requests wait for a thread, or connections were
 * returned and not taken. */
bool pool_is_busy(struct pool *pool, unsigned stuck);

#endif
