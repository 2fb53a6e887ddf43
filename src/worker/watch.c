/* watch.c: the watch, a thread of each worker that acts on requests which take too long.
 *
 * Owns: what follows from a missed deadline: report, 504, interruption, giving up. Reads the board
 * and /proc. Never waits for the GIL itself: an errand, a thread started for it, does. Touches a
 * connection only to answer on it, and holds `lock` meanwhile, for which the thread of the request
 * waits in watch_end. Never runs a request, never ends one. */
#include "worker/watch.h"
#include "base/log.h"
#include "config/settings.h"
#include "python/python.h"
#include "shared/board.h"
#include "shared/report.h"
#include "worker/conn.h"
#include "worker/pool.h"

#include <errno.h>
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define LOOK_NS         NS_PER_S          /* between two looks, if no deadline is earlier */
#define LATE_NS         NS_PER_S          /* no load delays a look so long: it was stopped */
#define BACK_NS         NS_PER_S          /* for an interrupted request to come back */
#define GIL_PATIENCE_NS (200 * NS_PER_MS) /* 40 switch intervals; after that C code holds it */

/* Who answers: the two low bits of watch_turn.state. The thread goes from NONE to OPEN, SENDING and
 * back to NONE; the watch may only change OPEN to ANSWERED. */
enum turn_state { TURN_NONE, TURN_OPEN, TURN_SENDING, TURN_ANSWERED };
#define TURN_STATE(word)        ((enum turn_state)((word)&3))
#define TURN_NUMBER(word)       ((word) >> 2)
#define TURN_WORD(number, mode) ((number) << 2 | (uint64_t)(mode))

static struct {
    struct pool *pool;
    const struct config *config;
    struct board *board;
    unsigned slot;
    pthread_t thread;
    sem_t wake;
    _Atomic bool dump_wanted, stopping;
    _Atomic uint64_t loop_seen_ns, leave_by_ns;
    pthread_mutex_t lock;    /* held while the watch uses a thread's connection */
    struct sigaction before; /* of SIGUSR2, before watch_start */
} watch;

/* --- the thread's side ---------------------------------------------------------------------- */

void watch_begin(struct pool_thread *thread, struct conn *conn, uint64_t deadline_ns)
{
    struct watch_turn *turn = &thread->turn;
    turn->number++;
    turn->conn = conn;
    atomic_store_explicit(&turn->fd, conn->fd, memory_order_relaxed);
    atomic_store_explicit(&thread->slot->deadline_ns, deadline_ns, memory_order_relaxed);
    atomic_store_explicit(&turn->state, TURN_WORD(turn->number, TURN_OPEN), memory_order_release);
}

bool watch_claim(struct pool_thread *thread)
{
    struct watch_turn *turn = &thread->turn;
    uint64_t open = TURN_WORD(turn->number, TURN_OPEN);
    return atomic_compare_exchange_strong(&turn->state, &open,
                                          TURN_WORD(turn->number, TURN_SENDING)) ||
           TURN_STATE(open) == TURN_SENDING;
}

bool watch_has_answered(const struct pool_thread *thread)
{
    return TURN_STATE(atomic_load_explicit(&thread->turn.state, memory_order_relaxed)) ==
           TURN_ANSWERED;
}

bool watch_end(struct pool_thread *thread)
{
    struct watch_turn *turn = &thread->turn;
    uint64_t before = atomic_exchange(&turn->state, TURN_WORD(turn->number, TURN_NONE));
    atomic_store_explicit(&thread->slot->deadline_ns, 0, memory_order_relaxed);
    if (TURN_STATE(before) != TURN_ANSWERED)
        return true;
    pthread_mutex_lock(&watch.lock); /* waits until the watch is done with the connection */
    pthread_mutex_unlock(&watch.lock);
    return false;
}

