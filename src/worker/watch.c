/* watch.c: the watch, a thread of each worker that acts on requests which take too long.
 *
 * Owns: what follows from a missed deadline: report, 504, interruption, giving up. Reads the board
 * and /proc. Never waits for the GIL itself: an errand, a thread started for it, does. Touches a
 * connection only to answer on it, and holds turns.answering meanwhile, for which
 * turn_end waits. Never runs a request, never ends one. */
#include "watch.h"
#include "awaited.h"

#include "base/log.h"
#include "config/settings.h"
#include "python/errand.h"
#include "python/python.h"
#include "reply.h"
#include "shared/board.h"
#include "shared/report.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LOOK_NS NS_PER_S /* between two looks, if no deadline is earlier */
#define LATE_NS NS_PER_S /* no load delays a look so long: it was stopped */
#define BACK_NS NS_PER_S /* for an interrupted request to come back */

static struct {
    struct turns *turns;
    const struct config *config;
    struct board *board;
    unsigned slot;
    pthread_t thread;
    _Atomic bool dump_wanted, stopping;
    _Atomic uint64_t loop_seen_ns, leave_by_ns;
    struct sigaction before; /* of SIGUSR2, before watch_start */
} watch;

/* ---- reports ---- */

static void append_thread_name(struct buf *out, unsigned long ident)
{
    for (unsigned i = 0; i < watch.turns->count; i++)
        if ((unsigned long)watch.turns->items[i]->thread == ident) {
            buf_printf(out, "thread %u", i + 1);
            return;
        }
    buf_printf(out, "thread 0x%lx of the application", ident);
}

/* At SIGUSR2: logs the running requests and all stacks. */
static void report_all(void)
{
    struct buf text = {0};
    struct errand *e = errand_new(0);
    report_running(&text, watch.board, watch.slot, REPORT_ALL, getpid());
    errand_send(e);
    errand_append_stacks(&text, &e->stacks, append_thread_name);
    errand_leave(e);
    log_block(LOG_WARNING, text.data, text.len, "running requests and all stacks, by SIGUSR2:");
    buf_fini(&text);
}

/* A request that has just passed its deadline. */
struct expiry {
    struct turn *turn;
    uint64_t number;
    bool answered;
    bool is_shared;          /* others wait for what its thread has */
    int awaited_fd;          /* what its thread waits for; -1: not known */
    struct buf what, kernel; /* text: the request; what the kernel says of its thread */
};

static void report(struct expiry *x, struct buf *stacks)
{
    struct buf text = {0};
    buf_append(&x->what, "", 1);
    buf_append(&text, x->kernel.data, x->kernel.len);
    buf_append_str(&text, "\n");
    report_running(&text, watch.board, watch.slot, x->turn->number, getpid());
    if (stacks)
        errand_append_stacks(&text, stacks, append_thread_name);
    log_block(LOG_CRITICAL, text.data, text.len, "request timeout: thread %u: %s: %s",
              x->turn->number + 1, x->what.data,
              x->answered ? "answered 504" : "its answer had begun");
    buf_fini(&text);
}

/* ---- interruption ---- */

/* True for a connection that only this request uses: no file, not the client's socket, no
 * listener. */
static bool may_shut(const struct expiry *x, int fd)
{
    int listens = 1;
    socklen_t len = sizeof(listens);
    return fd != atomic_load(&x->turn->fd) &&
           getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 && !listens &&
           awaited_only_by(atomic_load(&x->turn->seat->tid), fd);
}

/* Whether another request may use the same connection next. */
static bool others_queue(const struct expiry *x, const char *stacks)
{
    for (unsigned i = 0; i < watch.turns->count; i++) {
        const struct turn *other = watch.turns->items[i];
        if (other != x->turn && TURN_STATE(atomic_load(&other->word)) != TURN_NONE &&
            awaited_by_lock(stacks, x->turn->thread, other->thread, atomic_load(&other->seat->tid)))
            return true;
    }
    return false;
}

/* A thread that waits for a socket does not see the exception, so the socket is shut down to end
 * the wait, if nobody else can use it. Right before, it is checked again that the thread runs the
 * same request and waits for the same descriptor: the next request may use the same socket. */
static void shut_awaited(const struct expiry *x)
{
    pid_t tid = atomic_load(&x->turn->seat->tid);
    uint64_t word = atomic_load(&x->turn->word);
    bool is_same = TURN_NUMBER(word) == x->number && TURN_STATE(word) != TURN_NONE;
    if (is_same && x->awaited_fd >= 0 && awaited_fd(tid) == x->awaited_fd &&
        may_shut(x, x->awaited_fd))
        (void)shutdown(x->awaited_fd, SHUT_RDWR);
}

