/* mold.c: the process that holds the loaded application and forks workers from it.
 *
 * Owns the interpreter until a fork hands a copy of it to a worker, and its end of the order
 * pipe. One order is one double fork: the mold forks a middle process, the middle forks the
 * worker and exits, so that the worker becomes the child of the master, the nearest
 * subreaper. A slot's pid is claimed once: 0 means ordered, -1 that no worker will come.
 *
 * A worker that was promoted (refork-after) comes back here when it has drained, and is a mold from
 * then on.
 *
 * Never serves a request, never decides how many workers there are, never waits for one.
 * mold_main runs in a child of the master, mold_rehearse in one of the rehearsal. */
#include "mold/mold.h"

#include "base/log.h"
#include "config/settings.h"
#include "hooks.h"
#include "middle.h"
#include "python/ending.h"
#include "python/hints.h"
#include "python/module.h"
#include "python/python.h"
#include "python/wsgi.h"
#include "shared/board.h"
#include "shared/failure.h"
#include "shared/order.h"
#include "system/forks.h"
#include "system/listen.h"
#include "system/process.h"
#include "warm.h"
#include "worker/worker.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Between two looks for workers that are left. */
#define LOOK_NS (50 * NS_PER_MS)

/* Workers served while this mold warmed the application up, and could answer requests that the
 * application made to the server itself. */
static bool was_served;

/* What fork_worker hands down to the worker. Signals are blocked over the forks, so that none ends
 * the worker before it has claimed its slot. */
struct fork_job {
    struct worker_seed seed; /* the worker's */
    int order_fd;            /* the mold's, for the worker to close */
};

/* Claims the slot for `pid`, or with -1 for nobody. False: it is claimed for another process, or
 * the master has given the order up. */
static bool claim_slot(struct board_worker *slot, int32_t pid)
{
    int32_t found = 0;
    return atomic_compare_exchange_strong(&slot->pid, &found, pid) || found == pid;
}

/* Ends a process that the application has forked, and that has come back from the application as if
 * it were this one. */
static void leave_if_copy(void)
{
    if (!forks_is_copy())
        return;
    log_error("a process that the application forked while it was loaded, warmed up or in a hook "
              "came back from there and is ended");
    _exit(EXIT_CRASH);
}

/* Loads and warms the application in this process. Returns 0, or -1 after the reason went to the
 * log. */
static int ready_application(const struct config *config, const struct listeners *listeners,
                             enum seed_cause cause)
{
    worker_prepare(config);
    python_start(config);
    forks_follow(listeners);
    struct _object *application = python_load(config, cause);
    if (!application || wsgi_init(config, listeners, application) < 0)
        return -1;
    bool is_warm = warm_mold(config) == WARM_OK;
    leave_if_copy();
    return is_warm ? 0 : -1;
}

/* Runs the application's hooks and prepares the heap; `order_fd`: see python_prepare_fork. */
static int prepare_fork(int order_fd)
{
    int result = python_prepare_fork(order_fd);
    leave_if_copy();
    return result;
}

/* False: a page that sends requests to the server itself could block, since no worker serves now,
 * while some did when the mold warmed up. */
static bool may_warm_up(const struct worker_seed *seed)
{
    return !was_served || board_is_served(seed->board);
}

static NORETURN void end_now(const struct worker_seed *seed, enum exit_status status)
{
    ending_leave(status, now_ns() + seed->config->graceful_timeout_ms * NS_PER_MS, "");
}

/* An application that opens an address itself, or takes a lock, fails wherever another process has
 * loaded it, too. */
static void explain_failure(const struct worker_seed *seed)
{
    int lacking = python_lacking();
    if (!lacking || !board_is_served(seed->board))
        return;
    if (lacking == EADDRINUSE)
        log_error("an address is in use, and %s: if the application opens that address, let it do "
                  "so with SO_REUSEPORT, or in a process of its own",
                  seed->config->preload ? "the generation before has its sockets open as long as "
                                          "it serves"
                                        : "without preload every worker opens what the application "
                                          "opens");
    else
        log_error("if what could not be had at once is a lock, %s: let the application take it "
                  "when it needs it, or in a process of its own",
                  seed->config->preload ? "the generation before has it as long as it serves"
                                        : "without preload every worker wants it");
}

static NORETURN void fail_start(const struct worker_seed *seed)
{
    explain_failure(seed);
    end_now(seed, EXIT_APP);
}

/* The signals by which the server tells its processes something. A worker `ends` with those that
 * stop it, until it serves. */
static void say_taken(const struct worker_seed *seed, bool ends)
{
    const char *names = process_take_signals(ends);
    if (names[0] && board_say_first(board_mold(seed->board, seed->generation), names))
        log_warning(
            "the application has a handler of %s: it is replaced, as the server has its own; "
            "what is to be done when a process ends belongs into atexit",
            names);
}

/* Readies the application in the worker: the copy of the mold's, or without preload one of its own;
 * then one round of warm-up, so that no user's request waits for the first page faults. */