void watch_set_limit(struct pool_thread *thread, uint64_t limit_ns)
{
    atomic_store(&thread->slot->deadline_ns, limit_ns ? now_ns() + limit_ns : 0);
    sem_post(&watch.wake);
}

uint64_t watch_pause(struct pool_thread *thread)
{
    uint64_t deadline_ns = atomic_exchange(&thread->slot->deadline_ns, 0), now = now_ns();
    if (deadline_ns == 0)
        return 0;
    return deadline_ns > now ? deadline_ns - now : 1;
}

void watch_resume(struct pool_thread *thread, uint64_t paused)
{
    if (paused)
        atomic_store(&thread->slot->deadline_ns, now_ns() + paused);
}

unsigned watch_given_up(void)
{
    unsigned count = 0;
    for (unsigned i = 0; i < watch.pool->count; i++) {
        struct watch_turn *turn = &watch.pool->threads[i].turn;
        uint64_t word = atomic_load(&turn->state);
        count += TURN_STATE(word) != TURN_NONE && TURN_NUMBER(word) == atomic_load(&turn->given_up);
    }
    return count;
}

/* --- errands in the interpreter ------------------------------------------------------------- */

enum errand_stage {
    ERRAND_SENT,
    ERRAND_DUMPING, /* the errand's thread or the watch dumps the stacks, or has done so */
    ERRAND_DONE,
};

/* What a thread of its own does as soon as it gets the GIL: it dumps the stacks and interrupts
 * threads. */
struct errand {
    _Atomic int holders; /* the watch and the errand's thread; the last to leave frees it */
    _Atomic int stage;   /* enum errand_stage */
    sem_t done;
    struct buf stacks;
    unsigned count;
    struct {
        struct pool_thread *thread;
        uint64_t number;
    } targets[];
};

static void errand_leave(struct errand *e)
{
    if (atomic_fetch_sub(&e->holders, 1) > 1)
        return;
    buf_fini(&e->stacks);
    sem_destroy(&e->done);
    free(e);
}

static bool may_dump(struct errand *e)
{
    int sent = ERRAND_SENT;
    return atomic_compare_exchange_strong(&e->stage, &sent, ERRAND_DUMPING);
}

static void run_errand(void *context)
{
    struct errand *e = context;
    if (may_dump(e))
        python_dump_stacks(&e->stacks);
    for (unsigned i = 0; i < e->count; i++)
        python_interrupt(&e->targets[i].thread->python, e->targets[i].number);
}

static void *errand_main(void *arg)
{
    struct errand *e = arg;
    python_visit(run_errand, e);
    atomic_store(&e->stage, ERRAND_DONE);
    sem_post(&e->done);
    errand_leave(e);
    return NULL;
}

static struct errand *errand_new(unsigned room)
{
    struct errand *e = xcalloc(1, sizeof(*e) + room * sizeof(e->targets[0]));
    atomic_init(&e->holders, 1);
    sem_init(&e->done, 0, 0);
    return e;
}

/* Waits until `due_ns` (now_ns); false when that came first. */
static bool wait_semaphore(sem_t *semaphore, uint64_t due_ns)
{
    struct timespec until = {(time_t)(due_ns / NS_PER_S), (long)(due_ns % NS_PER_S)};
    int failed;
    do
        failed = sem_clockwait(semaphore, CLOCK_MONOTONIC, &until);
    while (failed && errno == EINTR);
    return !failed;
}

/* Starts the errand's thread and waits for it. Afterwards e->stacks is filled, unless no thread
 * could be started. When the GIL is not free within GIL_PATIENCE_NS, the watch dumps the stacks
 * itself, and the interruption follows whenever the errand gets the GIL. */
