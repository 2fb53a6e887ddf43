/* book.c: looks things up in the master's book and changes its entries.
 *
 * Owns no state: the book is master.c's. A function that changes an entry because of a signal also
 * sends the signal, so that the two always agree.
 *
 * Never decides anything, never logs. Runs in the master only. */
#include "master/book.h"

#include "master/hang.h"
#include "shared/board.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIRST_DELAY_MS   100 /* before the second retry; the first is at once */
#define LONGEST_DELAY_MS 10000
/* between two looks at connections left in inboxes of workers that have ended */
#define LETTERS_MS       1000

unsigned book_number(const struct book *b, const struct slot *s)
{
    return (unsigned)(s - b->slots) + 1;
}

struct board_worker *book_shown(const struct book *b, const struct slot *s)
{
    return &b->board->worker[s - b->slots];
}

struct mold *book_current_mold(struct book *b)
{
    return &b->molds[b->generation % 2];
}

struct mold *book_other_mold(struct book *b)
{
    return &b->molds[(b->generation + 1) % 2];
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

void book_release_control(struct book *b)
{
    if (b->control_pid > 0)
        kill(b->control_pid, CONTROL_WAKE_SIGNAL);
    b->control_pid = 0;
}

void book_end_mold(struct mold *mold, int number, uint64_t deadline_ms)
{
    if (mold->state == MOLD_NONE)
        return;
    if (mold->state == MOLD_DRAINING) {
        book_clear_mold(mold);
        return;
    }
    if (mold->order_fd >= 0)
        close(mold->order_fd);
    mold->order_fd = -1;
    mold->state = MOLD_ENDING;
    mold->deadline_ms = deadline_ms;
    kill(mold->pid, number);
}

static void tell(struct slot *s, int number)
{
    assert(s->pid > 0); /* 0 would signal the whole process group of the master */
    s->killed |= number == SIGKILL;
    kill(s->pid, number);
}

void book_drain_slot(struct slot *s, int number, uint64_t limit_ms)
{
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
    book_drain_slot(s, SIGKILL, BOOK_QUICK_MS);
    return true;
}

void book_clear_slot(struct book *b, struct slot *s)
{
    struct board_worker *shown = book_shown(b, s);
    *s = (struct slot){.state = SLOT_EMPTY, .deadline_ms = BOOK_NEVER};
    atomic_store(&shown->state, BOARD_WORKER_EMPTY);
    atomic_store(&shown->retire, BOARD_RETIRE_NOT);
    atomic_store(&shown->deadline_ns, 0);
    atomic_store(&shown->max_memory_bytes, 0);
    atomic_store(&shown->free_threads, 0);
    atomic_store(&shown->connections, 0);
    atomic_store(&shown->waiting, 0);
    board_set_parked(b->board, (unsigned)(s - b->slots), false);
    atomic_store(&shown->asked_by, 0);
    atomic_store(&shown->waits_since_ns, 0);
    for (unsigned i = 0; i < b->board->threads; i++) {
        struct board_thread *thread = board_thread(b->board, (unsigned)(s - b->slots), i);
        atomic_store(&thread->phase, BOARD_IDLE);
        /* the request it was running when it died would stay overdue for ever */
        atomic_store(&thread->deadline_ns, 0);
        atomic_store(&thread->tid, 0);
    }
}

bool book_knows(const struct book *b, pid_t pid)
{
    bool known = pid == b->molds[0].pid || pid == b->molds[1].pid;
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
    return over;
}

static void earlier(uint64_t *deadline_ms, uint64_t other_ms)
{
    if (other_ms < *deadline_ms)
        *deadline_ms = other_ms;
}

/* Whether an inbox that no worker reads still has connections. A sibling counts a connection in
 * `given` before it sends it, so it may arrive after the worker has ended and the master has
 * emptied the inbox; or no other inbox had room. Nothing else wakes the master for these. */
static bool has_letters(const struct book *b)
{
    for (unsigned i = 0; i < b->board->workers; i++) {
        const struct board_worker *shown = &b->board->worker[i];
        if (b->slots[i].state == SLOT_EMPTY &&
            atomic_load(&shown->given) != atomic_load(&shown->taken))
            return true;
    }
    return false;
}

uint64_t book_next_deadline(const struct book *b)
{
    uint64_t next = BOOK_NEVER, now = now_ms();
    for (unsigned i = 0; i < b->board->workers; i++)
        earlier(&next, b->slots[i].deadline_ms);
    for (unsigned i = 0; i < ARRAY_LEN(b->molds); i++)
        earlier(&next, b->molds[i].deadline_ms);
    if (b->orders.not_before_ms > now)
        earlier(&next, b->orders.not_before_ms);
    if (b->control_starts.not_before_ms > now)
        earlier(&next, b->control_starts.not_before_ms);
    if (b->mold_starts.not_before_ms > now)
        earlier(&next, b->mold_starts.not_before_ms);
    earlier(&next, b->upkeep.due_ms);
    earlier(&next, wedge_due_ms(b));
    earlier(&next, b->watchdog_due_ms);
    if (b->stop == STOP_NOT && has_letters(b))
        earlier(&next, now + LETTERS_MS);
    return next;
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
}