static void begin_application(const struct worker_seed *seed)
{
    hints_begin(&board_mold(seed->board, seed->generation)->hints);
    if (seed->config->preload)
        python_after_fork_child();
    else if (ready_application(seed->config, seed->listeners, SEED_OTHER) < 0)
        fail_start(seed);
    forks_follow(seed->listeners);
    pymodule_set_worker(seed->slot + 1);
    if (python_begin_worker(board_mold(seed->board, seed->generation)) < 0)
        fail_start(seed);
    say_taken(seed, true);
    if (seed->config->preload && may_warm_up(seed))
        warm_worker(seed->config);
    leave_if_copy();
    python_begin_reports(board_mold(seed->board, seed->generation));
}

static NORETURN void become_mold(const struct worker_seed *worker,
                                 const struct worker_promotion *promotion);

static NORETURN void become_worker(const struct fork_job *job, pid_t middle)
{
    const struct worker_seed *seed = &job->seed;
    struct board_worker *slot = &seed->board->worker[seed->slot];
    if (!claim_slot(slot, getpid()))
        _exit(EXIT_OK);
    close(job->order_fd);
    hooks_let_go();
    atomic_store(&slot->generation, seed->generation);
    atomic_store(&slot->state, BOARD_WORKER_STARTING);
    log_set_process("worker %u", seed->slot + 1);
    process_set_title("myserver: worker %u [%s] starting", seed->slot + 1, seed->config->app);
    process_set_signals(); /* before the application runs: its children inherit the mask */
    middle_await_end(middle);
    begin_application(seed);
    struct worker_promotion promotion = worker_main(seed);
    become_mold(seed, &promotion);
}

static void run_middle(void *context, const sigset_t *mask)
{
    struct fork_job *job = context;
    struct board_worker *slot = &job->seed.board->worker[job->seed.slot];
    (void)mask;
    pid_t middle = getpid(), pid = fork();
    if (pid == 0)
        become_worker(job, middle);
    if (pid < 0)
        log_error("cannot fork worker %u: %s", job->seed.slot + 1, strerror(errno));
    claim_slot(slot, pid); /* if the order was given up, the worker sees it too and leaves */
    _exit(EXIT_OK);
}

static void fork_worker(struct fork_job *job)
{
    char name[32];
    snprintf(name, sizeof name, "worker %u", job->seed.slot + 1);
    /* Not after a normal exit: a short-lived worker may have been reaped by now, and its slot
     * ordered again. */
    if (!middle_fork(job->seed.config->preload, run_middle, job, name))
        claim_slot(&job->seed.board->worker[job->seed.slot], -1);
    board_ring(job->seed.board);
}

/* Waits without the GIL, so that the application's threads run, and runs its signal handlers. The
 * signals are blocked but for the wait, so that none comes right before it and is not seen. */
static void wait_for_order(int order_fd)
{
    struct python_thread thread = {0};
    struct pollfd order = {order_fd, POLLIN, 0};
    sigset_t all, mask;
    int got;
    sigfillset(&all);
    do {
        python_run_handlers(); /* with the mask that the application knows */
        pthread_sigmask(SIG_SETMASK, &all, &mask);
        python_run_handlers();
        leave_if_copy();
        python_thread_adopt(&thread);
        got = ppoll(&order, 1, NULL, &mask);
        python_acquire(&thread);
        pthread_sigmask(SIG_SETMASK, &mask, NULL);
    } while (got < 0);
}

/* False: the master wants no more, or is gone. */
static bool read_order(int order_fd, struct mold_order *order)
{
    ssize_t got;
    do
        got = read(order_fd, order, sizeof *order);
    while (got < 0 && errno == EINTR);
    return got == (ssize_t)sizeof *order;
}

static void announce(const struct worker_seed *seed, enum board_mold_state state)
{
    atomic_store(&board_mold(seed->board, seed->generation)->state, state);
    board_ring(seed->board);
}

static bool has_master(const struct worker_seed *seed)
{
    return getppid() == atomic_load(&seed->board->master_pid);
}

/* Lets the kernel kill the mold when the master ends: while the application loads, the mold does
 * not read the order pipe, whose EOF tells of that later. */
static void leave_with_master(const struct worker_seed *seed)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!has_master(seed))
        _exit(EXIT_OK);
}

/* Loads the application, for the workers to share. */
static int fill_mold(const struct worker_seed *seed)
{
    was_served = board_is_served(seed->board);
    hints_begin(&board_mold(seed->board, seed->generation)->hints);
    if (ready_application(seed->config, seed->listeners, seed->cause) < 0)
        return -1;
    return prepare_fork(-1);
}

static bool has_workers(const struct worker_seed *seed)
{
    for (unsigned i = 0; i < seed->board->workers; i++) {
        const struct board_worker *slot = &seed->board->worker[i];
        pid_t pid = atomic_load(&slot->pid);
        if (atomic_load(&slot->generation) == seed->generation && pid > 0 && kill(pid, 0) == 0)
            return true;
    }
    return false;
}

/* Ends what the application has in the mold. The master has waited until the workers of the
 * generation are gone. Where the end of the pipe was the master's own, the mold waits, as its
 * workers may still answer: the kernel closes the pipe before it gives the mold another parent, so
 * it does not ask for that. */
