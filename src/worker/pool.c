/* pool.c: the threads of a worker, and which of them leads, that is owns the loop.
 *
 * Owns: the threads, the standby, the queues between them. All of it is under one lock, held for a
 * few instructions, or for 5 us where the kernel is asked what a thread does (policy_sees_waiting),
 * because that decides together with what the lock guards. Requests and the loop run without the
 * lock. A hand-off between threads costs 10-15 us, so no request waits for one: the thread that
 * reads a request runs it, and the next leader is chosen while the request runs. */
#include "worker/pool.h"
#include "base/log.h"
#include "config/settings.h"
#include "python/wsgi.h"
#include "shared/board.h"
#include "worker/answer.h"
#include "worker/balance.h"
#include "worker/client.h"
#include "worker/intake.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

/* So long after the leader has left the loop the standby looks, and again and again after the same
 * time while nobody leads. */
#define STANDBY_LOOK_NS (2 * NS_PER_MS)
/* A leader that finds the last ev_run older than this runs the loop before it takes a request:
 * requests that are here already, pipelined or parked, would else keep all others out, and new
 * clients longest. */
#define LOOK_EVERY_NS   (NS_PER_MS / 5)

/* --- who leads (under the lock) ------------------------------------------------------------- */

/* Publishes how many requests this worker could start right now; siblings that have too many give
 * it connections by that number. */
static void publish_free(struct pool *pool)
{
    bool leading = pool->led && !pool->led_by_standby;
    unsigned free = leading || policy_hands_on(&pool->policy) ? pool->idle_count + leading : 0;
    atomic_store(&pool->board->free_threads, free);
}

static struct pool_thread *pop_idle(struct pool *pool)
{
    struct pool_thread *thread = pool->idle;
    if (thread) {
        pool->idle = thread->next_idle;
        pool->idle_count--;
    }
    return thread;
}

static void call_thread(struct pool_thread *thread, bool appointed)
{
    thread->called = true;
    thread->appointed = appointed;
    pthread_cond_signal(&thread->wake);
}

/* Hands the loop to a parked thread; false when there is none. */
static bool appoint(struct pool *pool)
{
    struct pool_thread *thread = pop_idle(pool);
    if (!thread)
        return false;
    pool->led = true;
    pool->led_by_standby = false;
    call_thread(thread, true);
    return true;
}

static void set_alarm(struct pool *pool, uint64_t ns)
{
    struct itimerspec once = {.it_value = {.tv_nsec = (long)ns}};
    (void)timerfd_settime(pool->alarm_fd, 0, &once, NULL);
    pool->alarm_set = true;
}

/* After how many ns the standby shall look. */
static uint64_t look_after(const struct pool *pool)
{
    uint64_t overdue_ns = pool->idle ? STANDBY_LOOK_NS : policy_standby_ns(&pool->policy);
    return overdue_ns < STANDBY_LOOK_NS ? overdue_ns : STANDBY_LOOK_NS;
}

/* The leader leaves the loop to run a request. Whoever leads next does not stop the alarm: one
 * timerfd_settime and one needless wake of the standby in 2 ms cost less than a system call for
 * each request; where requests are rare, it is one wake for each. */
static void leave_loop(struct pool *pool)
{
    pool->led = false;
    pool->unled_since_ns = now_ns();
    if (!(policy_hands_on(&pool->policy) && appoint(pool)) && !pool->alarm_set)
        set_alarm(pool, look_after(pool));
    publish_free(pool);
}

static void wake_loop(struct pool *pool)
{
    ev_async_send(pool->shared->loop, pool->bell);
}

/* True when another thread runs a request that computes and has not done so for long: a second
 * request would only share the interpreter with it. The calling thread parks, and the thread that
 * runs the request leads next; if that takes long, the standby appoints another leader. */
static bool should_rest(const struct pool *pool)
{
    const struct pool_thread *latest = TAILQ_FIRST(&pool->runners);
    return latest && !policy_hands_on(&pool->policy) &&
           policy_is_young(&pool->policy, now_ns() - latest->started_ns) &&
           !policy_sees_waiting(atomic_load(&latest->slot->tid));
}

