/* reap.c: children that have ended, and what their ends mean.
 *
 * Owns no state. Decides only what an end means: a failed start, a crash, or that the process has
 * left as it was told. What is done next, master.c decides. Never waits. */
#include "reap.h"

#include "base/buf.h"
#include "base/log.h"
#include "book.h"
#include "config/settings.h"
#include "leaver.h"
#include "obituary.h"
#include "refork.h"
#include "shared/board.h"
#include "shared/failure.h"
#include "shared/report.h"
#include "shared/samples.h"
#include "stop.h"
#include "told.h"
#include "trial.h"
#include "upgrade.h"

#include <signal.h>
#include <sys/wait.h>

static const char *origin(const struct slot *s, int status)
{
    bool foreign = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && !s->killed;
    return foreign ? ", which the kernel sends when memory runs out (dmesg tells)" : "";
}

/* A worker that was given up as stuck is no crash, however it ends. */
static enum board_end end_of(const struct book *b, const struct slot *s, bool left)
{
    return left || s->retire == BOARD_RETIRE_STUCK ? book_end_of(b, s) : BOARD_END_CRASH;
}

/* It ended as it was told to. */
static bool has_left(const struct book *b, const struct slot *s, int status)
{
    if (s->state != SLOT_DRAINING)
        return false;
    if (atomic_load(&book_shown(b, s)->state) == BOARD_WORKER_ENDING)
        return true;
    if (!WIFSIGNALED(status))
        return WEXITSTATUS(status) == 0;
    if (WTERMSIG(status) == SIGKILL)
        return s->killed; /* because it was late: slot_is_late has logged a warning */
    /* A worker that does not serve yet has no handlers for these two. */
    return (WTERMSIG(status) == SIGTERM || WTERMSIG(status) == SIGQUIT) &&
           atomic_load(&book_shown(b, s)->state) < BOARD_WORKER_SERVING;
}

/* It has died: says so, and keeps what is known of its last minutes. */
static void mourn(struct book *b, const struct slot *s, int status)
{
    struct buf running = {0};
    unsigned number = 0;
    obituary_log(b, s, LOG_ERROR, "died: %s%s", failure_status(status), origin(s, status));
    report_running(&running, b->board, book_number(b, s) - 1, REPORT_ALL, 0);
    if (b->board->samples)
        number = samples_keep(b->board->samples, book_number(b, s) - 1, failure_status(status),
                              (struct text){running.data, running.len});
    if (number && b->config->control)
        log_info("what worker %u did before it died: myserver crash %u", book_number(b, s), number);
    buf_fini(&running);
}

void reap_worker(struct book *b, struct slot *s, int status)
{
    bool failed = s->state != SLOT_DRAINING && !s->proven;
    uint32_t generation = s->generation;
    bool left = has_left(b, s, status);
    enum board_end end = end_of(b, s, left);
    atomic_fetch_add(&b->board->ends[end], 1);
    told_end(b, book_number(b, s), s->pid, end, status);
    if (left && s->killed) /* slot_is_late has named the requests */
        log_info("worker %u (pid %d) left", book_number(b, s), s->pid);
    else if (left)
        obituary_log(b, s, LOG_INFO, "left");
    else
        mourn(b, s, status);
    obituary_write(b, s);
    book_clear_slot(b, s);
    if (failed && b->stop == STOP_NOT)
        trial_worker_failed(b, generation, status);
}

void reap_let_go(struct book *b, struct slot *s)
{
    enum board_end end = end_of(b, s, true);
    if (s->state == SLOT_DRAINING && atomic_load(&book_shown(b, s)->state) == BOARD_WORKER_ENDING &&
        leaver_take_worker(b, s, end))
        atomic_fetch_add(&b->board->ends[end], 1);
}

static void on_mold_exit(struct book *b, struct mold *mold, int status)
{
    enum mold_state before = mold->state;
    bool current = mold == book_current_mold(b);
    bool was_late = mold->asked;
    pid_t pid = mold->pid;
    book_give_up_orders(b, mold->generation);
    book_clear_mold(mold);
    if (before == MOLD_ENDING)
        return;
    if (before == MOLD_LOADING) {
        trial_load_failed(b, status, was_late);
        return;
    }
    log_error("the mold (pid %d) died: %s", pid, failure_status(status));
    book_count_failure(&b->mold_starts);
    if (current && b->phase == PHASE_TRIAL)
        trial_failed(b, EXIT_APP, "the mold died before a worker served");
}

static void on_control_exit(struct book *b, int status)
{
    log_error("the control process (pid %d) died: %s", b->control_pid, failure_status(status));
    b->control_pid = 0;
    if (now_ms() - b->control_started_ms > REAP_PROVEN_MS)
        b->control_starts = (struct delay){0};
    book_count_failure(&b->control_starts);
}

static void on_scribe_exit(struct book *b, int status)
{
    log_error("the scribe (pid %d) died: %s", b->scribe_pid, failure_status(status));
    b->scribe_pid = 0;
    if (now_ms() - b->scribe_started_ms > REAP_PROVEN_MS)
        b->scribe_starts = (struct delay){0};
    book_count_failure(&b->scribe_starts);
}

/* False: it was not the successor. */
static bool on_successor_exit(struct book *b, pid_t pid, int status)
{
    const char *and_now = b->stop == STOP_NOT ? "; this one goes on" : "";
    switch (upgrade_on_exit(&b->upgrade, pid, status, failure_status(status), and_now)) {
    case UPGRADE_OTHER:
        return false;
    case UPGRADE_FAILED:
        b->pidfile.written = false; /* the new master may have written its own pid */
        break;
    case UPGRADE_LEFT:
        stop_for_successor(b);
        break;
    case UPGRADE_GONE:
        break;
    }
    return true;
}

/* Orphans of the application become children of the master too (subreaper). They are reaped and
 * kept as strangers, because one may be a worker that adopt_worker has not seen yet. */
static void on_child_exit(struct book *b, pid_t pid, int status)
{
    if (on_successor_exit(b, pid, status))
        return;
    if (pid == b->control_pid) {
        on_control_exit(b, status);
        return;
    }
    if (pid == b->scribe_pid) {
        on_scribe_exit(b, status);
        return;
    }
    refork_on_exit(b, pid);
    for (unsigned i = 0; i < b->board->workers; i++)
        reap_let_go(b, &b->slots[i]);
    if (leaver_on_exit(b, pid, status))
        return;
    for (unsigned i = 0; i < ARRAY_LEN(b->molds); i++)
        if (b->molds[i].pid == pid) {
            on_mold_exit(b, &b->molds[i], status);
            return;
        }
    for (unsigned i = 0; i < b->board->workers; i++)
        if (b->slots[i].pid == pid) {
            reap_worker(b, &b->slots[i], status);
            return;
        }
    book_remember_stranger(b, pid, status);
}

void reap_children(struct book *b)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        on_child_exit(b, pid, status);
}
