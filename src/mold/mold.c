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
#include "python/module.h"
#include "python/python.h"
#include "python/wsgi.h"
#include "shared/board.h"
#include "shared/failure.h"
#include "system/forks.h"
#include "system/listen.h"
#include "system/process.h"
#include "warm.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Workers served while this mold warmed the application up, and could answer requests that the
 * application made to the server itself. */
static bool was_served;

/* What fork_worker hands down to the worker. Signals are blocked over the forks, so that none ends
 * the worker before it has claimed its slot. */
struct fork_job {
    struct worker_seed seed; /* the worker's */
    int order_fd;            /* the mold's, for the worker to close */
    sigset_t mask;           /* of the mold, to be restored */
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

/* Loads and warms the application in this process; `root`: see warm_mold. Returns 0, or -1 after
 * the reason went to the log. */
static int ready_application(const struct config *config, const struct listeners *listeners,
                             _Atomic uint32_t *root)
{
    python_start(config);
    forks_follow(listeners);
    struct _object *application = python_load(config);
    if (!application || wsgi_init(config, listeners, application) < 0)
        return -1;
    bool is_warm = warm_mold(config, root) == WARM_OK;
    leave_if_copy();
    return is_warm ? 0 : -1;
}

/* Runs the application's hooks and prepares the heap. From here on the forks are the mold's own. */
static int prepare_fork(const struct config *config, bool has_served)
{
    int result = python_prepare_fork(config, has_served);
    leave_if_copy();
    forks_ignore();
    return result;
}

static _Atomic uint32_t *known_root(const struct worker_seed *seed)
{
    return &seed->board->molds[seed->generation % 2].root;
}

/* False: a page that sends requests to the server itself could block, since no worker serves now,
 * while some did when the mold warmed up. */
static bool may_warm_up(const struct worker_seed *seed)
{
    return !was_served || board_is_served(seed->board);
}

/* Readies the application in the worker: the copy of the mold's, or without preload one of its own;
 * then one round of warm-up, so that no user's request waits for the first page faults. */
static void begin_application(const struct worker_seed *seed)
{
    if (seed->config->preload)
        python_after_fork_child();
    else if (ready_application(seed->config, seed->listeners, known_root(seed)) < 0)
        _exit(EXIT_APP);
    forks_follow(seed->listeners);
    pymodule_set_worker(seed->slot + 1);
    if (python_begin_worker() < 0)
        _exit(EXIT_APP);
    if (seed->config->preload && may_warm_up(seed))
        warm_worker(seed->config);
    leave_if_copy();
    python_begin_reports(&seed->board->molds[seed->generation % 2]);
}

static NORETURN void become_mold(const struct worker_seed *worker,
                                 const struct worker_promotion *promotion);

static NORETURN void become_worker(const struct fork_job *job)
{
    const struct worker_seed *seed = &job->seed;
    struct board_worker *slot = &seed->board->worker[seed->slot];
    if (!claim_slot(slot, getpid()))
        _exit(EXIT_OK);
    close(job->order_fd);
    atomic_store(&slot->generation, seed->generation);
    atomic_store(&slot->state, BOARD_WORKER_STARTING);
    log_set_process("worker %u", seed->slot + 1);
    process_set_title("myserver: worker %u [%s] starting", seed->slot + 1, seed->config->app);
    process_set_signals(); /* before the application runs: its children inherit the mask */
    begin_application(seed);
    struct worker_promotion promotion = worker_main(seed);
    become_mold(seed, &promotion);
}

static NORETURN void run_middle(const struct fork_job *job)
{
    struct board_worker *slot = &job->seed.board->worker[job->seed.slot];
    pid_t pid = fork();
    if (pid == 0)
        become_worker(job);
    if (pid < 0)
        log_error("cannot fork worker %u: %s", job->seed.slot + 1, strerror(errno));
    claim_slot(slot, pid); /* if the order was given up, the worker sees it too and leaves */
    _exit(EXIT_OK);
}

/* True when the middle process ended by exit, so that it has claimed the slot. */
static bool wait_for_middle(pid_t middle)
{
    int status = 0;
    /* ECHILD: the application ignores SIGCHLD, and the kernel has reaped the process. */
    while (waitpid(middle, &status, 0) < 0 && errno == EINTR)
        continue;
    return WIFEXITED(status);
}

static void fork_worker(struct fork_job *job)
{
    unsigned slot = job->seed.slot;
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &job->mask);
    bool has_python = job->seed.config->preload;
    if (has_python)
        python_before_fork();
    pid_t middle = fork();
    if (middle == 0)
        run_middle(job);
    if (middle < 0)
        log_error("cannot fork for worker %u: %s", slot + 1, strerror(errno));
    /* Not after a normal exit: a short-lived worker may have been reaped by now, and its slot
     * ordered again. */
    if (middle < 0 || !wait_for_middle(middle))
        claim_slot(&job->seed.board->worker[slot], -1);
    if (has_python)
        python_after_fork_parent();
    sigprocmask(SIG_SETMASK, &job->mask, NULL);
    board_ring(job->seed.board);
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
    atomic_store(&seed->board->molds[seed->generation % 2].state, state);
    board_ring(seed->board);
}

