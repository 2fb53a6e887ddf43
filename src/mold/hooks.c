/* hooks.c: the process that runs the application's hooks about other processes.
 *
 * Owns: the mold's end of the socket pair to it, by which each knows that the other has ended, and
 * all of that process. Its parent is the master, as that of the workers is; for the master it is an
 * orphan of the application. One process is in force at a time: it waits until the one before
 * has ended, before it calls when_ready, which may open a port.
 *
 * A hook that hangs is cut, with the process, when the process should have ended for
 * graceful-timeout. */
#include "hooks.h"

#include "base/fds.h"
#include "base/log.h"
#include "config/settings.h"
#include "middle.h"
#include "python/ending.h"
#include "python/python.h"
#include "shared/board.h"
#include "shared/failure.h"
#include "system/forks.h"
#include "system/listen.h"
#include "system/process.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* For a process whose time is over, to write what it was doing. */
#define CUT_MS 300

/* In the mold; -1: there is no such process. */
static int process_fd = -1;

/* What start hands down to the process. */
struct birth {
    const struct worker_seed *seed;
    int order_fd; /* the mold's, for the process to close */
    int fd;
};

/* In that process. */
static struct {
    const struct worker_seed *seed;
    int fd;
} self;

/* ---- the process ---- */

static uint64_t end_due_ns(void)
{
    const struct board *board = self.seed->board;
    return atomic_load(&board->stopping)
               ? atomic_load(&board->leave_by_ns)
               : now_ns() + self.seed->config->graceful_timeout_ms * NS_PER_MS;
}

/* So that a hook that hangs does not keep the process, when the mold wants no more of it. */
static void *bound_main(void *arg)
{
    (void)arg;
    struct pollfd mold = {self.fd, POLLRDHUP, 0};
    while (poll(&mold, 1, -1) < 0 && errno == EINTR)
        continue;
    ending_bound(EXIT_OK, end_due_ns());
    return NULL;
}

static void begin_bound(void)
{
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* no handler of the application runs on it */
    if (pthread_create(&thread, NULL, bound_main, NULL) == 0)
        pthread_detach(thread);
    else
        log_warning("no thread can be started to bound the hooks");
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void leave_if_copy(void)
{
    if (!forks_is_copy())
        return;
    log_error("a process that the application forked in a hook came back from there and is ended");
    _exit(EXIT_CRASH);
}

/* Waits without the GIL, so that threads which hooks have started run. */
static bool read_order(struct mold_order *order)
{
    struct python_thread thread = {0};
    ssize_t got;
    python_thread_adopt(&thread);
    do
        got = recv(self.fd, order, sizeof *order, 0);
    while (got < 0 && errno == EINTR);
    python_acquire(&thread);
    python_run_handlers();
    leave_if_copy();
    return got == (ssize_t)sizeof *order;
}

/* The process of the generation before bounds its own end. */
static void await_predecessor(void)
{
    struct board *board = self.seed->board;
    struct python_thread thread = {0};
    pid_t before = atomic_load(&board->hooks_pid);
    struct pollfd ended = {.fd = before > 0 ? (int)syscall(SYS_pidfd_open, before, 0) : -1,
                           .events = POLLIN};
    uint64_t limit_ms = self.seed->config->graceful_timeout_ms + 2 * BOARD_END_LEAST_MS;
    int got;
    python_thread_adopt(&thread);
    if (ended.fd >= 0) {
        do
            got = poll(&ended, 1, (int)limit_ms);
        while (got < 0 && errno == EINTR);
        if (got == 0)
            log_warning("the hooks of the generation before (pid %d) do not end", before);
        close(ended.fd);
    }
    python_acquire(&thread);
    atomic_store(&board->hooks_pid, getpid());
    board_ring(board); /* what the one before did not take is told again */
}

/* False: it was told before. */
static bool is_new(const struct mold_order *order)
{
    return (int32_t)(order->number - atomic_load(&self.seed->board->hooks_taken)) > 0;
}

static void tell_exit(const struct mold_order *order)
{
    char reason[96];
    enum board_end end = order->end < BOARD_END_COUNT ? (enum board_end)order->end : 0;
    snprintf(reason, sizeof reason, "%s%s%s", board_end_names[end],
             end == BOARD_END_CRASH ? ": " : "",
             end == BOARD_END_CRASH ? failure_status(order->status) : "");
    python_say_child_exit(order->slot + 1, order->pid, reason);
}

static NORETURN void run_hooks(void)
{
    struct mold_order order;
    while (read_order(&order)) {
        if (order.kind == MOLD_SERVES) {
            await_predecessor();
            python_say_ready();
        } else if (order.kind == MOLD_GONE && is_new(&order)) {
            atomic_store(&self.seed->board->hooks_taken, order.number); /* a hook may crash */
            tell_exit(&order);
        }
        leave_if_copy();
    }
    if (atomic_load(&self.seed->board->stopping))
        python_say_stopping();
    leave_if_copy();
    ending_leave(EXIT_OK, end_due_ns(), "");
}

/* With preload it is a copy of the mold; without, the mold has no Python. */
static bool has_begun(void)
{
    const struct worker_seed *seed = self.seed;
    if (seed->config->preload) {
        python_after_fork_child();
        forks_follow(seed->listeners);
        return python_begin_hooks() == 0;
    }
    python_start(seed->config);
    forks_follow(seed->listeners);
    if (python_load_hooks(seed->config, seed->cause) < 0)
        return false;
    leave_if_copy();
    return send(self.fd, "", 1, MSG_NOSIGNAL) == 1;
}

static NORETURN void become_process(const struct worker_seed *seed, int fd, const sigset_t *mask)
{
    self.seed = seed;
    self.fd = fd;
    log_set_process("hooks");
    process_set_title("myserver: hooks");
    (void)process_take_signals(false); /* the mold tells when to end */
    sigprocmask(SIG_SETMASK, mask, NULL);
    begin_bound();
    bool begun = has_begun();
    for (size_t i = 0; i < seed->listeners->count; i++)
        close(seed->listeners->items[i].fd);
    if (!begun)
        ending_leave(EXIT_APP, end_due_ns(), "");
    (void)process_take_signals(false); /* the modules may have set their own */
    run_hooks();
}

/* ---- the mold's side ---- */

static void run_middle(void *context, const sigset_t *mask)
{
    const struct birth *birth = context;
    pid_t middle = getpid(), pid = fork();
    if (pid > 0)
        _exit(EXIT_OK);
    if (pid < 0) {
        log_error("no hook is called: cannot fork their process: %s", strerror(errno));
        _exit(EXIT_CRASH);
    }
    close(birth->order_fd);
    hooks_let_go();
    middle_await_end(middle);
    become_process(birth->seed, birth->fd, mask);
}

static void start(const struct worker_seed *seed, int order_fd)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) {
        log_error("no hook is called: no socket for their process: %s", strerror(errno));
        return;
    }
    process_fd = fds_spare(fds[0]);
    struct birth birth = {seed, order_fd, fds_spare(fds[1])};
    (void)middle_fork(seed->config->preload, run_middle, &birth, "the hooks");
    close(birth.fd); /* if there is no process, this ends what process_fd is connected to */
}

