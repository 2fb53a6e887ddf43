/* replace.c: serving workers that are to be replaced.
 *
 * Owns the reasons. When the replacement serves and the worker drains, master.c decides. */
#include "replace.h"

#include "base/log.h"
#include "book.h"
#include "config/settings.h"
#include "refork.h"
#include "system/usage.h"

#include <signal.h>

/* NULL: the worker has written no valid reason on the board. */
static const char *retire_text(enum board_retire reason, bool is_auto)
{
    switch (reason) {
    case BOARD_RETIRE_NOT:
        break;
    case BOARD_RETIRE_REQUESTS:
        return "it has answered max-requests";
    case BOARD_RETIRE_LIFETIME:
        return "it has reached max-worker-lifetime";
    case BOARD_RETIRE_MEMORY:
        return is_auto ? "it has grown most, and memory is short"
                       : "it has more private memory than max-worker-memory";
    case BOARD_RETIRE_REFORK:
        return "it is to become the mold";
    case BOARD_RETIRE_STUCK:
        return "a request is stuck";
    }
    return NULL;
}

void replace_worker(struct book *b, struct slot *s, enum board_retire reason)
{
    bool is_auto = atomic_load(&book_shown(b, s)->max_memory_bytes) == CONFIG_AUTO;
    const char *text = retire_text(reason, is_auto);
    bool is_news = s->retire == BOARD_RETIRE_NOT ||
                   (reason == BOARD_RETIRE_STUCK && s->retire != BOARD_RETIRE_STUCK);
    if (!text || s->state != SLOT_SERVING || !is_news)
        return;
    if (reason == BOARD_RETIRE_REFORK && !refork_may_begin(b, s))
        return;
    log_info("replacing worker %u (pid %d): %s", book_number(b, s), s->pid, text);
    s->retire = reason;
    s->retired_ms = now_ms();
    if (reason == BOARD_RETIRE_STUCK)
        book_drain_slot(b, s, SIGTERM, b->config->graceful_timeout_ms);
}

/* Retires the worker when two samples in a row are above the limit: one alone may have been taken
 * in the middle of a large request. */
static void weigh(struct book *b, struct slot *s)
{
    uint64_t limit = atomic_load(&book_shown(b, s)->max_memory_bytes);
    if (s->state != SLOT_SERVING || limit == 0 || limit == CONFIG_AUTO ||
        s->retire != BOARD_RETIRE_NOT)
        return;
    uint64_t bytes = usage_read(s->pid).private_bytes;
    bool heavy = bytes > limit;
    if (heavy && s->heavy) {
        log_info("worker %u (pid %d) has %.1f MB of private memory", book_number(b, s), s->pid,
                 (double)bytes / (1 << 20));
        replace_worker(b, s, BOARD_RETIRE_MEMORY);
    }
    s->heavy = heavy;
}

void replace_heavy(struct book *b)
{
    for (unsigned i = 0; i < b->board->workers; i++)
        weigh(b, &b->slots[i]);
}