/* --- leading -------------------------------------------------------------------------------- */

static void resume_returned(struct pool *pool)
{
    struct conn *c;
    while ((c = pool_take_returned(pool)))
        conn_resume(c);
}

/* Runs the loop once. Before the loop may sleep, the number of free threads is published again:
 * siblings have reduced it for connections that then needed no thread. */
static void run_loop(struct pool *pool, int how)
{
    pthread_mutex_lock(&pool->lock);
    uint64_t service_ns = policy_service_ns(&pool->policy, pool->running);
    publish_free(pool);
    pthread_mutex_unlock(&pool->lock);
    balance_publish(pool->shared->balance);
    ev_run(pool->shared->loop, how);
    pool->looked_ns = now_ns();
    balance_level(pool->shared->balance, service_ns);
}

/* Only when no request runs: a running one may hold the GIL for long, and the leader must not wait
 * for that. The next request drops the garbage when it begins. */
static bool has_garbage_to_drop(struct pool *pool)
{
    if (atomic_load_explicit(&pool->garbage_count, memory_order_relaxed) == 0)
        return false;
    pthread_mutex_lock(&pool->lock);
    bool quiet = pool->running == 0;
    pthread_mutex_unlock(&pool->lock);
    return quiet;
}

/* Accepts one client that waits in the kernel and reads its request at once: a connection that is
 * accepted and not read would be lost if this worker died, and would wait here even if a sibling
 * were free. NULL: there is nothing to run yet. New clients and connections in `readable` take
 * turns (newcomer_ran). */
static struct conn *meet_newcomer(struct pool *pool)
{
    void *context = pool->newcomer;
    if (pool->newcomer_ran && !TAILQ_EMPTY(&pool->shared->readable))
        return NULL;
    pool->newcomer = NULL;
    struct conn *c = context ? pool->accept(context) : NULL;
    pool->newcomer_ran = c && intake_read(c) == CONN_RUNS;
    return pool->newcomer_ran ? c : NULL;
}

/* Reads from the connections in `readable` until one has a whole request, which is returned. */
static struct conn *read_next(struct pool *pool)
{
    struct conn *c;
    while ((c = TAILQ_FIRST(&pool->shared->readable)))
        if (intake_read(c) == CONN_RUNS) {
            pool->newcomer_ran = false;
            return c;
        }
    return NULL;
}

/* Runs the loop until there is a request for the calling thread (returned), or the pool stops
 * (NULL). Leader; lock not held. */
static struct conn *lead(struct pool *pool, struct pool_thread *thread)
{
    struct conn_shared *shared = pool->shared;
    struct conn *c;
    conn_unpark_all(shared);
    resume_returned(pool); /* before the loop runs, as pool_leads_next promises */
    if (now_ns() - pool->looked_ns > LOOK_EVERY_NS)
        run_loop(pool, EVRUN_NOWAIT);
    for (;;) {
        resume_returned(pool);
        if ((c = meet_newcomer(pool)) || (c = read_next(pool)))
            return c;
        if (has_garbage_to_drop(pool)) {
            python_acquire(&thread->python);
            pool_drop_garbage(pool);
            python_release(&thread->python);
        }
        if (pool->stopping)
            return NULL;
        run_loop(pool, EVRUN_ONCE);
    }
}

/* What the standby does as leader, until a thread is free or the pool stops: it accepts nothing and
 * begins to read no request; bodies, timeouts, slow readers and signals go on. */
static void lead_as_standby(struct pool *pool)
{
    struct conn_shared *shared = pool->shared;
    struct conn *c;
    for (;;) {
        resume_returned(pool);
        while ((c = TAILQ_FIRST(&shared->readable))) {
            if (c->state == CONN_IDLE)
                balance_overflow(shared->balance, c);
            else if (intake_read(c) == CONN_RUNS)
                pool_queue_ready(pool, c);
        }
        pthread_mutex_lock(&pool->lock);
        bool leave = pool->idle || pool->stopping;
        pthread_mutex_unlock(&pool->lock);
        if (leave)
            return;
        run_loop(pool, EVRUN_ONCE);
    }
}

