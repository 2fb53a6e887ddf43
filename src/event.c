/* event.c: what happens to the server, and what follows from it at once.
 *
 * Signals to stop, deaths of children, news on the board, deadlines that pass: each is written into
 * the book and said in the log. Decides only what the event means, for instance that a start has
 * failed or that a reload is complete. What is done next, master.c decides.
 *
 * Does not believe the board, which a child can damage: a pid from there is used only when the
 * kernel says that it is a child of the master. Never forks, never waits. Runs in the master
 * only. */
#include "event.h"

#include "base/buf.h"
#include "base/log.h"
#include "config/settings.h"
#include "cut.h"
#include "master/book.h"
#include "master/refork.h"
#include "shared/board.h"
#include "shared/failure.h"
#include "shared/report.h"
#include "system/listen.h"
#include "system/notify.h"
#include "wanted.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PROVEN_MS   1000 /* a process that has run this long did not fail at start */
#define START_TRIES 3

static void begin_stop(struct book *b)
{
    /* Before any worker is told to leave: workers read here whether siblings go on serving. */
    atomic_store(&b->board->stopping, true);
    upgrade_call_off(b);
    /* While two masters serve, the other one goes on and accepts the connections that wait in the
     * kernel. */
    if (!b->upgrade.left && b->upgrade.predecessor == 0) {
        notify_send("STOPPING=1");
        atomic_store(&b->board->last_call, true);
        listen_begin_close(&b->listeners);
    }
    /* Nobody would answer a client that connects from now on: closing lets the kernel refuse it. */
    listen_close(&b->listeners, true);
}

static void stop_gracefully(struct book *b)
{
    uint64_t deadline_ms = now_ms() + b->config->graceful_timeout_ms;
    log_info("stopping");
    begin_stop(b);
    b->stop = STOP_GRACEFUL;
    for (unsigned i = 0; i < ARRAY_LEN(b->molds); i++) {
        bool loading = b->molds[i].state == MOLD_LOADING;
        book_end_mold(&b->molds[i], loading ? SIGKILL : SIGTERM, deadline_ms);
    }
}

static void stop_quickly(struct book *b)
{
    if (b->stop == STOP_NOT) {
        log_info("stopping at once");
        begin_stop(b);
    } else {
        log_info("stopping at once, not waiting any longer");
    }
    b->stop = STOP_QUICK;
    for (unsigned i = 0; i < ARRAY_LEN(b->molds); i++)
        book_end_mold(&b->molds[i], SIGKILL, BOOK_NEVER);
    for (unsigned i = 0; i < b->board->workers; i++) {
        struct slot *s = &b->slots[i];
        if (s->pid > 0 && !(s->state == SLOT_STARTING && book_call_off_slot(b, s)))
            book_drain_slot(s, SIGQUIT, BOOK_QUICK_MS);
    }
}

void event_stop(struct book *b, bool quick)
{
    if (quick && b->stop != STOP_QUICK)
        stop_quickly(b);
    else if (b->stop == STOP_NOT)
        stop_gracefully(b);
}

/* With the option `reload` the developer will change a file, and that change starts a mold
 * again. */
static void refuse_to_start(struct book *b, enum exit_status status, const char *why)
{
    if (b->config->reload) {
        log_error("cannot start: %s; waiting for a change", why);
        b->mold_starts.not_before_ms = BOOK_NEVER;
        return;
    }
    log_critical("cannot start: %s", why);
    b->exit_status = (int)status;
    stop_quickly(b);
}

/* ---- generations ---- */

/* The trial of a new mold is over: one of its workers serves. */
static void end_trial(struct book *b)
{
    b->trial = false;
    b->mold_starts = (struct delay){0};
    book_current_mold(b)->deadline_ms = BOOK_NEVER;
    book_end_mold(book_other_mold(b), SIGTERM, now_ms() + BOOK_QUICK_MS);
    if (b->served && b->reloading)
        log_info("%s: generation %u serves, replacing the workers before it",
                 b->reforking ? "refork" : "reload", b->generation);
    b->replacing = b->replacing || b->reloading;
    wanted_configure(b);
    b->served = true;
    b->reloading = b->reforking = false;
}

