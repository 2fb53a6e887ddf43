/* pool.h: the threads of a worker, and who of them owns the loop.
 *
 * Leader and followers: one thread at a time leads, that is runs the loop, reads and parses; a
 * request is run by the thread that read it, so no hand-off is in the way of a request. While it
 * runs, the loop is nobody's, until another thread takes it over: at once where requests mostly
 * wait, after a patience where they compute. A standby thread without Python sees to that, and
 * leads itself when all threads are busy (timeouts, slow clients and stop signals go on being
 * served; nothing is dispatched). Free threads are used last-in first-out. */
#ifndef MYSERVER_POOL_H
#define MYSERVER_POOL_H

#include "base.h"
#include "conn.h"
#include "policy.h"
#include "python.h"
#include "watch.h"

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
    uint64_t started_ns;              /* that request */
    pthread_cond_t wake;
    bool called;    /* woken on purpose: there is work, or `appointed`, or the pool stops */
    bool appointed; /* leads already, by the waker's doing */
    struct policy_meter meter; /* this thread's */
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
    uint64_t looked_ns; /* leader: when the loop last ran */
    struct policy policy;
    pthread_t standby;
    int alarm_fd;                /* the standby sleeps until it rings */
    bool alarm_set;              /* since it rang last */
    struct conn_queue ready;     /* whole requests that wait for a thread */
    struct conn_queue returned;  /* connections that threads give back to the loop */
    struct pool_runners runners; /* latest first */
    unsigned running;            /* their number */
    struct _object **garbage;    /* references to drop at the next hold of the GIL */
    _Atomic size_t garbage_count;
    size_t garbage_room;

    /* Set by the worker between pool_init and pool_serve. */
    ev_async *bell; /* wakes the leader out of its sleep */
    /* Accepts the connection that set `newcomer`; NULL: it has gone, or may not come in. */
    struct conn *(*accept)(void *context);
    void *newcomer;    /* its context: who waits in the kernel; NULL: nobody. Leader. */
    bool newcomer_ran; /* and not one of those that are here: their turn. Leader. */
};

/* No thread is started yet. Borrows all; `slots` are the threads' on the board. */
void pool_init(struct pool *pool, struct conn_shared *shared, struct board_worker *board,
               struct board_thread *slots, unsigned threads);
/* Serves, on the calling thread (thread 0, the interpreter's main thread, GIL held) and on the
 * others it starts, until pool_stop; then those have ended and the caller holds the GIL again. */
void pool_serve(struct pool *pool);
/* Frees it, after pool_serve. GIL held. */
void pool_fini(struct pool *pool);
/* Lets pool_serve return when the running requests are done. From the leader only. */
void pool_stop(struct pool *pool);

/* A thread gives a connection back to the loop; wakes the leader if it sleeps. Any thread. */
void pool_return(struct pool *pool, struct conn *conn);
/* The calling thread, whose request ends, leads next, and resumes at once what it returns: nobody
 * leads, and no other request is running or waits. A thread that runs a request. */
bool pool_leads_next(struct pool *pool);
/* The leader takes what was returned; NULL when nothing was. */
struct conn *pool_take_returned(struct pool *pool);
/* A whole request that the leader cannot run itself. */
void pool_queue_ready(struct pool *pool, struct conn *conn);
/* When all threads have been given up, those are answered 503: nobody else will. Leader. */
void pool_refuse_behind_stuck(struct pool *pool);
/* Keeps a Python reference until some thread holds the GIL anyway. Takes `object`. */
void pool_discard(struct pool *pool, struct _object *object);
/* Drops what was discarded; GIL held. */
void pool_drop_garbage(struct pool *pool);
/* More than `stuck` requests are running, or some wait for a thread. */
bool pool_is_busy(struct pool *pool, unsigned stuck);

#endif
