/* pressure.c: when the memory of the control group runs short.
 *
 * Owns no process: replace.c notes who is to be replaced, master.c does it. The kernel's count of
 * the group decides, not a sum over workers: it counts a page that they share once, and all else
 * that is in the group, such as children of the application and files in memory. */
#include "pressure.h"

#include "base/cgroup.h"
#include "base/log.h"
#include "book.h"
#include "config/settings.h"
#include "replace.h"
#include "shared/board.h"
#include "system/usage.h"

#define LOOKS_MIN        2 /* one alone may be in the middle of a large request */
/* The least growth for which a worker is replaced: this part of the limit, and so much. */
#define GROWTH_PART      32
#define GROWTH_MIN_BYTES (4 << 20)

static double mb(uint64_t bytes)
{
    return (double)bytes / (1 << 20);
}

void pressure_init(struct book *b)
{
    b->pressure = (struct pressure){.is_limited = cgroup_memory("").limit_bytes > 0};
}

static bool is_auto(const struct book *b, const struct slot *s)
{
    return s->state == SLOT_SERVING &&
           atomic_load(&book_shown(b, s)->max_memory_bytes) == CONFIG_AUTO;
}

void pressure_weigh(const struct book *b, struct slot *s)
{
    if (b->pressure.is_limited)
        s->first_bytes = usage_read(s->pid).private_bytes;
}

/* While a worker is being replaced, nobody knows yet what that brings. */
static bool is_replacing(const struct book *b)
{
    struct book_tally t = book_count(b);
    return t.starting > 0 || t.alive > t.fresh;
}

static struct slot *find_grown(struct book *b, uint64_t *most_bytes)
{
    struct slot *most = NULL;
    *most_bytes = 0;
    for (unsigned i = 0; i < b->board->workers; i++) {
        struct slot *s = &b->slots[i];
        uint64_t bytes = is_auto(b, s) ? usage_read(s->pid).private_bytes : 0;
        uint64_t grown = bytes > s->first_bytes ? bytes - s->first_bytes : 0;
        if (grown > *most_bytes) {
            most = s;
            *most_bytes = grown;
        }
    }
    return most;
}

static void relieve(struct book *b, const struct cgroup_memory *m)
{
    uint64_t grown, least = m->limit_bytes / GROWTH_PART;
    struct slot *s = find_grown(b, &grown);
    if (s && grown >= least && grown >= GROWTH_MIN_BYTES) {
        log_info("the control group uses %.1f of its %.1f MB of memory; worker %u (pid %d) has "
                 "grown by %.1f MB",
                 mb(m->used_bytes), mb(m->limit_bytes), book_number(b, s), s->pid, mb(grown));
        replace_worker(b, s, BOARD_RETIRE_MEMORY);
    } else if (!b->pressure.said) {
        log_warning("the control group uses %.1f of its %.1f MB of memory, and no worker has grown "
                    "much: run fewer workers, or raise the limit",
                    mb(m->used_bytes), mb(m->limit_bytes));
        b->pressure.said = true;
    }
}

void pressure_look(struct book *b)
{
    struct pressure *p = &b->pressure;
    struct cgroup_memory m = cgroup_memory("");
    if (m.limit_bytes == 0 || m.used_bytes <= m.limit_bytes - m.limit_bytes / 10) {
        p->looks = 0;
        p->said = false;
    } else if (++p->looks >= LOOKS_MIN && !is_replacing(b)) {
        relieve(b, &m);
    }
}
