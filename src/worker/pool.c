/* pool.c: the threads of a worker, and which of them leads, that is owns the loop.
 *
 * Owns: the threads, the standby, the queues between them. All of it is under one lock, held for a
 * few instructions, or for 5 us where the kernel is asked what a thread does (policy_sees_waiting),
 * because that decides together with what the lock guards. Requests and the loop run without the
 * lock. A hand-off between threads costs 10-15 us, so no request waits for one: the thread that
 * reads a request runs it, and the next leader is chosen while the request runs. */
#include "pool.h"
#include "answer.h"
#include "balance.h"
#include "base/log.h"
#include "client.h"
#include "config/settings.h"
#include "intake.h"
#include "leads.h"
#include "python/gil.h"
#include "python/wsgi.h"
#include "reply.h"
#include "roots.h"
#include "shared/board.h"
#include "sweep.h"
#include "system/forks.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
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
/* A look costs more the more connections have something to read, as it sees all of them again: at
 * most every fourth part of the time goes into looks, unless one took so long that others came in
 * between. */
#define LOOK_SHARE      3
#define LOOK_MOST_NS    (5 * NS_PER_MS)
/* The kernel is asked so often at most how many clients wait: that may take 6 us. */
#define COUNT_EVERY_NS  NS_PER_MS

/* ---- who leads (under the lock) ---- */

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
    ev_async_send(pool->table->loop, pool->bell);
}

/* True when another thread runs a request that computes and has not done so for long: a second
 * request would only share the interpreter with it. The calling thread parks, and the thread that
 * runs the request leads next; if that takes long, the standby appoints another leader. */
static bool should_rest(const struct pool *pool)
{
    const struct pool_thread *latest = TAILQ_FIRST(&pool->runners);
    return latest && !policy_hands_on(&pool->policy) &&
           policy_is_young(&pool->policy, now_ns() - latest->started_ns) &&
           !policy_sees_waiting(atomic_load(&latest->turn.seat->tid));
}

/* ---- leading ---- */

/* A thread gives a connection back to the loop; wakes the leader if it sleeps. */
static void return_conn(struct pool *pool, struct conn *c)
{
    pthread_mutex_lock(&pool->lock);
    TAILQ_INSERT_TAIL(&pool->returned, c, link);
    atomic_store_explicit(&pool->any_returned, true, memory_order_relaxed);
    if (pool->led)
        wake_loop(pool);
    pthread_mutex_unlock(&pool->lock);
}

/* True when the calling thread, whose request ends, will be the next leader: nobody leads, and no
 * other request is running or waits. It then resumes at once what it has returned. */
static bool leads_next(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    bool next = !pool->led && pool->running == 1 && TAILQ_EMPTY(&pool->ready);
    pthread_mutex_unlock(&pool->lock);
    return next;
}

