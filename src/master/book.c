/* book.c: looks things up in the master's book and changes its entries.
 *
 * Owns no state: the book is master.c's. A function that changes an entry because of a signal also
 * sends the signal, so that the two always agree.
 *
 * Never decides anything, never logs. Runs in the master only. */
#include "book.h"

#include "base/logfile.h"
#include "scribe/scribe.h"
#include "shared/board.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIRST_DELAY_MS   100 /* before the second retry; the first is at once */
#define LONGEST_DELAY_MS 10000

unsigned book_number(const struct book *b, const struct slot *s)
{
    return (unsigned)(s - b->slots) + 1;
}

struct board_worker *book_shown(const struct book *b, const struct slot *s)
{
    return &b->board->worker[s - b->slots];
}

struct mold *book_mold(struct book *b, uint32_t generation)
{
    return &b->molds[generation % 2];
}

struct mold *book_current_mold(struct book *b)
{
    return book_mold(b, b->generation);
}

struct mold *book_other_mold(struct book *b)
{
    return book_mold(b, b->generation + 1);
}

bool book_is_older(const struct book *b, const struct slot *s)
{
    return s->generation < b->oldest || s->generation > b->generation;
}

bool book_is_outdated(const struct book *b, const struct slot *s)
{
    return book_is_older(b, s) || s->retire != BOARD_RETIRE_NOT;
}

void book_count_failure(struct delay *d)
{
    d->failures++;
    uint64_t wait_ms = 0;
    if (d->failures > 1)
        wait_ms = FIRST_DELAY_MS << (d->failures - 2 < 10 ? d->failures - 2 : 10);
    if (wait_ms > LONGEST_DELAY_MS)
        wait_ms = LONGEST_DELAY_MS;
    d->not_before_ms = now_ms() + wait_ms;
}

void book_clear_mold(struct mold *mold)
{
    if (mold->order_fd >= 0)
        close(mold->order_fd);
    *mold = (struct mold){.state = MOLD_NONE, .order_fd = -1, .deadline_ms = BOOK_NEVER};
}

void book_end_control(struct book *b)
{
    if (b->control_pid == 0)
        return;
    kill(b->control_pid, SIGKILL); /* SIGKILL ends it at once, so the wait is short */
    waitpid(b->control_pid, NULL, 0);
    b->control_pid = 0;
}

void book_end_scribe(struct book *b)
{
    logfile_unwrap();
    if (b->scribe_pid == 0)
        return;
    kill(b->scribe_pid, SCRIBE_END_SIGNAL); /* it writes what the kernel holds, at most 200 kB */
    waitpid(b->scribe_pid, NULL, 0);
    b->scribe_pid = 0;
}

void book_release_control(struct book *b)
{
    if (b->control_pid > 0)
        kill(b->control_pid, CONTROL_WAKE_SIGNAL);
    b->control_pid = 0;
}

void book_kill_mold(struct mold *mold)
{
    if (mold->state == MOLD_NONE)
        return;
    if (mold->state == MOLD_DRAINING) {
        book_clear_mold(mold);
        return;
    }
    kill(mold->pid, SIGKILL); /* before it can see the end of the pipe, and end what it has */
    if (mold->order_fd >= 0)
        close(mold->order_fd);
    mold->order_fd = -1;
    mold->state = MOLD_ENDING;
    mold->deadline_ms = BOOK_NEVER;
}

/* A middle process of its double fork
 * may still live: the slot's pid decides. If this function sets it to -1 first, there will be no
 * worker; if the middle process or the worker sets it first, there is one. */
void book_give_up_orders(struct book *b, uint32_t generation)
{
    for (unsigned i = 0; i < b->board->workers; i++) {
        struct slot *s = &b->slots[i];
        int32_t none = 0;
        if (s->state == SLOT_ORDERED && s->generation == generation)
            atomic_compare_exchange_strong(&book_shown(b, s)->pid, &none, -1);
    }
}

static void tell(struct slot *s, int number)
{
    assert(s->pid > 0); /* 0 would signal the whole process group of the master */
    s->killed |= number == SIGKILL;
    kill(s->pid, number);
}

enum board_end book_end_of(const struct book *b, const struct slot *s)
{
    switch (s->retire) {
    case BOARD_RETIRE_NOT:
        break;
    case BOARD_RETIRE_REQUESTS:
        return BOARD_END_REQUESTS;
    case BOARD_RETIRE_LIFETIME:
        return BOARD_END_LIFETIME;
    case BOARD_RETIRE_MEMORY:
        return BOARD_END_MEMORY;
    case BOARD_RETIRE_REFORK:
        return BOARD_END_REFORK;
    case BOARD_RETIRE_STUCK:
        return BOARD_END_STUCK;
    }
    return book_is_older(b, s) ? BOARD_END_RELOAD : BOARD_END_STOP;
}