/* A mold or its first worker failed before the trial was over. */
static void fail_trial(struct book *b, enum exit_status status, const char *why)
{
    book_end_mold(book_current_mold(b), SIGKILL, BOOK_NEVER);
    if (!b->served)
        refuse_to_start(b, status, why);
    else
        log_error("%s failed: %s; generation %u goes on", b->reforking ? "refork" : "reload", why,
                  b->generation - 1);
    b->generation--;
    if (b->reforking)
        b->refork_refused = b->generation;
    b->oldest = b->oldest_before;
    b->trial = false;
    b->reloading = b->reforking = false;
    b->orders = (struct delay){0};
    notify_reloaded();
}

static void adopt_mold(struct book *b, struct mold *mold)
{
    mold->state = MOLD_READY;
    mold->asked = false;
    b->generation = mold->generation;
    b->trial = b->reloading || !b->served;
    b->orders = (struct delay){0};
    if (b->reloading) {
        b->oldest_before = b->oldest;
        b->oldest = mold->generation;
    } else if (b->served) {
        /* it replaces a mold that died; no trial, because the workers still serve */
        mold->deadline_ms = BOOK_NEVER;
        wanted_configure(b);
    }
}

static void on_load_failed(struct book *b, int status, bool was_late)
{
    const char *why = failure_load(status, was_late);
    if (!b->served) {
        refuse_to_start(b, failure_exit(status), why);
        return;
    }
    book_count_failure(&b->mold_starts);
    if (b->reloading)
        log_error("reload failed: %s; generation %u goes on", why, b->generation);
    else
        log_error("no new mold: %s; the workers go on", why);
    b->reloading = false;
    notify_reloaded();
}

/* ---- deaths ---- */

/* `status` is the worker's end. A worker that has loaded the application itself and says that this
 * failed is as good a reason to give up as a mold that says so. */
static void on_start_failure(struct book *b, uint32_t generation, int status)
{
    /* Workers that die together, before the delay is over, count as one failure. */
    if (now_ms() >= b->orders.not_before_ms)
        book_count_failure(&b->orders);
    if (!b->trial || generation != b->generation)
        return;
    if (!b->config->preload && failure_is_said(status))
        fail_trial(b, failure_exit(status), failure_load(status, false));
    else if (b->reloading)
        fail_trial(b, EXIT_APP, failure_begin(false));
    else if (b->orders.failures >= START_TRIES)
        fail_trial(b, EXIT_APP, "no worker lives long enough to serve");
}

/* Logs one record: what happened to the worker, and the requests it was running; if there are any,
 * it is a warning at least. */
PRINTF_LIKE(4, 5)
static void log_with_requests(struct book *b, const struct slot *s, enum log_level level,
                              const char *format, ...)
{
    struct buf running = {0};
    char what[160];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    report_running(&running, b->board, book_number(b, s) - 1, REPORT_ALL, 0);
    if (running.len > 0 && level < LOG_WARNING)
        level = LOG_WARNING;
    log_block(level, running.data, running.len, "worker %u (pid %d) %s%s", book_number(b, s),
              s->pid, what, running.len > 0 ? "; it was running" : "");
    buf_fini(&running);
}

static const char *origin(const struct slot *s, int status)
{
    bool foreign = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && !s->killed;
    return foreign ? ", which the kernel sends when memory runs out (dmesg tells)" : "";
}

static enum board_end end_of(const struct book *b, const struct slot *s, bool left)
{
    switch (s->retire) {
    case BOARD_RETIRE_NOT:
        break;
    case BOARD_RETIRE_REQUESTS:
        return left ? BOARD_END_REQUESTS : BOARD_END_CRASH;
    case BOARD_RETIRE_LIFETIME:
        return left ? BOARD_END_LIFETIME : BOARD_END_CRASH;
    case BOARD_RETIRE_MEMORY:
        return left ? BOARD_END_MEMORY : BOARD_END_CRASH;
    case BOARD_RETIRE_REFORK:
        return left ? BOARD_END_REFORK : BOARD_END_CRASH;
    case BOARD_RETIRE_STUCK:
        return BOARD_END_STUCK;
    }
    if (!left)
        return BOARD_END_CRASH;
    return book_is_older(b, s) ? BOARD_END_RELOAD : BOARD_END_STOP;
}