static void errand_send(struct errand *e)
{
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    atomic_fetch_add(&e->holders, 1);
    bool sent = pthread_create(&thread, &attributes, errand_main, e) == 0;
    pthread_attr_destroy(&attributes);
    if (!sent) {
        atomic_fetch_sub(&e->holders, 1);
        return;
    }
    (void)wait_semaphore(&e->done, now_ns() + GIL_PATIENCE_NS);
    /* C code holds the GIL, so no Python stack changes while it is read. */
    if (may_dump(e)) {
        python_dump_stacks(&e->stacks);
        return;
    }
    while (atomic_load(&e->stage) != ERRAND_DONE)
        (void)wait_semaphore(&e->done, UINT64_MAX / 2);
}

/* --- reports -------------------------------------------------------------------------------- */

static void append_thread_name(struct buf *out, const char *header)
{
    unsigned long ident = strtoul(strstr(header, "0x"), NULL, 16);
    for (unsigned i = 0; i < watch.pool->count; i++)
        if ((unsigned long)watch.pool->threads[i].pthread == ident) {
            buf_printf(out, "thread %u, most recent call first:\n", i + 1);
            return;
        }
    buf_printf(out, "thread 0x%lx of the application, most recent call first:\n", ident);
}

/* Appends what faulthandler wrote, with the names of the server's threads, and without threads that
 * run no Python. */
static void append_stacks(struct buf *out, struct buf *stacks)
{
    char *rest, *header = NULL;
    buf_append(stacks, "", 1);
    for (char *line = strtok_r(stacks->data, "\n", &rest); line;
         line = strtok_r(NULL, "\n", &rest)) {
        if (line[0] != ' ') {
            header = strstr(line, "hread 0x") ? line : NULL;
            continue;
        }
        if (strstr(line, "<no Python frame>"))
            continue;
        if (header)
            append_thread_name(out, header);
        header = NULL;
        buf_printf(out, "%s\n", line);
    }
}

/* At SIGUSR2: logs the running requests and all stacks. */
static void report_all(void)
{
    struct buf text = {0};
    struct errand *e = errand_new(0);
    report_running(&text, watch.board, watch.slot, REPORT_ALL, getpid());
    errand_send(e);
    append_stacks(&text, &e->stacks);
    errand_leave(e);
    log_block(LOG_WARNING, text.data, text.len, "running requests and all stacks, by SIGUSR2:");
    buf_fini(&text);
}

/* A request that has just passed its deadline. */
struct expiry {
    struct pool_thread *thread;
    uint64_t number;
    bool answered;
    int awaited_fd;          /* what its thread waits for; -1: not known */
    struct buf what, kernel; /* text: the request; what the kernel says of its thread */
};

static void report(struct expiry *x, struct buf *stacks)
{
    struct buf text = {0};
    buf_append(&x->what, "", 1);
    buf_append(&text, x->kernel.data, x->kernel.len);
    buf_append_str(&text, "\n");
    report_running(&text, watch.board, watch.slot, x->thread->number, getpid());
    if (stacks)
        append_stacks(&text, stacks);
    log_block(LOG_CRITICAL, text.data, text.len, "request timeout: thread %u: %s: %s",
              x->thread->number + 1, x->what.data,
              x->answered ? "answered 504" : "its answer had begun");
    buf_fini(&text);
}

/* --- interruption --------------------------------------------------------------------------- */

/* The descriptor that the thread's current system call waits for; -1: none, or more than one. */
static int read_awaited_fd(pid_t tid)
{
    struct report_syscall call;
    if (!report_read_syscall(getpid(), tid, &call))
        return -1;
    struct pollfd polled;
    struct iovec here = {&polled, sizeof(polled)};
    struct iovec there = {(void *)(uintptr_t)call.args[0], sizeof(polled)};
    switch (call.number) {
    case SYS_read:
    case SYS_write:
    case SYS_recvfrom:
    case SYS_recvmsg:
    case SYS_sendto:
    case SYS_sendmsg:
    case SYS_connect:
        return (int)call.args[0];
#ifdef SYS_poll
    case SYS_poll:
#endif
    case SYS_ppoll:
        /* Not through the pointer: the call may have returned, and its stack be unmapped. */
        if (call.args[1] != 1 ||
            process_vm_readv(getpid(), &here, 1, &there, 1, 0) != (ssize_t)sizeof(polled))
            return -1;
        return polled.fd;
    default:
        return -1;
    }
}

