/* growth.c: who asks and who answers. Owns nothing, never waits. */
#include "shared/growth.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A worker whose trace is no longer wanted sees that within this time. */
#define LEAVE_NS            NS_PER_S
#define WORD(number, state) ((number) << 3 | (uint64_t)(state))

uint64_t growth_ask(struct growth *growth, unsigned slot, pid_t pid, uint64_t lasts_ns,
                    const char *type, bool pages)
{
    uint64_t number = GROWTH_NUMBER(atomic_load(&growth->word)) + 1;
    /* a worker that was given up finds another number before anything else changes */
    atomic_store(&growth->word, WORD(number, GROWTH_NONE));
    atomic_store(&growth->slot, slot);
    atomic_store(&growth->pid, pid);
    atomic_store(&growth->lasts_ns, lasts_ns);
    atomic_store(&growth->began_ns, 0);
    atomic_store(&growth->wanted_until_ns, now_ns() + GROWTH_WANTED_NS);
    growth->pages = pages;
    snprintf(growth->type, sizeof growth->type, "%s", type);
    atomic_store(&growth->word, WORD(number, GROWTH_ASKED));
    return number;
}

bool growth_is_busy(const struct growth *growth)
{
    enum growth_state state = GROWTH_STATE(atomic_load(&growth->word));
    uint64_t leave_ns = state == GROWTH_TRACING ? LEAVE_NS : 0;
    return (state == GROWTH_ASKED || state == GROWTH_TRACING) &&
           now_ns() < atomic_load(&growth->wanted_until_ns) + leave_ns;
}

uint64_t growth_take(struct growth *growth, unsigned slot, pid_t pid)
{
    uint64_t word = atomic_load_explicit(&growth->word, memory_order_acquire);
    uint64_t number = GROWTH_NUMBER(word);
    if (LIKELY(GROWTH_STATE(word) != GROWTH_ASKED) || atomic_load(&growth->slot) != slot ||
        atomic_load(&growth->pid) != pid || now_ns() > atomic_load(&growth->wanted_until_ns) ||
        !atomic_compare_exchange_strong(&growth->word, &word, WORD(number, GROWTH_TRACING)))
        return 0;
    atomic_store(&growth->began_ns, now_ns());
    return number;
}

static void end(struct growth *growth, uint64_t number, enum growth_state state)
{
    uint64_t tracing = WORD(number, GROWTH_TRACING);
    (void)atomic_compare_exchange_strong(&growth->word, &tracing, WORD(number, state));
}

static bool is_ours(const struct growth *growth, uint64_t number)
{
    return atomic_load(&growth->word) == WORD(number, GROWTH_TRACING);
}

void growth_finish(struct growth *growth, uint64_t number, struct text result)
{
    if (result.len > sizeof growth->text) {
        growth_fail(growth, number, "the result is larger than the %d KB there are for it",
                    GROWTH_TEXT_BYTES / 1024);
        return;
    }
    if (!is_ours(growth, number))
        return;
    memcpy(growth->text, result.data, result.len);
    atomic_store(&growth->length, (uint32_t)result.len);
    end(growth, number, GROWTH_READY);
}

void growth_fail(struct growth *growth, uint64_t number, const char *format, ...)
{
    va_list args;
    if (!is_ours(growth, number))
        return;
    va_start(args, format);
    vsnprintf(growth->why, sizeof growth->why, format, args);
    va_end(args);
    end(growth, number, GROWTH_FAILED);
}
