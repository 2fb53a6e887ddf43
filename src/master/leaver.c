/* leaver.c: processes that have given up their place in the master's book, and end.
 *
 * Owns no state: the book is master.c's. Runs in the master only. */
#include "leaver.h"

#include "base/log.h"
#include "book.h"
#include "config/settings.h"
#include "shared/board.h"
#include "shared/failure.h"
#include "shared/order.h"
#include "told.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* Workers leave so many places to molds. */
#define MOLDS_MOST 8
/* After a leaver should have ended by itself. */
#define SPARE_MS   1000

static struct leaver *find(struct book *b, pid_t pid)
{
    for (unsigned i = 0; i < BOOK_LEAVERS_MAX; i++)
        if (b->leavers[i].pid == pid)
            return &b->leavers[i];
    return NULL;
}

static unsigned count_free(const struct book *b)
{
    unsigned count = 0;
    for (unsigned i = 0; i < BOOK_LEAVERS_MAX; i++)
        count += b->leavers[i].pid == 0;
    return count;
}

/* By when an end that begins now, and should be over at `due_ms`, is over. */
static uint64_t latest(uint64_t due_ms)
{
    uint64_t least_ms = now_ms() + BOARD_END_LEAST_MS;
    return (due_ms > least_ms ? due_ms : least_ms) + SPARE_MS;
}

bool leaver_has_room(const struct book *b)
{
    return count_free(b) > 0;
}

void leaver_take_mold(struct book *b, struct mold *mold)
{
    struct leaver *l = find(b, 0);
    assert(l); /* a mold starts only where there is room for the one that it replaces */
    *l = (struct leaver){.pid = mold->pid,
                         .generation = mold->generation,
                         .order_fd = mold->order_fd,
                         .deadline_ms = BOOK_NEVER};
    mold->order_fd = -1;
    book_clear_mold(mold);
    (void)!write(l->order_fd, &(struct mold_order){.kind = MOLD_NO_MORE},
                 sizeof(struct mold_order));
}

bool leaver_take_worker(struct book *b, struct slot *s, enum board_end end)
{
    if (count_free(b) <= MOLDS_MOST)
        return false;
    struct leaver *l = find(b, 0);
    assert(l); /* there are more free ones than molds */
    *l = (struct leaver){.pid = s->pid,
                         .number = book_number(b, s),
                         .generation = s->generation,
                         .order_fd = -1,
                         .killed = s->killed,
                         .end = end,
                         .deadline_ms = latest(s->deadline_ms)};
    book_clear_slot(b, s);
    return true;
}

static bool has_workers(const struct book *b, uint32_t generation)
{
    for (unsigned i = 0; i < b->board->workers; i++)
        if (b->slots[i].state != SLOT_EMPTY && b->slots[i].generation == generation)
            return true;
    for (unsigned i = 0; i < BOOK_LEAVERS_MAX; i++)
        if (b->leavers[i].number > 0 && b->leavers[i].pid > 0 &&
            b->leavers[i].generation == generation)
            return true;
    return false;
}

static void tell_to_end(struct book *b, struct leaver *l)
{
    uint64_t stop_ms = atomic_load(&b->board->leave_by_ns) / NS_PER_MS;
    close(l->order_fd);
    l->order_fd = -1;
    l->deadline_ms =
        latest(b->stop == STOP_NOT ? now_ms() + b->config->graceful_timeout_ms : stop_ms);
}

void leaver_settle(struct book *b)
{
    for (unsigned i = 0; i < BOOK_LEAVERS_MAX; i++) {
        struct leaver *l = &b->leavers[i];
        if (l->pid > 0 && l->order_fd >= 0 && !has_workers(b, l->generation))
            tell_to_end(b, l);
    }
}

/* The worker's requests are all answered and logged, so that nothing is lost however it ends. */
static void say_end(const struct leaver *l, int status)
{
    bool as_told = status == 0 || l->killed;
    if (l->number > 0)
        log_write(
            as_told ? LOG_INFO : LOG_WARNING, "worker %u (pid %d) left%s%s", l->number, l->pid,
            as_told ? "" : ", with an error at its end: ", as_told ? "" : failure_status(status));
    else if (!as_told)
        log_warning("the mold (pid %d) of generation %u left with an error at its end: %s", l->pid,
                    l->generation, failure_status(status));
}

bool leaver_on_exit(struct book *b, pid_t pid, int status)
{
    struct leaver *l = find(b, pid);
    if (!l)
        return false;
    say_end(l, status);
    if (l->number == 0)
        book_give_up_orders(b, l->generation);
    else
        told_end(b, l->number, pid, l->end, status);
    if (l->order_fd >= 0)
        close(l->order_fd);
    *l = (struct leaver){.order_fd = -1};
    return true;
}

static void finish(struct leaver *l)
{
    l->killed = true;
    l->deadline_ms = BOOK_NEVER;
    kill(l->pid, SIGKILL);
}

void leaver_meet_deadlines(struct book *b)
{
    for (unsigned i = 0; i < BOOK_LEAVERS_MAX; i++) {
        struct leaver *l = &b->leavers[i];
        if (l->pid == 0 || l->deadline_ms > b->looked_ms)
            continue;
        if (l->number > 0)
            log_warning("worker %u (pid %d) does not end: killing it", l->number, l->pid);
        else
            log_warning("the mold (pid %d) does not end: killing it", l->pid);
        finish(l);
    }
}

bool leaver_kill_mold(struct book *b, uint32_t generation)
{
    for (unsigned i = 0; i < BOOK_LEAVERS_MAX; i++)
        if (b->leavers[i].pid > 0 && b->leavers[i].number == 0 &&
            b->leavers[i].generation == generation) {
            finish(&b->leavers[i]);
            return true;
        }
    return false;
}

void leaver_hurry(struct book *b)
{
    for (unsigned i = 0; i < BOOK_LEAVERS_MAX; i++) {
        struct leaver *l = &b->leavers[i];
        uint64_t due_ms = now_ms() + BOOK_QUICK_MS;
        if (l->pid > 0 && l->number > 0)
            finish(l);
        else if (l->pid > 0 && l->order_fd < 0 && l->deadline_ms > due_ms)
            l->deadline_ms = due_ms;
    }
}