int hooks_load(const struct worker_seed *seed, int order_fd)
{
    char loaded;
    ssize_t got;
    if (seed->config->hooks.count == 0)
        return 0;
    start(seed, order_fd);
    do
        got = process_fd < 0 ? 0 : recv(process_fd, &loaded, 1, 0);
    while (got < 0 && errno == EINTR);
    return got == 1 ? 0 : -1;
}

static bool is_wanted(const struct worker_seed *seed)
{
    return seed->config->preload ? python_has_process_hooks() : seed->config->hooks.count > 0;
}

static bool tell(const struct mold_order *order)
{
    ssize_t sent = -1;
    if (process_fd >= 0)
        sent = send(process_fd, order, sizeof *order, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && process_fd >= 0 && errno == EAGAIN) {
        log_warning("a hook takes so long that it is not told of all that happens");
        return true;
    }
    return sent > 0;
}

void hooks_take(const struct worker_seed *seed, int order_fd, const struct mold_order *order)
{
    static const struct mold_order serves = {.kind = MOLD_SERVES};
    bool had_one = process_fd >= 0;
    if (!is_wanted(seed) && order->kind == MOLD_GONE)
        atomic_store(&seed->board->hooks_taken, order->number);
    if (!is_wanted(seed) || tell(order))
        return;
    if (had_one) {
        log_error("the process for hooks has died, another one is started");
        hooks_let_go();
        if (!seed->config->preload && hooks_load(seed, order_fd) < 0)
            return;
    }
    if (process_fd < 0)
        start(seed, order_fd);
    (void)tell(&serves); /* the master sees that it is another one, and tells it what has ended */
}

void hooks_end(void)
{
    if (process_fd >= 0)
        (void)shutdown(process_fd, SHUT_WR);
}

void hooks_await_end(uint64_t due_ns)
{
    struct pollfd ended = {process_fd, POLLIN, 0};
    uint64_t now = now_ns(), least_ns = now + BOARD_END_LEAST_MS * NS_PER_MS;
    uint64_t wait_ns = (due_ns > least_ns ? due_ns : least_ns) - now;
    hooks_end();
    while (process_fd >= 0 && poll(&ended, 1, (int)(wait_ns / NS_PER_MS) + CUT_MS) < 0 &&
           errno == EINTR)
        continue;
}

void hooks_let_go(void)
{
    if (process_fd >= 0)
        close(process_fd);
    process_fd = -1;
}
