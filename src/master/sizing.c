/* sizing.c: reads from the board how busy the workers are, and lets the number of them follow.
 *
 * Owns no state. Judges only while everything else is settled: what workers do that start, drain or
 * are replaced says nothing about the load. */
#include "sizing.h"

#include "book.h"
#include "config/settings.h"

static struct demand_sample look(const struct book *b)
{
    struct demand_sample sample = {.now_ms = now_ms(), .threads = b->config->threads};
    for (unsigned i = 0; i < b->board->workers; i++) {
        const struct board_worker *shown = &b->board->worker[i];
        if (b->slots[i].state != SLOT_SERVING)
            continue;
        uint32_t free = atomic_load(&shown->free_threads);
        sample.serving++;
        sample.busy += free < sample.threads ? sample.threads - free : 0;
        sample.waits |= atomic_load(&shown->waits_since_ns) != 0 || atomic_load(&shown->parked) ||
                        atomic_load(&shown->waiting) > 0;
    }
    return sample;
}

static bool is_settled(const struct book *b)
{
    struct book_tally t = book_count(b);
    return b->served && b->phase == PHASE_SETTLED && !b->replacing && !b->reload_wanted &&
           t.serving == b->scale.wanted && t.alive == t.serving;
}

void sizing_look(struct book *b)
{
    if (now_ms() < sizing_due_ms(b))
        return;
    b->sizing_due_ms = now_ms() + DEMAND_LOOK_MS;
    if (!is_settled(b)) {
        demand_pause(&b->demand);
        return;
    }
    struct demand_sample sample = look(b);
    int by = demand_judge(&b->demand, &sample);
    if (by != 0)
        scale_follow(&b->scale, by);
}

uint64_t sizing_due_ms(const struct book *b)
{
    bool is_needed = b->stop == STOP_NOT && b->scale.wanted > 0 && scale_is_elastic(&b->scale);
    return is_needed ? b->sizing_due_ms : BOOK_NEVER;
}
