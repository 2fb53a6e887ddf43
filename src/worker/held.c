/* held.c: whole answers that slow clients do not take.
 *
 * Owns the two bounds of their sums. Above the first, answers end that have been the slowest for
 * some seconds: otherwise a large page, asked for a thousand times, would use all memory. Above the
 * second, answers end at once. Never ends a request itself. */
#include "held.h"

#define MAX_BYTES  (256 * 1024 * 1024)
#define END_BYTES  (512 * 1024 * 1024)
/* How far below END_BYTES room is made, so that not all connections are sorted each time. */
#define ROOM_BYTES (64 * 1024 * 1024)
/* One allocation of those that count as a flood; see exchange_trim. */
#define PART_BYTES (128 * 1024)

void held_begin(struct held *held, struct exchange *e)
{
    e->held_bytes = output_pending(&e->output);
    e->held_memory_bytes = e->held_bytes > 0 ? output_memory(&e->output) : 0;
    held->bytes += e->held_bytes;
    held->memory_bytes += e->held_memory_bytes;
}

void held_end(struct held *held, struct exchanges *all, struct exchange *e)
{
    if (e->held_bytes == 0)
        return;
    held->bytes -= e->held_bytes;
    held->memory_bytes -= e->held_memory_bytes;
    exchange_note_freed(all, (unsigned)(e->held_bytes / PART_BYTES));
    e->held_bytes = e->held_memory_bytes = 0;
}

bool held_is_too_much(const struct held *held)
{
    return held->bytes > MAX_BYTES;
}

/* Waits HELD_GRACE_MS first: a client that has just begun needs time to show its rate, or it would
 * be ended in place of the slow ones that use the memory. */
void held_ask_for_rate(struct held *held, uint64_t now)
{
    if (!held_is_too_much(held))
        held->since_ms = 0;
    else if (held->since_ms == 0)
        held->since_ms = now;
    bool is_time = held->since_ms && now >= held->since_ms + HELD_GRACE_MS;
    held->least_rate = is_time ? 2 * held->least_rate + 1 : 0;
}

bool held_is_full(const struct held *held)
{
    return held->memory_bytes > END_BYTES;
}

bool held_has_room(const struct held *held)
{
    return held->memory_bytes <= END_BYTES - ROOM_BYTES;
}