/* ---- deadlines ---- */

/* Answers 504, if nothing was answered yet. False: the request has ended meanwhile. */
static bool answer(struct expiry *x)
{
    bool is_running;
    x->answered = turn_lock_to_answer(x->turn, x->number, &is_running);
    if (x->answered) {
        atomic_store(&x->turn->seat->recorded, true);
        reply_instead(x->turn->conn, 504, "timeout");
        turn_unlock(x->turn);
    }
    return is_running;
}

static bool expire(struct expiry *x, uint64_t deadline_ns)
{
    struct board_seat *slot = x->turn->seat;
    pid_t tid = atomic_load(&slot->tid);
    x->awaited_fd = awaited_fd(tid);
    report_request(&x->what, slot);
    report_kernel(&x->kernel, getpid(), tid);
    if (!answer(x))
        return false;
    uint64_t back_ns = watch.config->timeout_interrupt ? BACK_NS : 1;
    atomic_compare_exchange_strong(&slot->deadline_ns, &deadline_ns, now_ns() + back_ns);
    x->turn->expired = x->number;
    atomic_fetch_add(&watch.board->worker[watch.slot].timeouts, 1);
    return true;
}

static void give_up(struct turn *turn, uint64_t number, uint64_t deadline_ns)
{
    if (!atomic_compare_exchange_strong(&turn->seat->deadline_ns, &deadline_ns, 0))
        return;
    atomic_store(&turn->given_up, number);
    struct board_worker *worker = &watch.board->worker[watch.slot];
    bool leaves = atomic_load(&worker->state) == BOARD_WORKER_DRAINING;
    log_error("thread %u does not come back from its request: this worker %s", turn->number + 1,
              leaves ? "leaves without it" : "is to be replaced");
    atomic_store(&worker->retire, BOARD_RETIRE_STUCK);
    board_ring(watch.board);
}

/* Looks at one thread; true when its request has passed the deadline just now. */
static bool look_at(struct turn *turn, uint64_t now, struct expiry *x)
{
    uint64_t word = atomic_load(&turn->word), number = TURN_NUMBER(word);
    uint64_t deadline_ns = atomic_load(&turn->seat->deadline_ns);
    if (turn->expired && (number != turn->expired || TURN_STATE(word) == TURN_NONE)) {
        log_info("thread %u came back from the request that had timed out", turn->number + 1);
        turn->expired = 0;
    }
    if (TURN_STATE(word) == TURN_NONE || deadline_ns == 0 || deadline_ns > now)
        return false;
    if (turn->expired == number) {
        give_up(turn, number, deadline_ns);
        return false;
    }
    *x = (struct expiry){.turn = turn, .number = number};
    return expire(x, deadline_ns);
}

/* After all these requests were answered, since a report may take a while: report, interrupt. */
static void follow_up(struct expiry *expired, unsigned count)
{
    struct errand *e = errand_new(count);
    for (unsigned i = 0; i < count && watch.config->timeout_interrupt; i++) {
        e->targets[i].thread = &expired[i].turn->python;
        e->targets[i].number = expired[i].number;
        e->count++;
    }
    errand_send(e);
    buf_append(&e->stacks, "", 1);
    for (unsigned i = 0; i < count; i++)
        expired[i].is_shared = others_queue(&expired[i], e->stacks.data);
    for (unsigned i = 0; i < count; i++) {
        report(&expired[i], i == 0 ? &e->stacks : NULL);
        if (watch.config->timeout_interrupt) /* it has set itself a limit */
            (void)turn_shut_taken(expired[i].turn, expired[i].number);
        if (watch.config->timeout_interrupt && !expired[i].is_shared)
            shut_awaited(&expired[i]);
        buf_fini(&expired[i].what);
        buf_fini(&expired[i].kernel);
    }
    errand_leave(e);
}

static void look(uint64_t now, struct expiry *expired)
{
    unsigned count = 0;
    for (unsigned i = 0; i < watch.turns->count; i++) {
        struct expiry *x = &expired[count];
        *x = (struct expiry){0};
        if (look_at(watch.turns->items[i], now, x)) {
            count++;
            continue;
        }
        buf_fini(&x->what);
        buf_fini(&x->kernel);
    }
    if (count > 0)
        follow_up(expired, count);
}