/* True for a connection of the application: no file, not the client's socket, no listener. */
static bool may_shut(const struct expiry *x, int fd)
{
    struct stat status;
    int listens = 1;
    socklen_t len = sizeof(listens);
    return fd >= 0 && fd != atomic_load(&x->thread->turn.fd) && fstat(fd, &status) == 0 &&
           S_ISSOCK(status.st_mode) &&
           getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 && !listens;
}

/* A thread that waits for a socket does not see the exception, so the socket is shut down to end
 * the wait. Right before, it is checked again that the thread runs the same request and waits for
 * the same descriptor: the next request may use the same socket. */
static void shut_awaited(const struct expiry *x)
{
    pid_t tid = atomic_load(&x->thread->slot->tid);
    uint64_t word = atomic_load(&x->thread->turn.state);
    bool is_same = TURN_NUMBER(word) == x->number && TURN_STATE(word) != TURN_NONE;
    if (is_same && x->awaited_fd >= 0 && read_awaited_fd(tid) == x->awaited_fd &&
        may_shut(x, x->awaited_fd))
        (void)shutdown(x->awaited_fd, SHUT_RDWR);
}

/* --- deadlines ------------------------------------------------------------------------------ */

/* Answers 504, if the thread has not begun to answer. False: its request has ended meanwhile. */
static bool answer(struct expiry *x)
{
    struct watch_turn *turn = &x->thread->turn;
    uint64_t word = TURN_WORD(x->number, TURN_OPEN);
    pthread_mutex_lock(&watch.lock);
    x->answered =
        atomic_compare_exchange_strong(&turn->state, &word, TURN_WORD(x->number, TURN_ANSWERED));
    if (x->answered) {
        atomic_store(&x->thread->slot->recorded, true);
        conn_answer_for(turn->conn, 504, "timeout");
    }
    pthread_mutex_unlock(&watch.lock);
    return x->answered || (TURN_NUMBER(word) == x->number && TURN_STATE(word) != TURN_NONE);
}

static bool expire(struct expiry *x, uint64_t deadline_ns)
{
    struct board_thread *slot = x->thread->slot;
    pid_t tid = atomic_load(&slot->tid);
    x->awaited_fd = read_awaited_fd(tid);
    report_request(&x->what, slot);
    report_kernel(&x->kernel, getpid(), tid);
    if (!answer(x))
        return false;
    uint64_t back_ns = watch.config->timeout_interrupt ? BACK_NS : 1;
    atomic_compare_exchange_strong(&slot->deadline_ns, &deadline_ns, now_ns() + back_ns);
    x->thread->turn.expired = x->number;
    atomic_fetch_add(&watch.board->worker[watch.slot].timeouts, 1);
    return true;
}

static void give_up(struct pool_thread *thread, uint64_t number, uint64_t deadline_ns)
{
    if (!atomic_compare_exchange_strong(&thread->slot->deadline_ns, &deadline_ns, 0))
        return;
    atomic_store(&thread->turn.given_up, number);
    struct board_worker *worker = &watch.board->worker[watch.slot];
    bool leaves = atomic_load(&worker->state) == BOARD_WORKER_DRAINING;
    log_error("thread %u does not come back from its request: this worker %s", thread->number + 1,
              leaves ? "leaves without it" : "is to be replaced");
    atomic_store(&worker->retire, BOARD_RETIRE_STUCK);
    board_ring(watch.board);
}