/* --- threads -------------------------------------------------------------------------------- */

static void park(struct pool *pool, struct pool_thread *thread)
{
    thread->next_idle = pool->idle;
    pool->idle = thread;
    pool->idle_count++;
    thread->called = false;
    publish_free(pool);
    if (pool->led_by_standby)
        wake_loop(pool); /* lead_as_standby returns when a thread is free */
    while (!thread->called)
        pthread_cond_wait(&thread->wake, &pool->lock);
}

/* The next request for this thread; NULL when the pool stops. Holds the lock on entry and exit. */
static struct conn *next_request(struct pool *pool, struct pool_thread *thread)
{
    for (;;) {
        struct conn *c = TAILQ_FIRST(&pool->ready);
        bool mine = thread->appointed || (!pool->led && !should_rest(pool));
        if (c && !thread->appointed) {
            TAILQ_REMOVE(&pool->ready, c, link);
            return c;
        }
        if (pool->stopping && !thread->appointed)
            return NULL;
        if (!mine) {
            park(pool, thread);
            continue;
        }
        thread->appointed = false;
        pool->led = true;
        publish_free(pool);
        pthread_mutex_unlock(&pool->lock);
        c = lead(pool, thread);
        pthread_mutex_lock(&pool->lock);
        leave_loop(pool);
        if (c)
            return c;
    }
}

static void run_requests(struct pool_thread *thread)
{
    struct pool *pool = thread->pool;
    struct conn *c;
    atomic_store(&thread->slot->tid, (int32_t)syscall(SYS_gettid));
    policy_begin(&thread->meter);
    pthread_mutex_lock(&pool->lock);
    while ((c = next_request(pool, thread))) {
        thread->started_ns = now_ns();
        TAILQ_INSERT_HEAD(&pool->runners, thread, running);
        pool->running++;
        pthread_mutex_unlock(&pool->lock);
        answer_run(c, thread);
        struct policy_sample sample;
        bool measured = policy_measure(&thread->meter, thread->last_run_ns, &sample);
        pthread_mutex_lock(&pool->lock);
        TAILQ_REMOVE(&pool->runners, thread, running);
        pool->running--;
        if (measured)
            policy_learn(&pool->policy, &sample);
    }
    pthread_mutex_unlock(&pool->lock);
    atomic_store(&thread->slot->tid, 0);
}

static void *thread_main(void *arg)
{
    struct pool_thread *thread = arg;
    char name[32];
    snprintf(name, sizeof(name), "request-%u", thread->number + 1);
    pthread_setname_np(pthread_self(), name);
    python_thread_init(&thread->python, name);
    run_requests(thread);
    python_thread_fini(&thread->python);
    return NULL;
}

/* --- the standby ---------------------------------------------------------------------------- */

static void take_over(struct pool *pool)
{
    if (appoint(pool))
        return;
    pool->led = pool->led_by_standby = true;
    pthread_mutex_unlock(&pool->lock);
    lead_as_standby(pool);
    pthread_mutex_lock(&pool->lock);
    pool->led = pool->led_by_standby = false;
    pool->looked_ns = 0; /* the standby has accepted nobody: the next leader runs the loop first */
    pool->unled_since_ns = now_ns();
    (void)appoint(pool);
    publish_free(pool);
}

static void await_alarm(struct pool *pool)
{
    uint64_t rings;
    while (read(pool->alarm_fd, &rings, sizeof(rings)) < 0 && errno == EINTR)
        continue;
}

/* Before the policy has any sample, a request that is seen to wait at this moment is taken for one
 * that mostly waits. */
static bool is_overdue(struct pool *pool)
{
    const struct pool_thread *latest = TAILQ_FIRST(&pool->runners);
    if (pool->idle && latest && pool->policy.samples == 0 &&
        policy_sees_waiting(atomic_load(&latest->slot->tid)))
        return true;
    return policy_is_overdue(&pool->policy, now_ns(), pool->unled_since_ns, pool->running,
                             pool->idle != NULL);
}

