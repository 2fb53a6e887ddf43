/* wanted.c: how many workers there should be, as the operator says by signals and settings.
 *
 * Owns book.wanted. Never starts or ends a worker: master.c does that. Runs in the master only. */
#include "wanted.h"
#include "base/log.h"
#include "config/settings.h"
#include "master/book.h"
#include "shared/board.h"

void wanted_pause(struct book *b)
{
    if (b->wanted == 0)
        return;
    log_info("pausing: no workers until HUP or TTIN");
    b->wanted_before_pause = b->wanted;
    b->wanted = 0;
}

bool wanted_resume(struct book *b)
{
    if (b->wanted > 0)
        return false;
    b->wanted = b->wanted_before_pause;
    if (b->trial) /* its time did not run while no worker was wanted */
        book_current_mold(b)->deadline_ms = now_ms() + b->config->startup_timeout_ms;
    log_info("resuming with %u worker%s", b->wanted, b->wanted == 1 ? "" : "s");
    return true;
}

static unsigned most(const struct book *b)
{
    return b->board->workers - 1; /* one slot is for a replacement */
}

static void set(unsigned *number, unsigned workers)
{
    *number = workers;
    log_info("now %u worker%s", workers, workers == 1 ? "" : "s");
}

void wanted_configure(struct book *b)
{
    unsigned workers = atomic_load(&b->board->molds[b->generation % 2].workers);
    /* 0 is no valid setting: a mold that crashed may have damaged the board. */
    if (workers == b->configured || workers == 0)
        return;
    b->configured = workers;
    if (workers > most(b)) {
        log_warning("workers = %u: until a restart or an upgrade (USR2) there is room for %u",
                    workers, most(b));
        workers = most(b);
    }
    set(b->wanted > 0 ? &b->wanted : &b->wanted_before_pause, workers);
}

void wanted_change(struct book *b, int by)
{
    if (by > 0 && wanted_resume(b))
        return;
    if (b->wanted == 0) {
        log_warning("paused: there is no worker to do without; TTIN or HUP resumes with %u",
                    b->wanted_before_pause);
        return;
    }
    if ((by < 0 && b->wanted == 1) || (by > 0 && b->wanted == most(b))) {
        log_warning("still %u worker%s: the number can go from 1 to %u", b->wanted,
                    b->wanted == 1 ? "" : "s", most(b));
        return;
    }
    set(&b->wanted, (unsigned)((int)b->wanted + by));
}