/* It ended as it was told to. */
static bool has_left(const struct book *b, const struct slot *s, int status)
{
    if (s->state != SLOT_DRAINING)
        return false;
    if (!WIFSIGNALED(status))
        return WEXITSTATUS(status) == 0;
    if (WTERMSIG(status) == SIGKILL)
        return s->killed; /* because it was late: slot_is_late has logged a warning */
    /* A worker that does not serve yet has no handlers for these two. */
    return (WTERMSIG(status) == SIGTERM || WTERMSIG(status) == SIGQUIT) &&
           atomic_load(&book_shown(b, s)->state) < BOARD_WORKER_SERVING;
}

static void on_worker_exit(struct book *b, struct slot *s, int status)
{
    bool failed = s->state != SLOT_DRAINING && !s->proven;
    uint32_t generation = s->generation;
    bool left = has_left(b, s, status);
    atomic_fetch_add(&b->board->ends[end_of(b, s, left)], 1);
    if (left && s->killed) /* slot_is_late has named the requests */
        log_info("worker %u (pid %d) left", book_number(b, s), s->pid);
    else if (left)
        log_with_requests(b, s, LOG_INFO, "left");
    else
        log_with_requests(b, s, LOG_ERROR, "died: %s%s", failure_status(status), origin(s, status));
    cut_record(b, s);
    book_clear_slot(b, s);
    if (failed && b->stop == STOP_NOT)
        on_start_failure(b, generation, status);
}

/* The mold has ended and will not carry out its open orders. A middle process of its double fork
 * may still live: the slot's pid decides. If this function sets it to -1 first, there will be no
 * worker; if the middle process or the worker sets it first, there is one. */
static void give_up_orders(struct book *b, uint32_t generation)
{
    for (unsigned i = 0; i < b->board->workers; i++) {
        struct slot *s = &b->slots[i];
        int32_t none = 0;
        if (s->state == SLOT_ORDERED && s->generation == generation)
            atomic_compare_exchange_strong(&book_shown(b, s)->pid, &none, -1);
    }
}

static void on_mold_exit(struct book *b, struct mold *mold, int status)
{
    enum mold_state before = mold->state;
    bool current = mold == book_current_mold(b);
    bool was_late = mold->asked;
    pid_t pid = mold->pid;
    give_up_orders(b, mold->generation);
    book_clear_mold(mold);
    if (before == MOLD_ENDING)
        return;
    if (before == MOLD_LOADING) {
        on_load_failed(b, status, was_late);
        return;
    }
    log_error("the mold (pid %d) died: %s", pid, failure_status(status));
    book_count_failure(&b->mold_starts);
    if (current && b->trial)
        fail_trial(b, EXIT_APP, "the mold died before a worker served");
}

static void on_control_exit(struct book *b, int status)
{
    log_error("the control process (pid %d) died: %s", b->control_pid, failure_status(status));
    b->control_pid = 0;
    if (now_ms() - b->control_started_ms > PROVEN_MS)
        b->control_starts = (struct delay){0};
    book_count_failure(&b->control_starts);
}

/* Orphans of the application become children of the master too (subreaper). They are reaped and
 * kept as strangers, because one may be a worker that adopt_worker has not seen yet. */
static void on_child_exit(struct book *b, pid_t pid, int status)
{
    if (upgrade_on_exit(b, pid, status, failure_status(status)))
        return;
    if (pid == b->control_pid) {
        on_control_exit(b, status);
        return;
    }
    refork_on_exit(b, pid);
    for (unsigned i = 0; i < ARRAY_LEN(b->molds); i++)
        if (b->molds[i].pid == pid) {
            on_mold_exit(b, &b->molds[i], status);
            return;
        }
    for (unsigned i = 0; i < b->board->workers; i++)
        if (b->slots[i].pid == pid) {
            on_worker_exit(b, &b->slots[i], status);
            return;
        }
    book_remember_stranger(b, pid, status);
}

void event_reap(struct book *b)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        on_child_exit(b, pid, status);
}