static void *standby_main(void *arg)
{
    struct pool *pool = arg;
    pthread_setname_np(pthread_self(), "standby");
    while (!pool->stopping) {
        await_alarm(pool);
        pthread_mutex_lock(&pool->lock);
        pool->alarm_set = false;
        if (!pool->led && is_overdue(pool))
            take_over(pool);
        if (!pool->led && !pool->alarm_set)
            set_alarm(pool, look_after(pool));
        pthread_mutex_unlock(&pool->lock);
    }
    return NULL;
}

/* --- life ----------------------------------------------------------------------------------- */

static void init_conditions(struct pool *pool)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&pool->lock, NULL);
    for (unsigned i = 0; i < pool->count; i++)
        pthread_cond_init(&pool->threads[i].wake, &attributes);
    pthread_condattr_destroy(&attributes);
}

static void open_alarm(struct pool *pool)
{
    pool->alarm_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    if (pool->alarm_fd < 0) {
        log_critical("the alarm of the standby thread cannot be made: %s", strerror(errno));
        _exit(EXIT_CRASH);
    }
}

static void start_thread(pthread_t *thread, void *(*function)(void *), void *arg)
{
    int error = pthread_create(thread, NULL, function, arg);
    if (error) {
        log_critical("a thread cannot be started: %s", strerror(error));
        _exit(EXIT_CRASH);
    }
}

void pool_init(struct pool *pool, struct conn_shared *shared, struct board_worker *board,
               struct board_thread *slots, unsigned threads)
{
    pool->shared = shared;
    pool->board = board;
    pool->count = threads;
    pool->threads = xcalloc(threads, sizeof(*pool->threads));
    TAILQ_INIT(&pool->runners);
    TAILQ_INIT(&pool->ready);
    TAILQ_INIT(&pool->returned);
    init_conditions(pool);
    open_alarm(pool);
    for (unsigned i = 0; i < threads; i++) {
        pool->threads[i].pool = pool;
        pool->threads[i].number = i;
        pool->threads[i].slot = &slots[i];
    }
}

void pool_fini(struct pool *pool)
{
    pool_drop_garbage(pool);
    for (unsigned i = 0; i < pool->count; i++)
        pthread_cond_destroy(&pool->threads[i].wake);
    close(pool->alarm_fd);
    pthread_mutex_destroy(&pool->lock);
    free(pool->garbage);
    free(pool->threads);
}

void pool_serve(struct pool *pool)
{
    pool->threads[0].pthread = pthread_self();
    python_thread_adopt(&pool->threads[0].python);
    for (unsigned i = 1; i < pool->count; i++)
        start_thread(&pool->threads[i].pthread, thread_main, &pool->threads[i]);
    start_thread(&pool->standby, standby_main, pool);
    run_requests(&pool->threads[0]);
    for (unsigned i = 1; i < pool->count; i++)
        pthread_join(pool->threads[i].pthread, NULL);
    pthread_join(pool->standby, NULL);
    python_acquire(&pool->threads[0].python);
}

void pool_stop(struct pool *pool)
{
    struct pool_thread *thread;
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    while ((thread = pop_idle(pool)))
        call_thread(thread, false);
    set_alarm(pool, 1);
    pthread_mutex_unlock(&pool->lock);
}

void pool_return(struct pool *pool, struct conn *conn)
{
    pthread_mutex_lock(&pool->lock);
    TAILQ_INSERT_TAIL(&pool->returned, conn, link);
    if (pool->led)
        wake_loop(pool);
    pthread_mutex_unlock(&pool->lock);
}

bool pool_leads_next(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    bool next = !pool->led && pool->running == 1 && TAILQ_EMPTY(&pool->ready);
    pthread_mutex_unlock(&pool->lock);
    return next;
}