/* Looks at one thread; true when its request has passed the deadline just now. */
static bool look_at(struct pool_thread *thread, uint64_t now, struct expiry *x)
{
    struct watch_turn *turn = &thread->turn;
    uint64_t word = atomic_load(&turn->state), number = TURN_NUMBER(word);
    uint64_t deadline_ns = atomic_load(&thread->slot->deadline_ns);
    if (turn->expired && (number != turn->expired || TURN_STATE(word) == TURN_NONE)) {
        log_info("thread %u came back from the request that had timed out", thread->number + 1);
        turn->expired = 0;
    }
    if (TURN_STATE(word) == TURN_NONE || deadline_ns == 0 || deadline_ns > now)
        return false;
    if (turn->expired == number) {
        give_up(thread, number, deadline_ns);
        return false;
    }
    *x = (struct expiry){.thread = thread, .number = number};
    return expire(x, deadline_ns);
}

/* After all these requests were answered, since a report may take a while: report, interrupt. */
static void follow_up(struct expiry *expired, unsigned count)
{
    struct errand *e = errand_new(count);
    for (unsigned i = 0; i < count && watch.config->timeout_interrupt; i++) {
        e->targets[i].thread = expired[i].thread;
        e->targets[i].number = expired[i].number;
        e->count++;
    }
    errand_send(e);
    for (unsigned i = 0; i < count; i++) {
        report(&expired[i], i == 0 ? &e->stacks : NULL);
        if (watch.config->timeout_interrupt)
            shut_awaited(&expired[i]);
        buf_fini(&expired[i].what);
        buf_fini(&expired[i].kernel);
    }
    errand_leave(e);
}

static void look(uint64_t now, struct expiry *expired)
{
    unsigned count = 0;
    for (unsigned i = 0; i < watch.pool->count; i++) {
        struct expiry *x = &expired[count];
        *x = (struct expiry){0};
        if (look_at(&watch.pool->threads[i], now, x)) {
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
    for (unsigned i = 0; i < watch.pool->count; i++) {
        _Atomic uint64_t *deadline = &watch.pool->threads[i].slot->deadline_ns;
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
    for (unsigned i = 0; i < watch.pool->count; i++) {
        const struct pool_thread *thread = &watch.pool->threads[i];
        uint64_t due_ns = atomic_load(&thread->slot->deadline_ns);
        bool runs = TURN_STATE(atomic_load(&thread->turn.state)) != TURN_NONE;
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
        (void)wait_semaphore(&watch.wake, next);
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
    struct expiry *expired = xcalloc(watch.pool->count, sizeof(*expired));
    keep_watch(expired);
    free(expired);
    return NULL;
}

/* --- life ----------------------------------------------------------------------------------- */

static void on_dump_signal(int number)
{
    (void)number;
    atomic_store(&watch.dump_wanted, true);
    sem_post(&watch.wake);
}

void watch_start(struct pool *pool, const struct config *config, struct board *board, unsigned slot)
{
    struct sigaction dump = {.sa_handler = on_dump_signal, .sa_flags = SA_RESTART};
    sigset_t all, before;
    memset(&watch, 0, sizeof(watch)); /* left over from a mold that was a worker */
    watch.pool = pool;
    watch.config = config;
    watch.board = board;
    watch.slot = slot;
    atomic_init(&watch.loop_seen_ns, now_ns());
    sem_init(&watch.wake, 0, 0);
    pthread_mutex_init(&watch.lock, NULL);
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
    sem_post(&watch.wake);
    pthread_join(watch.thread, NULL);
    sigaction(SIGUSR2, &watch.before, NULL); /* a mold gets SIGUSR2 too, and ignores it */
    sem_destroy(&watch.wake);
    pthread_mutex_destroy(&watch.lock);
    atomic_store(&watch.board->worker[watch.slot].deadline_ns, 0);
}

void watch_note_loop(void)
{
    atomic_store_explicit(&watch.loop_seen_ns, now_ns(), memory_order_relaxed);
}

void watch_leave_by(uint64_t deadline_ns)
{
    atomic_store(&watch.leave_by_ns, deadline_ns);
    sem_post(&watch.wake);
}
