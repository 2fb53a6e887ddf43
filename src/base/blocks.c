/* blocks.c: large pieces of memory that are used again.
 *
 * Owns those that nobody uses, in a row of places. Takers and givers begin at the front, so the
 * few blocks there are used most and stay in the CPU's cache, and the ones at the end grow old. */
#include "base/blocks.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>

/* More than that many are not kept: they go back to the system at once. */
#define PLACES 512

static struct place {
    _Atomic(char *) block;      /* NULL: none */
    _Atomic unsigned put_round; /* when it came */
} places[PLACES];
static _Atomic unsigned round_now;

static char *take_from(struct place *place)
{
    /* a look first: an exchange would take the cache line from the other CPUs */
    if (!atomic_load_explicit(&place->block, memory_order_relaxed))
        return NULL;
    return atomic_exchange_explicit(&place->block, NULL, memory_order_acquire);
}

char *blocks_take(void)
{
    for (size_t i = 0; i < PLACES; i++) {
        char *block = take_from(&places[i]);
        if (block)
            return block;
    }
    void *block =
        mmap(NULL, BLOCK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return block == MAP_FAILED ? NULL : block;
}

static bool put_into(struct place *place, char *block)
{
    char *none = NULL;
    if (atomic_load_explicit(&place->block, memory_order_relaxed))
        return false;
    atomic_store_explicit(&place->put_round, atomic_load_explicit(&round_now, memory_order_relaxed),
                          memory_order_relaxed);
    return atomic_compare_exchange_strong_explicit(&place->block, &none, block,
                                                   memory_order_release, memory_order_relaxed);
}

void blocks_put(char *block)
{
    for (size_t i = 0; i < PLACES; i++)
        if (put_into(&places[i], block))
            return;
    munmap(block, BLOCK_BYTES);
}

void blocks_trim(unsigned unused_rounds)
{
    unsigned now = atomic_fetch_add_explicit(&round_now, 1, memory_order_relaxed);
    for (size_t i = 0; i < PLACES; i++) {
        if (now - atomic_load_explicit(&places[i].put_round, memory_order_relaxed) < unused_rounds)
            continue;
        char *block = take_from(&places[i]);
        if (block)
            munmap(block, BLOCK_BYTES);
    }
}
