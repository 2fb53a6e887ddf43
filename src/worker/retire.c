/* retire.c: when a worker has served long enough.
 *
 * Owns: the limits of one worker. Only asks on the board to be replaced; the master decides when,
 * and waits until the replacement serves. */
#include "retire.h"
#include "config/options.h"
#include "config/settings.h"
#include "shared/board.h"
#include "shared/seed.h"

#include <sys/random.h>

/* A random number from 0 to `most`, so that workers that started together do not all retire
 * together. */
static uint64_t up_to(uint64_t most)
{
    uint64_t number = 0;
    (void)!getrandom(&number, sizeof(number), GRND_NONBLOCK);
    return most == UINT64_MAX ? number : number % (most + 1);
}

void age_begin(struct age *age, const struct worker_seed *seed)
{
    const struct config *config = seed->config;
    struct board_worker *slot = &seed->board->worker[seed->slot];
    uint64_t answered = atomic_load(&slot->requests); /* by earlier workers of the slot */
    uint64_t requests = config->max_requests, lifetime_ms = config->max_worker_lifetime_ms;
    uint64_t jitter = config->max_requests_jitter;
    unsigned refork_after = options_count_at(config->refork_after, seed->promotions);
    if (jitter == CONFIG_UNSET)
        jitter = requests / 10;
    *age = (struct age){0};
    if (requests)
        age->retire_requests = answered + requests + up_to(jitter);
    if (lifetime_ms)
        age->retire_ms = now_ms() + lifetime_ms + up_to(lifetime_ms / 10);
    if (refork_after)
        age->refork_requests = answered + refork_after;
    atomic_store(&slot->max_memory_bytes, config->max_worker_memory);
}

/* If several workers ask to become the mold, the master takes only one; the others keep their
 * limits and may still retire for another reason. */
static void ask_to_retire(struct age *age, struct board *board, unsigned slot,
                          enum board_retire reason)
{
    _Atomic uint32_t *retire = &board->worker[slot].retire;
    age->refork_requests = 0;
    if (reason != BOARD_RETIRE_REFORK)
        age->retire_requests = age->retire_ms = 0;
    uint32_t before = atomic_load(retire);
    while (before != BOARD_RETIRE_STUCK && /* set by the watch, and more urgent */
           !atomic_compare_exchange_weak(retire, &before, (uint32_t)reason))
        continue;
    board_ring(board);
}

void age_look(struct age *age, struct board *board, unsigned slot)
{
    uint64_t requests = atomic_load(&board->worker[slot].requests);
    if (age->retire_requests && requests >= age->retire_requests)
        ask_to_retire(age, board, slot, BOARD_RETIRE_REQUESTS);
    else if (age->retire_ms && now_ms() >= age->retire_ms)
        ask_to_retire(age, board, slot, BOARD_RETIRE_LIFETIME);
    else if (age->refork_requests && requests >= age->refork_requests)
        ask_to_retire(age, board, slot, BOARD_RETIRE_REFORK);
}
