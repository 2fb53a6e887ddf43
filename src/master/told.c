/* told.c: what molds are told for the hooks of the application. Owns no state: the book is
 * master.c's. Never waits: what the pipe does not take is told later. The end of a worker is told
 * until it is taken; who is told twice takes it once. */
#include "told.h"

#include "base/log.h"
#include "book.h"
#include "shared/order.h"

#include <string.h>
#include <unistd.h>

void told_end(struct book *b, unsigned number, pid_t pid, enum board_end end, int status)
{
    if (b->ended_count == BOOK_ENDED_MAX) {
        log_warning(
            "the hooks have not taken the last %d ends of workers: some of their child_exit "
            "hooks are not called",
            BOOK_ENDED_MAX);
        b->ended_count = b->ended_told = 0;
    }
    b->ended[b->ended_count++] = (struct mold_order){.kind = MOLD_GONE,
                                                     .slot = number - 1,
                                                     .pid = pid,
                                                     .end = end,
                                                     .status = status,
                                                     .number = ++b->ended_number};
}

/* The pipe to the mold of that generation, also when it only ends; -1: it is gone. */
static int order_fd(const struct book *b, uint32_t generation)
{
    for (unsigned i = 0; i < ARRAY_LEN(b->molds); i++)
        if (b->molds[i].state == MOLD_READY && b->molds[i].generation == generation)
            return b->molds[i].order_fd;
    for (unsigned i = 0; i < BOOK_LEAVERS_MAX; i++)
        if (b->leavers[i].pid > 0 && b->leavers[i].number == 0 &&
            b->leavers[i].generation == generation)
            return b->leavers[i].order_fd;
    return -1;
}

static bool tell(const struct book *b, uint32_t generation, const struct mold_order *order)
{
    int fd = order_fd(b, generation);
    return fd >= 0 && write(fd, order, sizeof *order) == (ssize_t)sizeof *order;
}

void told_serves(struct book *b)
{
    static const struct mold_order replaced = {.kind = MOLD_REPLACED},
                                   serves = {.kind = MOLD_SERVES};
    told_settle(b);
    if (b->hooked != b->generation)
        (void)!tell(b, b->hooked, &replaced);
    b->hooked = b->generation;
    b->ended_told = 0; /* what a mold that died had not passed on is told again */
    (void)!tell(b, b->hooked, &serves);
}

static void forget_taken(struct book *b)
{
    uint32_t last = atomic_load(&b->board->hooks_taken);
    unsigned taken = 0;
    while (taken < b->ended_told && (int32_t)(b->ended[taken].number - last) <= 0)
        taken++;
    b->ended_count -= taken;
    b->ended_told -= taken;
    memmove(b->ended, b->ended + taken, b->ended_count * sizeof *b->ended);
}

void told_settle(struct book *b)
{
    pid_t hooks = atomic_load(&b->board->hooks_pid);
    forget_taken(b);
    if (b->hooks_pid != hooks)
        b->ended_told = 0;
    b->hooks_pid = hooks;
    while (b->ended_told < b->ended_count && tell(b, b->hooked, &b->ended[b->ended_told]))
        b->ended_told++;
}
