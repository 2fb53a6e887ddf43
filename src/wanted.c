/* wanted.c: how many workers there should be, as the operator says by signals.
 *
 * Owns book.wanted. Starts and ends nobody: master.c brings about what is wanted. Runs in the
 * master only. */
#include "wanted.h"
#include "board.h"
#include "book.h"
#include "config.h"
#include "log.h"

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
    if (b->trial) /* which had no time while nobody was wanted */
        book_current_mold(b)->deadline_ms = now_ms() + b->config->startup_timeout_ms;
    log_info("resuming with %u worker%s", b->wanted, b->wanted == 1 ? "" : "s");
    return true;
}

void wanted_change(struct book *b, int by)
{
    if (by > 0 && wanted_resume(b))
        return;
    unsigned most = b->board->workers - 1;
    if ((by < 0 && b->wanted <= 1) || (by > 0 && b->wanted == most)) {
        log_warning("still %u worker%s: the number can go from 1 to %u", b->wanted,
                    b->wanted == 1 ? "" : "s", most);
        return;
    }
    b->wanted = (unsigned)((int)b->wanted + by);
    log_info("now %u worker%s", b->wanted, b->wanted == 1 ? "" : "s");
}