/* The process was stopped, or the machine suspended, and so were the requests: they get that time
 * back. */
static void put_off(uint64_t by_ns)
{
    for (unsigned i = 0; i < watch.turns->count; i++) {
        _Atomic uint64_t *deadline = &watch.turns->items[i]->seat->deadline_ns;
        uint64_t due_ns = atomic_load(deadline);
        if (due_ns)
            atomic_compare_exchange_strong(deadline, &due_ns, due_ns + by_ns);
    }
    uint64_t leave_by_ns = atomic_load(&watch.leave_by_ns);
    if (leave_by_ns)
        atomic_store(&watch.leave_by_ns, leave_by_ns + by_ns);
}

/* When to look next: no later than `timeout` from now, so that no request that begins meanwhile is
 * due before. Also puts off the worker's deadline on the board, by when its loop was seen last. */
static uint64_t next_look(uint64_t now)
{
    uint64_t limit_ns = watch.config->timeout_ms * NS_PER_MS;
    uint64_t next = now + (limit_ns && limit_ns < LOOK_NS ? limit_ns : LOOK_NS);
    for (unsigned i = 0; i < watch.turns->count; i++) {
        const struct turn *turn = watch.turns->items[i];
        uint64_t due_ns = atomic_load(&turn->seat->deadline_ns);
        bool runs = TURN_STATE(atomic_load(&turn->word)) != TURN_NONE;
        if (runs && due_ns && due_ns < next)
            next = due_ns;
    }
    atomic_store(&watch.board->worker[watch.slot].deadline_ns,
                 limit_ns ? atomic_load(&watch.loop_seen_ns) + limit_ns : 0);
    return next;
}

static void leave_if_late(uint64_t now)
{
    uint64_t leave_by_ns = atomic_load(&watch.leave_by_ns);
    if (!leave_by_ns || now < leave_by_ns)
        return;
    log_error("did not finish in time: leaving");
    _exit(EXIT_CRASH);
}

static void keep_watch(struct expiry *expired)
{
    while (!atomic_load(&watch.stopping)) {
        uint64_t before = now_ns(), next = next_look(before);
        (void)errand_wait(&watch.turns->wake, next);
        uint64_t now = now_ns();
        if (now > next + LATE_NS) {
            put_off(now - before); /* all of it: when the stop began is not known */
            continue;
        }
        if (atomic_exchange(&watch.dump_wanted, false))
            report_all();
        look(now, expired);
        leave_if_late(now);
    }
}

static void *watch_main(void *arg)
{
    (void)arg;
    pthread_setname_np(pthread_self(), "watch");
    struct expiry *expired = xcalloc(watch.turns->count, sizeof(*expired));
    keep_watch(expired);
    free(expired);
    return NULL;
}

/* ---- life ---- */

static void on_dump_signal(int number)
{
    (void)number;
    atomic_store(&watch.dump_wanted, true);
    sem_post(&watch.turns->wake);
}

void watch_start(struct turns *turns, const struct config *config, struct board *board,
                 unsigned slot)
{
    struct sigaction dump = {.sa_handler = on_dump_signal, .sa_flags = SA_RESTART};
    sigset_t all, before;
    memset(&watch, 0, sizeof(watch)); /* left over from a mold that was a worker */
    watch.turns = turns;
    watch.config = config;
    watch.board = board;
    watch.slot = slot;
    atomic_init(&watch.loop_seen_ns, now_ns());
    awaited_note_inherited();
    sigaction(SIGUSR2, &dump, &watch.before);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* no handler of the application runs on it */
    int error = pthread_create(&watch.thread, NULL, watch_main, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) {
        log_critical("a thread cannot be started: %s", strerror(error));
        _exit(EXIT_CRASH);
    }
}

void watch_stop(void)
{
    atomic_store(&watch.stopping, true);
    sem_post(&watch.turns->wake);
    pthread_join(watch.thread, NULL);
    sigaction(SIGUSR2, &watch.before, NULL); /* a mold gets SIGUSR2 too, and ignores it */
    atomic_store(&watch.board->worker[watch.slot].deadline_ns, 0);
}

void watch_note_loop(void)
{
    atomic_store_explicit(&watch.loop_seen_ns, now_ns(), memory_order_relaxed);
}

void watch_leave_by(uint64_t deadline_ns)
{
    atomic_store(&watch.leave_by_ns, deadline_ns);
    sem_post(&watch.turns->wake);
}
