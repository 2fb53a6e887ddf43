/* exemplars.c: the newest slow request of each bucket.
 *
 * Owns a table of them. It is kept because others may take a request's place among the slow ones:
 * Prometheus complains when an exemplar is older than one that it has seen before. */
#include "exemplars.h"

#include "http/trace.h"

#include <string.h>

/* In buckets of the ledger. */
#define FIRST 16
#define STEP  4

struct exemplar {
    uint64_t wall_ns, ended_ns; /* ended_ns 0: there is none */
    uint8_t trace[LEDGER_TRACE_BYTES];
};

static struct exemplar (*exemplars)[EXEMPLARS_BUCKETS]; /* [LEDGER_VIEWS + 1], owned; NULL: empty */

uint64_t exemplars_bound_ns(unsigned bucket)
{
    return ledger_bound_ns(FIRST + bucket * STEP);
}

static unsigned bucket_of(uint64_t wall_ns)
{
    unsigned bucket = 0;
    while (bucket < EXEMPLARS_BUCKETS - 1 && wall_ns >= exemplars_bound_ns(bucket))
        bucket++;
    return bucket;
}

void exemplars_note(const struct ledger_slow *slow)
{
    static const uint8_t none[LEDGER_TRACE_BYTES];
    uint64_t wall_ns = atomic_load(&slow->wall_ns);
    if (slow->view > LEDGER_VIEWS || memcmp(slow->trace, none, sizeof none) == 0)
        return;
    if (!exemplars)
        exemplars = xcalloc(LEDGER_VIEWS + 1, sizeof *exemplars);
    struct exemplar *exemplar = &exemplars[slow->view][bucket_of(wall_ns)];
    if (slow->ended_ns <= exemplar->ended_ns)
        return;
    *exemplar = (struct exemplar){.wall_ns = wall_ns, .ended_ns = slow->ended_ns};
    memcpy(exemplar->trace, slow->trace, sizeof exemplar->trace);
}

/* The moment is computed from one that stays, so that it is the same each time that somebody asks.
 */
static double moment_s(const struct board *board, uint64_t ended_ns)
{
    return (double)board->started_s + (double)(ended_ns - board->started_ns) / NS_PER_S;
}

void exemplars_append(const struct stats_facts *facts, unsigned view, unsigned bucket,
                      struct buf *out)
{
    const struct exemplar *exemplar = exemplars ? &exemplars[view][bucket] : NULL;
    char trace[TRACE_ID_TEXT + 1];
    if (!exemplar || !exemplar->ended_ns || facts->now_ns - exemplar->ended_ns >= LEDGER_RECENT_NS)
        return;
    trace_write_id(exemplar->trace, trace);
    buf_printf(out, " # {trace_id=\"%s\"} %.9f %.3f", trace, (double)exemplar->wall_ns / NS_PER_S,
               moment_s(facts->board, exemplar->ended_ns));
}