static NORETURN void end_mold(const struct worker_seed *seed, enum exit_status status)
{
    uint64_t now = now_ns(), limit_ns = seed->config->graceful_timeout_ms * NS_PER_MS;
    uint64_t due_ns = atomic_load(&seed->board->stopping) ? atomic_load(&seed->board->leave_by_ns)
                                                          : now + limit_ns;
    (void)process_take_signals(false);
    hooks_await_end(due_ns);
    if (!seed->config->preload)
        _exit((int)status);
    while (has_workers(seed) && now_ns() < now + limit_ns)
        nanosleep(&(struct timespec){.tv_nsec = LOOK_NS}, NULL);
    ending_leave(status, due_ns, "");
}

/* As long as this process had them open, clients could connect. */
static void close_listeners(const struct worker_seed *seed)
{
    for (size_t i = 0; i < seed->listeners->count; i++)
        close(seed->listeners->items[i].fd);
}

static void follow(struct fork_job *job, const struct mold_order *order)
{
    switch ((enum mold_order_kind)order->kind) {
    case MOLD_FORK:
        assert(order->slot < job->seed.board->workers);
        job->seed.slot = order->slot;
        fork_worker(job);
        break;
    case MOLD_NO_MORE:
        close_listeners(&job->seed);
        break;
    case MOLD_SERVES:
    case MOLD_GONE:
        hooks_take(&job->seed, job->order_fd, order);
        break;
    case MOLD_REPLACED:
        hooks_end();
        break;
    }
}

/* Follows the orders, until the master closes the pipe. Then the workers of the generation
 * are gone, or the master is. */
static NORETURN void take_orders(const struct worker_seed *seed, int order_fd)
{
    struct fork_job job = {.seed = *seed, .order_fd = order_fd};
    struct mold_order order;
    struct board_mold *shown = board_mold(seed->board, seed->generation);
    snprintf(shown->access_logformat, sizeof shown->access_logformat, "%s",
             seed->config->access_logformat);
    prctl(PR_SET_PDEATHSIG, 0); /* from here on the end of the pipe tells */
    say_taken(seed, false);
    announce(seed, BOARD_MOLD_READY);
    for (;;) {
        if (seed->config->preload)
            wait_for_order(order_fd);
        if (!read_order(order_fd, &order))
            break;
        follow(&job, &order);
    }
    end_mold(seed, EXIT_OK);
}

/* A worker becomes the mold. Until the mold is announced as ready, the master has this process in
 * the book as a draining worker, and takes its end for the worker's. */
static NORETURN void become_mold(const struct worker_seed *worker,
                                 const struct worker_promotion *promotion)
{
    struct worker_seed seed = *worker;
    seed.generation = promotion->generation;
    seed.promotions++;
    board_mold(seed.board, seed.generation)->hints =
        board_mold(seed.board, worker->generation)->hints; /* it is the same application ... */
    memset(board_mold(seed.board, seed.generation)->hints.pages, 0,
           sizeof(((struct hints *)0)->pages)); /* ... and what it has loaded, others find */
    if (prepare_fork(promotion->order_fd) < 0)
        worker_end();
    log_set_process("mold");
    process_set_title("myserver: mold");
    take_orders(&seed, promotion->order_fd);
}

void mold_main(const struct worker_seed *seed, int order_fd)
{
    process_set_title("myserver: mold");
    leave_with_master(seed);
    process_restore_signals();
    atomic_store(&board_mold(seed->board, seed->generation)->hints.began_ns, now_ns());

    int failed = seed->config->preload ? fill_mold(seed) : hooks_load(seed, order_fd);
    if (failed) {
        explain_failure(seed);
        announce(seed, BOARD_MOLD_FAILED);
        end_mold(seed, EXIT_APP);
    }
    take_orders(seed, order_fd);
}

static NORETURN void rehearse_worker(const struct worker_seed *seed)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    log_set_process("worker 1");
    begin_application(seed);
    atomic_store(&seed->board->worker[0].state, BOARD_WORKER_SERVING);
    end_now(seed, EXIT_OK);
}

void mold_rehearse(const struct worker_seed *seed)
{
    int status = 0;
    leave_with_master(seed);
    process_restore_signals();
    if (seed->config->preload && fill_mold(seed) < 0)
        end_mold(seed, EXIT_APP);
    announce(seed, BOARD_MOLD_READY);
    if (seed->config->preload)
        python_before_fork();
    forks_are_own(true);
    pid_t pid = fork();
    if (pid == 0)
        rehearse_worker(seed);
    forks_are_own(false);
    if (seed->config->preload)
        python_after_fork_parent();
    if (pid < 0)
        log_error("cannot fork worker 1: %s", strerror(errno));
    atomic_store(&seed->board->worker[0].pid, pid);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (pid > 0 && atomic_load(&seed->board->worker[0].state) != BOARD_WORKER_SERVING)
        log_error("worker 1 (pid %d) died: %s", pid, failure_status(status));
    end_mold(seed, WIFEXITED(status) ? (enum exit_status)WEXITSTATUS(status) : EXIT_CRASH);
}