/* A thread has run the request of `c`, and the loop must do `next`. */
static void hand_back(struct pool *pool, struct conn *c, enum conn_next next)
{
    if (conn_give_back(c, next))
        return;
    /* Shut now, so that the client need not wait for the leader to close; but not when this thread
     * is about to lead and close itself: close alone is a twelfth less work than shutdown and
     * close. */
    if (next == CONN_NEXT_CLOSE && !leads_next(pool))
        (void)shutdown(c->fd, SHUT_WR);
    return_conn(pool, c);
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

static void resume_returned(struct pool *pool)
{
    struct conn *c;
    if (!atomic_load_explicit(&pool->any_returned, memory_order_relaxed))
        return;
    atomic_store_explicit(&pool->any_returned, false, memory_order_relaxed);
    while ((c = take_first(pool, &pool->returned))) {
        conn_resume(c);
        sweep_held(pool->table);
    }
}

/* How long the next look may wait after one that took `look_ns`. */
static uint64_t pause_after(uint64_t look_ns)
{
    uint64_t pause_ns = LOOK_SHARE * look_ns;
    if (pause_ns < LOOK_EVERY_NS)
        return LOOK_EVERY_NS;
    return pause_ns < LOOK_MOST_NS ? pause_ns : LOOK_MOST_NS;
}

/* Notes how many clients have come so far, after a look of the loop. */
static void count_newcomers(struct pool *pool, uint64_t now)
{
    uint64_t *newcomers = &pool->table->newcomers;
    uint64_t come = balance_accepted(pool->balance);
    bool some_wait = pool->newcomer || pool->led_by_standby;
    if (pool->led_by_standby || (some_wait && now - pool->counted_ns >= COUNT_EVERY_NS)) {
        pool->counted_ns = now;
        come += pool->count_waiting();
    }
    if (!some_wait || *newcomers < come)
        *newcomers = come;
}

/* Runs the loop once. Before the loop may sleep, the number of free threads is published again:
 * siblings have reduced it for connections that then needed no thread. */
static void run_loop(struct pool *pool, int how)
{
    struct conn_table *table = pool->table;
    pthread_mutex_lock(&pool->lock);
    uint64_t service_ns = policy_service_ns(&pool->policy, pool->running);
    publish_free(pool);
    pthread_mutex_unlock(&pool->lock);
    balance_publish(pool->balance);
    bool sleeps = how != EVRUN_NOWAIT;
    uint64_t begun_ns = sleeps ? 0 : now_ns();
    table->seen_ns = 0;
    pool->newcomer_met = false;
    ev_run(table->loop, how);
    uint64_t now = sleeps && table->seen_ns ? table->seen_ns : now_ns();
    pool->looked_ns = table->seen_ns ? table->seen_ns : now;
    pool->look_every_ns = sleeps ? LOOK_EVERY_NS : pause_after(now - begun_ns);
    count_newcomers(pool, now);
    balance_level(pool->balance, service_ns);
}

/* Only when no request runs: a running one may hold the GIL for long, and the leader must not wait
 * for that. The next request drops the garbage when it begins. */
static bool has_garbage_to_drop(struct pool *pool)
{
    if (trash_is_empty(&pool->trash))
        return false;
    pthread_mutex_lock(&pool->lock);
    bool quiet = pool->running == 0;
    pthread_mutex_unlock(&pool->lock);
    return quiet;
}

static enum conn_step read_conn(struct pool *pool, struct conn *c)
{
    enum conn_step step = intake_read(c);
    if (step == CONN_ANSWERED) /* and the loop may be sending it */
        sweep_held(pool->table);
    return step;
}

/* Whether the next request of a kept connection has come before the next newcomer. */
static bool is_kept_older(const struct pool *pool)
{
    const struct conn *kept = TAILQ_FIRST(&pool->table->readable);
    return kept && balance_accepted(pool->balance) >= kept->after_newcomers;
}

/* Accepts one client that waits in the kernel and reads its request at once: a connection that is
 * accepted and not read would be lost if this worker died, and would wait here even if a sibling
 * were free. NULL: there is nothing to run yet. */
static struct conn *meet_newcomer(struct pool *pool)
{
    void *context = pool->newcomer;
    if (!context || is_kept_older(pool))
        return NULL;
    pool->newcomer = NULL;
    struct conn *c = pool->accept(context);
    if (!c)
        return NULL;
    pool->newcomer_met = true;
    return read_conn(pool, c) == CONN_RUNS ? c : NULL;
}

/* The loop must run: others wait for it, while requests are answered here that need no thread; or
 * the next newcomer may be older than the kept connection that would have its turn. */
static bool is_loop_due(const struct pool *pool)
{
    return (pool->newcomer_met && !TAILQ_EMPTY(&pool->table->readable)) ||
           now_ns() - pool->looked_ns > pool->look_every_ns;
}

/* Reads from the connections in `readable` until one has a whole request, which is returned, or the
 * loop is due. */
static struct conn *read_next(struct pool *pool)
{
    struct conn *c;
    while ((c = TAILQ_FIRST(&pool->table->readable))) {
        enum conn_step step = read_conn(pool, c);
        if (step == CONN_RUNS)
            return c;
        if (step == CONN_ANSWERED && is_loop_due(pool))
            return NULL;
    }
    return NULL;
}

static bool has_handlers_to_run(const struct pool_thread *thread)
{
    return thread->turn.number == 0 &&
           atomic_load_explicit(&thread->pool->signalled, memory_order_relaxed);
}

/* Runs the loop until there is a request for the calling thread (returned), or the pool stops, or
 * signal handlers are to run (NULL). Leader; lock not held. */
static struct conn *lead(struct pool *pool, struct pool_thread *thread)
{
    struct conn_table *table = pool->table;
    struct conn *c;
    conn_unpark_all(table);
    resume_returned(pool); /* before the loop runs, as leads_next promises */
    if (is_loop_due(pool))
        run_loop(pool, EVRUN_NOWAIT);
    for (;;) {
        resume_returned(pool);
        if (trash_has_unclosed(&pool->trash))
            return NULL; /* no other thread was free for it */
        if ((c = meet_newcomer(pool)) || (c = read_next(pool)))
            return c;
        if (has_garbage_to_drop(pool)) {
            python_acquire(&thread->turn.python);
            trash_drop(&pool->trash);
            if (forks_is_copy()) {
                log_error("a process that the application forked came back from the end of an "
                          "object and is ended");
                _exit(EXIT_CRASH);
            }
            python_release(&thread->turn.python);
        }
        if (pool->stopping || has_handlers_to_run(thread))
            return NULL;
        run_loop(pool, TAILQ_EMPTY(&table->readable) ? EVRUN_ONCE : EVRUN_NOWAIT);
    }
}

/* What the standby does as leader, until a thread is free or the pool stops: it begins to read no
 * request but those that need no thread, and accepts only where there are such; bodies, timeouts,
 * slow readers and signals go on. */
static void lead_as_standby(struct pool *pool)
{
    struct conn_table *table = pool->table;
    struct conn *c;
    for (;;) {
        resume_returned(pool);
        void *newcomer = pool->newcomer;
        pool->newcomer = NULL;
        if (newcomer && roots_any())
            (void)pool->accept(newcomer);
        while ((c = TAILQ_FIRST(&table->readable))) {
            if (c->state == CONN_IDLE && intake_needs_thread(c)) {
                if (c->waits_since_ns == table->seen_ns) /* the loop slept, and it came just now */
                    c->after_newcomers = table->newcomers;
                balance_overflow(pool->balance, c);
                continue;
            }
            enum conn_step step = read_conn(pool, c);
            if (step == CONN_RUNS)
                pool_queue_ready(pool, c);
            else if (step == CONN_ANSWERED && is_loop_due(pool))
                break;
        }
        pthread_mutex_lock(&pool->lock);
        bool leave = pool->idle || pool->stopping;
        pthread_mutex_unlock(&pool->lock);
        if (leave)
            return;
        run_loop(pool, TAILQ_EMPTY(&table->readable) ? EVRUN_ONCE : EVRUN_NOWAIT);
    }
}

/* ---- threads ---- */

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

/* Like a request, so that another thread leads if it takes long. Holds the lock on entry and exit.
 */
static void run_handlers(struct pool *pool, struct pool_thread *thread)
{
    pool->signalled = false;
    pthread_mutex_unlock(&pool->lock);
    python_acquire(&thread->turn.python);
    python_run_handlers();
    python_release(&thread->turn.python);
    pthread_mutex_lock(&pool->lock);
}

/* What a thread does next: a request, or the close() of an answer that its client has got. */
struct work {
    struct conn *request;
    struct wsgi_unclosed *unclosed;
};

/* The next work for this thread; false when the pool stops. Holds the lock on entry and exit. */
static bool next_work(struct pool *pool, struct pool_thread *thread, struct work *work)
{
    *work = (struct work){0};
    for (;;) {
        if (has_handlers_to_run(thread) && !thread->appointed)
            run_handlers(pool, thread);
        struct conn *c = TAILQ_FIRST(&pool->ready);
        bool mine = thread->appointed || (!pool->led && !should_rest(pool));
        if (!thread->appointed && (work->unclosed = trash_take_unclosed(&pool->trash)))
            return true;
        if (c && !thread->appointed) {
            TAILQ_REMOVE(&pool->ready, c, link);
            work->request = c;
            return true;
        }
        if (pool->stopping && !thread->appointed)
            return false;
        if (!mine) {
            park(pool, thread);
            continue;
        }
        thread->appointed = false;
        pool->led = true;
        publish_free(pool);
        pthread_mutex_unlock(&pool->lock);
        leads_set(true);
        work->request = lead(pool, thread);
        leads_set(false);
        pthread_mutex_lock(&pool->lock);
        leave_loop(pool);
        if (work->request)
            return true;
    }
}

static void run_requests(struct pool_thread *thread)
{
    struct pool *pool = thread->pool;
    struct work work;
    atomic_store(&thread->turn.seat->tid, (int32_t)syscall(SYS_gettid));
    gil_show_wait(&thread->turn.seat->wants_gil);
    policy_begin(&thread->meter);
    pthread_mutex_lock(&pool->lock);
    while (next_work(pool, thread, &work)) {
        thread->started_ns = now_ns();
        TAILQ_INSERT_HEAD(&pool->runners, thread, running);
        pool->running++;
        pthread_mutex_unlock(&pool->lock);
        if (work.request)
            hand_back(pool, work.request, answer_run(work.request, &thread->turn, &pool->trash));
        else
            answer_close(work.unclosed, &thread->turn, pool->table->serving, &pool->trash);
        struct policy_sample sample;
        bool measured = policy_measure(&thread->meter, thread->turn.ran_ns, &sample);
        pthread_mutex_lock(&pool->lock);
        TAILQ_REMOVE(&pool->runners, thread, running);
        pool->running--;
        if (measured)
            policy_learn(&pool->policy, &sample);
    }
    pthread_mutex_unlock(&pool->lock);
    atomic_store(&thread->turn.seat->tid, 0);
}

static void *thread_main(void *arg)
{
    struct pool_thread *thread = arg;
    char name[32];
    snprintf(name, sizeof(name), "request-%u", thread->turn.number + 1);
    pthread_setname_np(pthread_self(), name);
    python_thread_init(&thread->turn.python, name);
    run_requests(thread);
    python_thread_fini(&thread->turn.python);
    return NULL;
}

/* ---- the standby ---- */

static void take_over(struct pool *pool)
{
    if (appoint(pool))
        return;
    pool->led = pool->led_by_standby = true;
    pthread_mutex_unlock(&pool->lock);
    leads_set(true);
    lead_as_standby(pool);
    leads_set(false);
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

/* Whether no running request computes, or could if its thread had a CPU. */
static bool all_wait(const struct pool *pool)
{
    const struct pool_thread *thread;
    TAILQ_FOREACH(thread, &pool->runners, running)
    if (!policy_sees_waiting(atomic_load(&thread->turn.seat->tid)))
        return false;
    return true;
}

/* Before the policy has any sample, a request that is seen to wait at this moment is taken for one
 * that mostly waits. */
static bool is_overdue(struct pool *pool)
{
    const struct pool_thread *latest = TAILQ_FIRST(&pool->runners);
    if (pool->idle && latest && pool->policy.samples == 0 &&
        policy_sees_waiting(atomic_load(&latest->turn.seat->tid)))
        return true;
    enum policy_due due =
        policy_judge(&pool->policy, now_ns(), pool->unled_since_ns, pool->running, pool->idle);
    return due == POLICY_DUE || (due == POLICY_DUE_IF_WAITING && all_wait(pool));
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

/* ---- life ---- */

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

static void on_unclosed(void *context, unsigned seat);

void pool_init(struct pool *pool, struct conn_table *table, struct balance *balance,
               struct board_worker *board, struct board_seat *seats, unsigned threads)
{
    pool->table = table;
    pool->balance = balance;
    pool->board = board;
    pool->count = threads;
    pool->threads = xcalloc(threads, sizeof(*pool->threads));
    pool->lags = (struct lags){xcalloc(threads, sizeof(*pool->lags.items)), threads};
    turns_init(&pool->turns, xcalloc(threads, sizeof(*pool->turns.items)), threads);
    TAILQ_INIT(&pool->runners);
    TAILQ_INIT(&pool->ready);
    TAILQ_INIT(&pool->returned);
    trash_init(&pool->trash);
    pool->trash.on_unclosed = on_unclosed;
    pool->trash.context = pool;
    init_conditions(pool);
    open_alarm(pool);
    for (unsigned i = 0; i < threads; i++) {
        struct turn *turn = &pool->threads[i].turn;
        pool->threads[i].pool = pool;
        turn->all = &pool->turns;
        turn->number = i;
        turn->seat = &seats[i];
        lag_init(&turn->lag, turn->seat);
        pool->turns.items[i] = turn;
        pool->lags.items[i] = &turn->lag;
    }
}

void pool_fini(struct pool *pool)
{
    trash_drop(&pool->trash);
    for (unsigned i = 0; i < pool->count; i++) {
        pthread_cond_destroy(&pool->threads[i].wake);
        lag_fini(&pool->threads[i].turn.lag);
    }
    close(pool->alarm_fd);
    pthread_mutex_destroy(&pool->lock);
    trash_fini(&pool->trash);
    turns_fini(&pool->turns);
    free(pool->turns.items);
    free(pool->lags.items);
    free(pool->threads);
}

void pool_serve(struct pool *pool)
{
    struct turn *main_turn = &pool->threads[0].turn;
    main_turn->thread = pthread_self();
    python_thread_adopt(&main_turn->python);
    leads_set(false);
    for (unsigned i = 1; i < pool->count; i++)
        start_thread(&pool->threads[i].turn.thread, thread_main, &pool->threads[i]);
    start_thread(&pool->standby, standby_main, pool);
    run_requests(&pool->threads[0]);
    for (unsigned i = 1; i < pool->count; i++)
        pthread_join(pool->threads[i].turn.thread, NULL);
    pthread_join(pool->standby, NULL);
    leads_set(true);
    python_acquire(&main_turn->python);
}

void pool_stop(struct pool *pool)
{
    struct pool_thread *thread;
    assert_leads();
    pthread_mutex_lock(&pool->lock);
    pool->stopping = true;
    while ((thread = pop_idle(pool)))
        call_thread(thread, false);
    set_alarm(pool, 1);
    pthread_mutex_unlock(&pool->lock);
}

void pool_signalled(struct pool *pool)
{
    struct pool_thread **link = &pool->idle;
    assert_leads();
    pthread_mutex_lock(&pool->lock);
    pool->signalled = true;
    while (*link && (*link)->turn.number != 0)
        link = &(*link)->next_idle;
    if (*link) {
        struct pool_thread *main = *link;
        *link = main->next_idle;
        pool->idle_count--;
        call_thread(main, false);
        publish_free(pool);
    }
    pthread_mutex_unlock(&pool->lock);
}

/* Without this they would wait until the master kills the draining worker. */
void pool_refuse_behind_stuck(struct pool *pool)
{
    struct conn *c;
    assert_leads();
    if (turns_given_up(&pool->turns, false) < pool->count)
        return;
    while ((c = take_first(pool, &pool->ready))) {
        reply_instead(c, 503, "all threads are stuck");
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
    return now_ns() >= since_ns + pool->table->serving->config->queue_timeout_ms * NS_PER_MS;
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
    assert_leads();
    if (pool->table->serving->config->queue_timeout_ms == 0)
        return;
    while ((c = TAILQ_FIRST(&pool->table->parked)) && is_late(pool, c->waits_since_ns))
        if (intake_read(c) == CONN_RUNS)
            turn_away(c);
    while ((c = take_late(pool)))
        turn_away(c);
}

/* Calls a free thread, to do what is queued and not to lead; false: none is free. */
static bool call_free(struct pool *pool)
{
    struct pool_thread *thread = pop_idle(pool);
    if (thread)
        call_thread(thread, false);
    publish_free(pool);
    return thread != NULL;
}

/* Puts the thread with this number in front of the free ones, if it is free. */
static void prefer(struct pool *pool, unsigned number)
{
    for (struct pool_thread **link = &pool->idle; *link; link = &(*link)->next_idle)
        if ((*link)->turn.number == number) {
            struct pool_thread *thread = *link;
            *link = thread->next_idle;
            thread->next_idle = pool->idle;
            pool->idle = thread;
            return;
        }
}

/* The client has got an answer, or will get no more, whose close() is to be called: by a free
 * thread, that of the request if it is free. Any thread, GIL not needed. */
static void on_unclosed(void *context, unsigned seat)
{
    struct pool *pool = context;
    pthread_mutex_lock(&pool->lock);
    prefer(pool, seat);
    if (!call_free(pool) && pool->led)
        wake_loop(pool); /* the leader does it, if it has Python */
    pthread_mutex_unlock(&pool->lock);
}

unsigned pool_count_waiting(struct pool *pool)
{
    const struct conn *c;
    unsigned count = pool->table->waiting;
    assert_leads();
    pthread_mutex_lock(&pool->lock);
    TAILQ_FOREACH(c, &pool->ready, link)
    count++;
    pthread_mutex_unlock(&pool->lock);
    return count;
}

void pool_queue_ready(struct pool *pool, struct conn *conn)
{
    assert_leads();
    pthread_mutex_lock(&pool->lock);
    TAILQ_INSERT_TAIL(&pool->ready, conn, link);
    /* A thread that has parked meanwhile is called now: take_over would appoint it, and a leader
     * does not look into `ready`. */
    (void)call_free(pool);
    pthread_mutex_unlock(&pool->lock);
}

bool pool_is_busy(struct pool *pool, unsigned stuck)
{
    pthread_mutex_lock(&pool->lock);
    bool busy = pool->running > stuck || !TAILQ_EMPTY(&pool->ready) ||
                !TAILQ_EMPTY(&pool->returned) ||
                (trash_has_unclosed(&pool->trash) && stuck < pool->count);
    pthread_mutex_unlock(&pool->lock);
    return busy;
}