static struct conn *take_first(struct pool *pool, struct conn_queue *queue)
{
    pthread_mutex_lock(&pool->lock);
    struct conn *c = TAILQ_FIRST(queue);
    if (c)
        TAILQ_REMOVE(queue, c, link);
    pthread_mutex_unlock(&pool->lock);
    return c;
}

struct conn *pool_take_returned(struct pool *pool)
{
    return take_first(pool, &pool->returned);
}

/* Without this they would wait until the master kills the draining worker. */
void pool_refuse_behind_stuck(struct pool *pool)
{
    struct conn *c;
    if (watch_given_up() < pool->count)
        return;
    while ((c = take_first(pool, &pool->ready))) {
        conn_answer_for(c, 503, "all threads are stuck");
        c->next = conn_end_request(c);
        conn_resume(c);
    }
}

void pool_cut_waiting(struct pool *pool, const char *why)
{
    struct conn *c;
    resume_returned(pool);
    while ((c = take_first(pool, &pool->ready)))
        conn_cut(c, why);
}

static bool is_late(const struct pool *pool, uint64_t since_ns)
{
    return now_ns() >= since_ns + pool->shared->config->queue_timeout_ms * NS_PER_MS;
}

/* The whole request that has waited longest, if that is too long. */
static struct conn *take_late(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    struct conn *c = TAILQ_FIRST(&pool->ready);
    if (c && is_late(pool, c->exchange->parsed_ns))
        TAILQ_REMOVE(&pool->ready, c, link);
    else
        c = NULL;
    pthread_mutex_unlock(&pool->lock);
    return c;
}

static void turn_away(struct conn *c)
{
    c->next = answer_turn_away(c, client_judge(c));
    conn_resume(c);
}

void pool_refuse_late(struct pool *pool)
{
    struct conn *c;
    if (pool->shared->config->queue_timeout_ms == 0)
        return;
    while ((c = TAILQ_FIRST(&pool->shared->parked)) && is_late(pool, c->parked_ns))
        if (intake_read(c) == CONN_RUNS)
            turn_away(c);
    while ((c = take_late(pool)))
        turn_away(c);
}

void pool_queue_ready(struct pool *pool, struct conn *conn)
{
    pthread_mutex_lock(&pool->lock);
    TAILQ_INSERT_TAIL(&pool->ready, conn, link);
    /* A thread that has parked meanwhile is called now: take_over would appoint it, and a leader
     * does not look into `ready`. */
    struct pool_thread *thread = pop_idle(pool);
    if (thread)
        call_thread(thread, false);
    publish_free(pool);
    pthread_mutex_unlock(&pool->lock);
}

bool pool_is_busy(struct pool *pool, unsigned stuck)
{
    pthread_mutex_lock(&pool->lock);
    bool busy =
        pool->running > stuck || !TAILQ_EMPTY(&pool->ready) || !TAILQ_EMPTY(&pool->returned);
    pthread_mutex_unlock(&pool->lock);
    return busy;
}

/* --- garbage -------------------------------------------------------------------------------- */

void pool_discard(struct pool *pool, struct _object *object)
{
    pthread_mutex_lock(&pool->lock);
    if (pool->garbage_count == pool->garbage_room) {
        pool->garbage_room = pool->garbage_room ? pool->garbage_room * 2 : 16;
        pool->garbage = xrealloc(pool->garbage, pool->garbage_room * sizeof(*pool->garbage));
    }
    pool->garbage[pool->garbage_count++] = object;
    pthread_mutex_unlock(&pool->lock);
}

/* One at a time and without the lock: dropping a reference may run Python code, and give the GIL to
 * a thread that wants the lock. */
void pool_drop_garbage(struct pool *pool)
{
    while (atomic_load_explicit(&pool->garbage_count, memory_order_relaxed) > 0) {
        struct _object *object = NULL;
        pthread_mutex_lock(&pool->lock);
        if (pool->garbage_count > 0)
            object = pool->garbage[--pool->garbage_count];
        pthread_mutex_unlock(&pool->lock);
        if (object)
            wsgi_drop(&object);
    }
}