void book_drain_slot(struct book *b, struct slot *s, int number, uint64_t limit_ms)
{
    atomic_store(&book_shown(b, s)->drains_for, (uint32_t)book_end_of(b, s));
    s->state = SLOT_DRAINING;
    s->deadline_ms = now_ms() + limit_ms;
    tell(s, number);
}

void book_kill_slot(struct slot *s)
{
    tell(s, SIGKILL);
}

bool book_call_off_slot(struct book *b, struct slot *s)
{
    uint32_t starting = BOARD_WORKER_STARTING;
    if (!atomic_compare_exchange_strong(&book_shown(b, s)->state, &starting, BOARD_WORKER_DRAINING))
        return false;
    book_drain_slot(b, s, SIGKILL, BOOK_QUICK_MS);
    return true;
}

void book_clear_slot(struct book *b, struct slot *s)
{
    struct board_worker *shown = book_shown(b, s);
    *s = (struct slot){.state = SLOT_EMPTY, .deadline_ms = BOOK_NEVER};
    atomic_store(&shown->state, BOARD_WORKER_EMPTY);
    atomic_store(&shown->retire, BOARD_RETIRE_NOT);
    atomic_store(&shown->drains_for, BOARD_END_CRASH);
    atomic_store(&shown->deadline_ns, 0);
    atomic_store(&shown->max_memory_bytes, 0);
    atomic_store(&shown->free_threads, 0);
    atomic_store(&shown->connections, 0);
    atomic_store(&shown->taken_over, 0);
    atomic_store(&shown->waiting, 0);
    board_set_parked(b->board, (unsigned)(s - b->slots), false);
    atomic_store(&shown->asked_by, 0);
    atomic_store(&shown->waits_since_ns, 0);
    for (unsigned i = 0; i < b->board->seats; i++) {
        struct board_seat *thread = board_seat(b->board, (unsigned)(s - b->slots), i);
        atomic_store(&thread->phase, BOARD_IDLE);
        /* the request it was running when it died would stay overdue for ever */
        atomic_store(&thread->deadline_ns, 0);
        atomic_store(&thread->tid, 0);
    }
}

bool book_knows(const struct book *b, pid_t pid)
{
    bool known = pid == b->molds[0].pid || pid == b->molds[1].pid;
    for (unsigned i = 0; i < BOOK_LEAVERS_MAX && !known; i++)
        known = b->leavers[i].pid == pid;
    for (unsigned i = 0; i < b->board->workers && !known; i++)
        known = b->slots[i].pid == pid;
    return known;
}

void book_remember_stranger(struct book *b, pid_t pid, int status)
{
    b->strangers[b->strangers_seen++ % BOOK_STRANGERS_MAX] = (struct stranger){pid, status};
}

bool book_take_stranger(struct book *b, pid_t pid, int *status)
{
    for (unsigned i = 0; i < BOOK_STRANGERS_MAX; i++)
        if (b->strangers[i].pid == pid) {
            *status = b->strangers[i].status;
            b->strangers[i].pid = 0;
            return true;
        }
    return false;
}

struct book_tally book_count(const struct book *b)
{
    struct book_tally t = {0};
    for (unsigned i = 0; i < b->board->workers; i++) {
        const struct slot *s = &b->slots[i];
        if (s->state == SLOT_EMPTY)
            continue;
        bool active = s->state != SLOT_DRAINING, outdated = book_is_outdated(b, s);
        t.alive++;
        t.active += active;
        t.fresh += active && !outdated;
        t.starting += active && !outdated && s->state != SLOT_SERVING;
        t.serving += s->state == SLOT_SERVING;
        t.older += book_is_older(b, s);
    }
    return t;
}

bool book_is_over(const struct book *b)
{
    bool over = b->stop != STOP_NOT;
    for (unsigned i = 0; i < ARRAY_LEN(b->molds); i++)
        over = over && b->molds[i].state == MOLD_NONE;
    for (unsigned i = 0; i < b->board->workers; i++)
        over = over && b->slots[i].state == SLOT_EMPTY;
    for (unsigned i = 0; i < BOOK_LEAVERS_MAX; i++)
        over = over && b->leavers[i].pid == 0;
    return over;
}

void book_push_deadlines(struct book *b, uint64_t by_ms)
{
    for (unsigned i = 0; i < b->board->workers; i++)
        if (b->slots[i].deadline_ms != BOOK_NEVER)
            b->slots[i].deadline_ms += by_ms;
    for (unsigned i = 0; i < b->board->workers; i++)
        if (b->slots[i].suspect_ms)
            b->slots[i].suspect_ms += by_ms;
    for (unsigned i = 0; i < ARRAY_LEN(b->molds); i++)
        if (b->molds[i].deadline_ms != BOOK_NEVER)
            b->molds[i].deadline_ms += by_ms;
    for (unsigned i = 0; i < BOOK_LEAVERS_MAX; i++)
        if (b->leavers[i].pid > 0 && b->leavers[i].deadline_ms != BOOK_NEVER)
            b->leavers[i].deadline_ms += by_ms;
}
