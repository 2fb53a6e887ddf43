/* refork.c: a worker becomes the mold of the next generation.
 *
 * Owns no state: the book is master.c's. Between refork_begin and refork_adopt one process has two
 * entries in the book, a slot in SLOT_DRAINING and a mold in MOLD_DRAINING. If it ends or is killed
 * meanwhile, that counts as the end of the worker, and the mold entry is cleared. Runs in the
 * master only. */
#include "refork.h"

#include "base/fds.h"
#include "base/log.h"
#include "book.h"
#include "config/settings.h"
#include "shared/board.h"
#include "shared/inbox.h"
#include "told.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static bool is_quiet(struct book *b)
{
    return b->stop == STOP_NOT && b->scale.wanted > 0 && b->phase != PHASE_TRIAL &&
           !b->reload_wanted && !b->replacing && book_current_mold(b)->state == MOLD_READY &&
           book_other_mold(b)->state == MOLD_NONE;
}

static bool one_is_chosen(const struct book *b)
{
    for (unsigned i = 0; i < b->board->workers; i++)
        if (b->slots[i].retire == BOARD_RETIRE_REFORK)
            return true;
    return false;
}

bool refork_may_begin(struct book *b, const struct slot *s)
{
    return is_quiet(b) && s->generation == b->generation && b->refork_refused != b->generation &&
           !one_is_chosen(b);
}

/* The worker is drained all the same, since its replacement serves already. The next worker that
 * reaches refork-after asks again. */
static void say_why_not(const struct book *b, const struct slot *s, int error)
{
    log_warning("no refork: worker %u (pid %d) cannot be told: %s; it is replaced%s",
                book_number(b, s), s->pid, strerror(error), fds_advice(error));
}

/* Sends the worker the pipe for its orders. Returns the master's end; -1: errno says why not. */
static int promote(struct book *b, const struct slot *s, uint32_t generation)
{
    int order_fds[2];
    if (pipe2(order_fds, O_CLOEXEC) != 0)
        return -1;
    fcntl(order_fds[1], F_SETFL, O_NONBLOCK);
    board_begin_mold(b->board, generation);
    bool sent = inbox_promote(&b->inboxes[s - b->slots], generation, order_fds[0]);
    int error = errno;
    close(order_fds[0]);
    if (sent)
        return order_fds[1];
    close(order_fds[1]);
    errno = error;
    return -1;
}

bool refork_begin(struct book *b, struct slot *s)
{
    uint32_t generation = b->generation + 1;
    int order_fd = is_quiet(b) ? promote(b, s, generation) : -1;
    if (order_fd < 0) {
        if (is_quiet(b))
            say_why_not(b, s, errno);
        s->retire = BOARD_RETIRE_REQUESTS; /* its end is not counted as a refork */
        return false;
    }
    log_info("refork: worker %u (pid %d) drains to become the mold", book_number(b, s), s->pid);
    *book_other_mold(b) =
        (struct mold){MOLD_DRAINING, s->pid, order_fd, generation, BOOK_NEVER, false};
    book_drain_slot(b, s, SIGTERM, b->config->graceful_timeout_ms);
    return true;
}

bool refork_adopt(struct book *b, struct mold *mold)
{
    if (b->scale.wanted == 0) { /* paused meanwhile: no worker would serve and end the trial */
        book_clear_mold(mold);
        return false;
    }
    for (unsigned i = 0; i < b->board->workers; i++)
        if (b->slots[i].pid == mold->pid) {
            log_info("refork: worker %u (pid %d) is the mold", i + 1, mold->pid);
            told_end(b, i + 1, mold->pid, BOARD_END_REFORK, 0);
            book_clear_slot(b, &b->slots[i]);
        }
    atomic_fetch_add(&b->board->ends[BOARD_END_REFORK], 1);
    mold->deadline_ms = now_ms() + b->config->startup_timeout_ms;
    b->cause = CAUSE_REFORK;
    return true;
}

void refork_on_exit(struct book *b, pid_t pid)
{
    struct mold *mold = book_other_mold(b);
    if (mold->state != MOLD_DRAINING || mold->pid != pid)
        return;
    log_warning("refork failed: generation %u goes on and will not try again", b->generation);
    b->refork_refused = b->generation;
    book_clear_mold(mold);
}