/* Lets the kernel kill the mold when the master ends: while the application loads, the mold does
 * not read the order pipe, whose EOF tells of that later. */
static void leave_with_master(const struct worker_seed *seed)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != atomic_load(&seed->board->master_pid))
        _exit(EXIT_OK);
}

/* Loads the application, for the workers to share, unless each worker loads its own. */
static int fill_mold(const struct worker_seed *seed)
{
    if (!seed->config->preload)
        return 0; /* each worker for itself */
    was_served = board_is_served(seed->board);
    if (ready_application(seed->config, seed->listeners, known_root(seed)) < 0)
        return -1;
    return prepare_fork(seed->config, false);
}

/* Forks a worker per order, until the master closes the pipe. */
static NORETURN void take_orders(const struct worker_seed *seed, int order_fd)
{
    struct fork_job job = {.seed = *seed, .order_fd = order_fd};
    struct mold_order order;
    struct board_mold *shown = &seed->board->molds[seed->generation % 2];
    snprintf(shown->access_logformat, sizeof shown->access_logformat, "%s",
             seed->config->access_logformat);
    announce(seed, BOARD_MOLD_READY);
    while (read_order(order_fd, &order)) {
        assert(order.slot < seed->board->workers);
        job.seed.slot = order.slot;
        fork_worker(&job);
    }
    _exit(EXIT_OK);
}

/* A worker becomes the mold. Until the mold is announced as ready, the master has this process in
 * the book as a draining worker, and takes its end for the worker's. */
static NORETURN void become_mold(const struct worker_seed *worker,
                                 const struct worker_promotion *promotion)
{
    struct worker_seed seed = *worker;
    seed.generation = promotion->generation;
    seed.promotions++;
    if (prepare_fork(seed.config, true) < 0)
        _exit(EXIT_OK);
    log_set_process("mold");
    process_set_title("myserver: mold");
    take_orders(&seed, promotion->order_fd);
}

void mold_main(const struct worker_seed *seed, int order_fd)
{
    process_set_title("myserver: mold");
    leave_with_master(seed);
    process_restore_signals();

    if (fill_mold(seed) < 0) {
        announce(seed, BOARD_MOLD_FAILED);
        _exit(EXIT_APP);
    }
    take_orders(seed, order_fd);
}

static NORETURN void rehearse_worker(const struct worker_seed *seed)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    log_set_process("worker 1");
    begin_application(seed);
    atomic_store(&seed->board->worker[0].state, BOARD_WORKER_SERVING);
    _exit(EXIT_OK);
}

void mold_rehearse(const struct worker_seed *seed)
{
    int status = 0;
    leave_with_master(seed);
    process_restore_signals();
    if (fill_mold(seed) < 0)
        _exit(EXIT_APP);
    announce(seed, BOARD_MOLD_READY);
    if (seed->config->preload)
        python_before_fork();
    pid_t pid = fork();
    if (pid == 0)
        rehearse_worker(seed);
    if (pid < 0)
        log_error("cannot fork worker 1: %s", strerror(errno));
    atomic_store(&seed->board->worker[0].pid, pid);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (pid > 0 && atomic_load(&seed->board->worker[0].state) != BOARD_WORKER_SERVING)
        log_error("worker 1 (pid %d) died: %s", pid, failure_status(status));
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_CRASH);
}
