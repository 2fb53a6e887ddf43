/* trial.c: generations of the application.
 *
 * Owns what the phases mean (book.h): when a change of generation has succeeded, and how one that
 * fails is undone. Never starts a mold or a worker: master.c does. */
#include "trial.h"

#include "base/log.h"
#include "book.h"
#include "config/settings.h"
#include "leaver.h"
#include "scale.h"
#include "shared/board.h"
#include "shared/failure.h"
#include "stop.h"
#include "system/notify.h"
#include "told.h"

#include <signal.h>

#define START_TRIES 3

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
    stop_server(b, true);
}

/* The settings of the new generation may want another number of workers. */
static void configure(struct book *b)
{
    struct board_mold *mold = board_mold(b->board, b->generation);
    scale_configure(&b->scale, atomic_load(&mold->workers), atomic_load(&mold->workers_min));
}

/* After a refork the new mold has all that the mold before had, and ends it. */
static void end_mold_before(struct book *b)
{
    struct mold *before = book_other_mold(b);
    if (b->cause == CAUSE_REFORK || before->state != MOLD_READY)
        book_kill_mold(before);
    else
        leaver_take_mold(b, before);
}

/* The trial of a new mold is over: one of its workers serves. */
void trial_passed(struct book *b)
{
    b->mold_starts = (struct delay){0};
    book_current_mold(b)->deadline_ms = BOOK_NEVER;
    told_serves(b);
    end_mold_before(b);
    if (b->served && book_reloads(b))
        log_info("%s: generation %u serves, replacing the workers before it",
                 b->cause == CAUSE_REFORK ? "refork" : "reload", b->generation);
    b->replacing |= book_reloads(b);
    configure(b);
    b->served = true;
    book_settle(b);
}

/* A mold or its first worker failed before the trial was over. */
void trial_failed(struct book *b, enum exit_status status, const char *why)
{
    /* What a worker that became the mold has, the mold before has too. */
    if (book_current_mold(b)->state == MOLD_READY && b->cause != CAUSE_REFORK && leaver_has_room(b))
        leaver_take_mold(b, book_current_mold(b));
    else
        book_kill_mold(book_current_mold(b));
    if (!b->served)
        refuse_to_start(b, status, why);
    else
        log_error("%s failed: %s; generation %u goes on",
                  b->cause == CAUSE_REFORK ? "refork" : "reload", why, b->generation - 1);
    b->generation--;
    if (b->cause == CAUSE_REFORK)
        b->refork_refused = b->generation;
    b->oldest = b->oldest_before;
    book_settle(b);
    b->orders = (struct delay){0};
    notify_reloaded();
}

void trial_begin(struct book *b, struct mold *mold)
{
    mold->state = MOLD_READY;
    mold->asked = false;
    b->generation = mold->generation;
    b->phase = book_reloads(b) || !b->served ? PHASE_TRIAL : PHASE_SETTLED;
    b->orders = (struct delay){0};
    if (book_reloads(b)) {
        b->oldest_before = b->oldest;
        b->oldest = mold->generation;
    } else if (b->served) {
        /* it replaces a mold that died; no trial, because the workers still serve */
        mold->deadline_ms = BOOK_NEVER;
        told_serves(b);
        configure(b);
    }
}

void trial_load_failed(struct book *b, int status, bool was_late)
{
    const char *why = failure_load(status, was_late);
    if (!b->served) {
        refuse_to_start(b, failure_exit(status), why);
        return;
    }
    book_count_failure(&b->mold_starts);
    if (book_reloads(b))
        log_error("reload failed: %s; generation %u goes on", why, b->generation);
    else
        log_error("no new mold: %s; the workers go on", why);
    book_settle(b);
    notify_reloaded();
}

/* `status` is the worker's end. A worker that has loaded the application itself and says that this
 * failed is as good a reason to give up as a mold that says so. */
void trial_worker_failed(struct book *b, uint32_t generation, int status)
{
    /* Workers that die together, before the delay is over, count as one failure. */
    if (now_ms() >= b->orders.not_before_ms)
        book_count_failure(&b->orders);
    if (b->phase != PHASE_TRIAL || generation != b->generation)
        return;
    if (!b->config->preload && failure_is_said(status))
        trial_failed(b, failure_exit(status), failure_load(status, false));
    else if (book_reloads(b))
        trial_failed(b, EXIT_APP, failure_begin(false));
    else if (b->orders.failures >= START_TRIES)
        trial_failed(b, EXIT_APP, "no worker lives long enough to serve");
}

void trial_resume(struct book *b)
{
    if (b->phase == PHASE_TRIAL)
        book_current_mold(b)->deadline_ms = now_ms() + b->config->startup_timeout_ms;
}
