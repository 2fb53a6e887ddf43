/* late.c: processes that have not reached their next state in time. Owns no state. */
#include "late.h"

#include "base/log.h"
#include "book.h"
#include "leaver.h"
#include "obituary.h"
#include "shared/board.h"
#include "shared/failure.h"
#include "system/process.h"
#include "trial.h"

#include <signal.h>
#include <stdio.h>

/* The mold has not forked the worker in time: kills the mold, and its end starts another. */
static void on_order_late(struct book *b, struct slot *s)
{
    struct mold *mold = book_mold(b, s->generation);
    if (leaver_kill_mold(b, s->generation))
        return;
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
        kill(s->pid, PROCESS_STACKS_SIGNAL);
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
        obituary_log(b, s, LOG_WARNING, "did not finish in time: killing it");
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
        kill(mold->pid, PROCESS_STACKS_SIGNAL);
        return;
    }
    failure_log_late("the mold", mold->pid);
    kill(mold->pid, SIGKILL);
}

/* From here on its workers have the same deadline as the mold, and are met first. */
static void trial_is_late(struct book *b, struct mold *mold)
{
    if (!is_first_time(b, mold)) {
        trial_failed(b, EXIT_APP, failure_begin(true));
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
    case MOLD_ENDING:
    case MOLD_DRAINING: /* it is still a worker: its slot has the deadline */
        break;
    case MOLD_LOADING:
        loader_is_late(b, mold);
        break;
    case MOLD_READY:
        if (b->scale.wanted > 0)
            trial_is_late(b, mold);
        break; /* paused: no worker is wanted; trial_resume sets another deadline */
    }
}

void late_look(struct book *b)
{
    /* not now_ms(): the master may have been stopped since it looked */
    uint64_t now = b->looked_ms;
    for (unsigned i = 0; i < b->board->workers; i++)
        if (b->slots[i].deadline_ms <= now)
            slot_is_late(b, &b->slots[i]);
    for (unsigned i = 0; i < ARRAY_LEN(b->molds); i++)
        if (b->molds[i].deadline_ms <= now)
            mold_is_late(b, &b->molds[i]);
    leaver_meet_deadlines(b);
}