/* ---- what the board says ---- */

/* Whether `pid` is a child of the master. A new worker is not, as long as the middle process of the
 * double fork, its parent, has not ended. */
static bool is_our_child(pid_t pid)
{
    siginfo_t info;
    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

/* `pid` is no child of the master. If it is a worker that was reaped as a stranger before its slot
 * was read, this records its start and its end. */
static void bury_stranger(struct book *b, struct slot *s, pid_t pid)
{
    if (kill(pid, 0) == 0)
        /* it is alive, and still a child of the middle process; a stranger had its pid before */
        return;
    int status;
    if (book_take_stranger(b, pid, &status)) {
        s->pid = pid;
        atomic_fetch_add(&book_shown(b, s)->spawns, 1);
        on_worker_exit(b, s, status);
    }
}

static void adopt_worker(struct book *b, struct slot *s)
{
    pid_t pid = atomic_load(&book_shown(b, s)->pid);
    if (pid == 0)
        return;
    if (pid < 0) {
        uint32_t generation = s->generation;
        book_clear_slot(b, s);
        if (b->stop == STOP_NOT)
            on_start_failure(b, generation, 0);
    } else if (!book_knows(b, pid) && is_our_child(pid)) {
        s->pid = pid;
        s->state = SLOT_STARTING;
        atomic_fetch_add(&book_shown(b, s)->spawns, 1);
        atomic_store(&book_shown(b, s)->spawned_s, (uint64_t)time(NULL));
    } else {
        bury_stranger(b, s, pid);
    }
}

static void on_worker_serves(struct book *b, struct slot *s)
{
    s->state = SLOT_SERVING;
    s->deadline_ms = now_ms() + PROVEN_MS;
    log_info("worker %u (pid %d) serves", book_number(b, s), s->pid);
    if (b->trial && s->generation == b->generation)
        end_trial(b);
    else if (s->generation == b->generation)
        b->mold_starts = (struct delay){0};
}

/* NULL: the worker has written no valid reason on the board. */
static const char *retire_text(enum board_retire reason)
{
    switch (reason) {
    case BOARD_RETIRE_NOT:
        break;
    case BOARD_RETIRE_REQUESTS:
        return "it has answered max-requests";
    case BOARD_RETIRE_LIFETIME:
        return "it has reached max-worker-lifetime";
    case BOARD_RETIRE_MEMORY:
        return "it has more private memory than max-worker-memory";
    case BOARD_RETIRE_REFORK:
        return "it is to become the mold";
    case BOARD_RETIRE_STUCK:
        return "a request is stuck";
    }
    return NULL;
}

void event_retire(struct book *b, struct slot *s, enum board_retire reason)
{
    const char *text = retire_text(reason);
    bool is_news = s->retire == BOARD_RETIRE_NOT ||
                   (reason == BOARD_RETIRE_STUCK && s->retire != BOARD_RETIRE_STUCK);
    if (text == NULL || s->state != SLOT_SERVING || !is_news)
        return;
    if (reason == BOARD_RETIRE_REFORK && !refork_may_begin(b, s))
        return;
    log_info("replacing worker %u (pid %d): %s", book_number(b, s), s->pid, text);
    s->retire = reason;
    s->retired_ms = now_ms();
    if (reason == BOARD_RETIRE_STUCK)
        book_drain_slot(s, SIGTERM, b->config->graceful_timeout_ms);
}

/* A pid on the board is checked by adopt_worker. */
void event_read_board(struct book *b)
{
    struct mold *loading = book_other_mold(b);
    bool may_be_ready = loading->state == MOLD_LOADING || loading->state == MOLD_DRAINING;
    if (may_be_ready &&
        atomic_load(&b->board->molds[loading->generation % 2].state) == BOARD_MOLD_READY &&
        (loading->state == MOLD_LOADING || refork_adopt(b, loading)))
        adopt_mold(b, loading);
    for (unsigned i = 0; i < b->board->workers; i++) {
        struct slot *s = &b->slots[i];
        if (s->state == SLOT_ORDERED)
            adopt_worker(b, s);
        if (s->state == SLOT_STARTING && b->stop == STOP_NOT &&
            atomic_load(&book_shown(b, s)->state) == BOARD_WORKER_SERVING)
            on_worker_serves(b, s);
        if (s->state == SLOT_SERVING)
            event_retire(b, s, (enum board_retire)atomic_load(&book_shown(b, s)->retire));
    }
}

/* ---- deadlines ---- */

/* The mold has not forked the worker in time: kills the mold, and its end starts another. */
static void on_order_late(struct book *b, struct slot *s)
{
    struct mold *mold = &b->molds[s->generation % 2];
    if (mold->state == MOLD_NONE || mold->generation != s->generation) {
        book_clear_slot(b, s);
        return;
    }
    log_error("the mold does not fork worker %u: killing the mold", book_number(b, s));
    kill(mold->pid, SIGKILL);
}

static void starter_is_late(const struct book *b, struct slot *s)
{
    char name[32];
    if (!s->asked) {
        s->asked = true;
        s->deadline_ms = b->looked_ms + FAILURE_STACKS_MS;
        kill(s->pid, REPORT_STACKS_SIGNAL);
        return;
    }
    snprintf(name, sizeof name, "worker %u", book_number(b, s));
    failure_log_late(name, s->pid);
    book_kill_slot(s);
}

static void slot_is_late(struct book *b, struct slot *s)
{
    s->deadline_ms = BOOK_NEVER;
    switch (s->state) {
    case SLOT_EMPTY:
        break;
    case SLOT_ORDERED:
        on_order_late(b, s);
        break;
    case SLOT_STARTING:
        starter_is_late(b, s);
        break;
    case SLOT_SERVING:
        s->proven = true;
        b->orders = (struct delay){0};
        break;
    case SLOT_DRAINING:
        log_with_requests(b, s, LOG_WARNING, "did not finish in time: killing it");
        book_kill_slot(s);
        break;
    }
}

/* True the first time: it is to be asked for its stacks, and to be killed when it is late again. */
static bool is_first_time(const struct book *b, struct mold *mold)
{
    bool is_first = !mold->asked;
    mold->asked = true;
    if (is_first)
        mold->deadline_ms = b->looked_ms + FAILURE_STACKS_MS;
    return is_first;
}

static void loader_is_late(const struct book *b, struct mold *mold)
{
    if (is_first_time(b, mold)) {
        kill(mold->pid, REPORT_STACKS_SIGNAL);
        return;
    }
    failure_log_late("the mold", mold->pid);
    kill(mold->pid, SIGKILL);
}

/* From here on its workers have the same deadline as the mold, and are met first. */
static void trial_is_late(struct book *b, struct mold *mold)
{
    if (!is_first_time(b, mold)) {
        fail_trial(b, EXIT_APP, failure_begin(true));
        return;
    }
    for (unsigned i = 0; i < b->board->workers; i++)
        if (b->slots[i].state == SLOT_STARTING && b->slots[i].generation == mold->generation &&
            !b->slots[i].asked)
            starter_is_late(b, &b->slots[i]);
}

static void mold_is_late(struct book *b, struct mold *mold)
{
    mold->deadline_ms = BOOK_NEVER;
    switch (mold->state) {
    case MOLD_NONE:
    case MOLD_DRAINING: /* it is still a worker: its slot has the deadline */
        break;
    case MOLD_LOADING:
        loader_is_late(b, mold);
        break;
    case MOLD_READY:
        if (b->wanted > 0)
            trial_is_late(b, mold);
        break; /* paused: no worker is wanted; wanted_resume sets another deadline */
    case MOLD_ENDING:
        kill(mold->pid, SIGKILL);
        break;
    }
}

void event_meet_deadlines(struct book *b)
{
    /* not now_ms(): the master may have been stopped since it looked */
    uint64_t now = b->looked_ms;
    for (unsigned i = 0; i < b->board->workers; i++)
        if (b->slots[i].deadline_ms <= now)
            slot_is_late(b, &b->slots[i]);
    for (unsigned i = 0; i < ARRAY_LEN(b->molds); i++)
        if (b->molds[i].deadline_ms <= now)
            mold_is_late(b, &b->molds[i]);
}
