/* held.c: whole answers that slow clients do not take.
 *
 * Owns: their sums in conn_shared. There are two bounds. Above the first, answers end that have
 * been the slowest for some seconds: otherwise a large page, asked for a thousand times, would use
 * all memory. Above the second, answers end at once. Never ends a request, never closes a
 * connection. */
#include "held.h"

#include <stdlib.h>

#define MAX_BYTES   (256 * 1024 * 1024)
#define END_BYTES   (512 * 1024 * 1024)
/* How far below END_BYTES held_make_room goes, so that it need not sort all connections each
 * time. */
#define ROOM_BYTES  (64 * 1024 * 1024)
#define GRACE_MS    5000
/* A client that has just begun has taken nothing yet. It is judged as if it had taken BEGUN_BYTES
 * in BEGUN_MS before. Of a client that does not read, the kernel of its machine takes less than
 * that at first, and then nothing. */
#define BEGUN_BYTES (256 * 1024)
#define BEGUN_MS    1000

void held_begin(struct conn *c)
{
    struct exchange *e = c->exchange;
    e->held_bytes = output_pending(&e->output);
    e->held_memory_bytes = e->held_bytes > 0 ? output_memory(&e->output) : 0;
    c->shared->held_bytes += e->held_bytes;
    c->shared->held_memory_bytes += e->held_memory_bytes;
    c->writing_ms = now_ms();
    c->writing_total = e->output.total_bytes;
    c->writing_untaken = c->untaken;
}

static bool holds(const struct conn *c)
{
    return c->state == CONN_WRITING && c->exchange->held_bytes > 0;
}

/* Bytes that the client has taken since the loop began to send the answer. On unix sockets the
 * kernel's count of untaken bytes may be larger than what was given to it. */
static uint64_t taken_bytes(const struct conn *c)
{
    const struct exchange *e = c->exchange;
    uint64_t given = e->output.total_bytes - c->writing_total + c->writing_untaken;
    uint64_t left = output_untaken(c->fd);
    return given > left ? given - left : 0;
}

/* least_rate grows with every tick (held_ask_for_rate) until enough answers have ended. */
bool held_is_too_slow(const struct conn *c, uint64_t now)
{
    if (c->shared->least_rate == 0 || c->shared->held_bytes <= MAX_BYTES || !holds(c) ||
        now < c->writing_ms + GRACE_MS)
        return false;
    return taken_bytes(c) * 1000 / (now - c->writing_ms) < c->shared->least_rate;
}

/* Waits GRACE_MS first: a client that has just begun needs time to show its rate, or it would be
 * ended in place of the slow ones that use the memory. */
void held_ask_for_rate(struct conn_shared *shared, uint64_t now)
{
    if (shared->held_bytes <= MAX_BYTES)
        shared->held_since_ms = 0;
    else if (shared->held_since_ms == 0)
        shared->held_since_ms = now;
    bool is_time = shared->held_since_ms && now >= shared->held_since_ms + GRACE_MS;
    shared->least_rate = is_time ? 2 * shared->least_rate + 1 : 0;
}

struct holder {
    struct conn *conn;
    uint64_t rate;
};

static int compare_rates(const void *a, const void *b)
{
    const struct holder *one = a, *other = b;
    return (one->rate > other->rate) - (one->rate < other->rate);
}

/* In the order of the list: the oldest first. */
static size_t find_holders(const struct conn_shared *shared, struct holder *holders)
{
    uint64_t now = now_ms();
    size_t count = 0;
    for (struct conn *c = TAILQ_FIRST(&shared->transferring); c; c = TAILQ_NEXT(c, all)) {
        if (!holds(c))
            continue;
        uint64_t rate = (taken_bytes(c) + BEGUN_BYTES) * 1000 / (now - c->writing_ms + BEGUN_MS);
        holders[count++] = (struct holder){c, rate};
    }
    return count;
}

void held_make_room(struct conn_shared *shared, void (*reset)(struct conn *))
{
    if (LIKELY(shared->held_memory_bytes <= END_BYTES))
        return;
    struct holder *holders = xmalloc(shared->count * sizeof(*holders));
    size_t count = find_holders(shared, holders);
    qsort(holders, count, sizeof(*holders), compare_rates);
    for (size_t i = 0; i < count && shared->held_memory_bytes > END_BYTES - ROOM_BYTES; i++)
        reset(holders[i].conn);
    free(holders);
}
