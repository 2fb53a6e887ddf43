/* sweep.c: what the tick does to all connections. Owns nothing. */
#include "sweep.h"

#include "config/settings.h"
#include "held.h"
#include "intake.h"

#include <stdlib.h>

#define DRAIN_IDLE_MS 1000
/* A client that has just begun has taken nothing yet. It is judged as if it had taken BEGUN_BYTES
 * in BEGUN_MS before. Of a client that does not read, the kernel of its machine takes less than
 * that at first, and then nothing. */
#define BEGUN_BYTES   (256 * 1024)
#define BEGUN_MS      1000
/* A large body that is not whole after this time leaves the memory to others, if they want it. */
#define BODY_NS       NS_PER_S

static const char for_others[] = "made room for other answers";

/* ---- answers that slow clients do not take ---- */

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

/* HELD_GRACE_MS after its answer began, a client counts that is slower than the rate asked for;
 * until enough have ended, as many may be equally slow. */
static bool is_too_slow(const struct conn *c, uint64_t now)
{
    uint64_t least_rate = c->table->held.least_rate;
    if (least_rate == 0 || !held_is_too_much(&c->table->held) || !holds(c) ||
        now < c->writing_ms + HELD_GRACE_MS)
        return false;
    return taken_bytes(c) * 1000 / (now - c->writing_ms) < least_rate;
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
static size_t find_holders(const struct conn_table *table, struct holder *holders)
{
    uint64_t now = now_ms();
    size_t count = 0;
    for (struct conn *c = TAILQ_FIRST(&table->transferring); c; c = TAILQ_NEXT(c, all)) {
        if (!holds(c))
            continue;
        uint64_t rate = (taken_bytes(c) + BEGUN_BYTES) * 1000 / (now - c->writing_ms + BEGUN_MS);
        holders[count++] = (struct holder){c, rate};
    }
    return count;
}

void sweep_held(struct conn_table *table)
{
    if (LIKELY(!held_is_full(&table->held)))
        return;
    struct holder *holders = xmalloc(table->count * sizeof(*holders));
    size_t count = find_holders(table, holders);
    qsort(holders, count, sizeof(*holders), compare_rates);
    for (size_t i = 0; i < count && !held_has_room(&table->held); i++)
        conn_break_off(holders[i].conn, for_others);
    free(holders);
}

/* ---- bodies that slow clients send ---- */

static bool holds_blocks(const struct conn *c)
{
    const struct exchange *e = c->exchange;
    return c->state == CONN_READING && e->request.body.block_count > 0 && e->awaits_ms == 0 &&
           now_ns() >= e->accepted_ns + BODY_NS;
}

/* One a tick goes from memory to its file, when half of what all may have is used. */
static void unload_slow(struct conn_table *table)
{
    struct conn *c = TAILQ_FIRST(&table->transferring);
    if (LIKELY(!body_budget_ends(&table->bodies, table->bodies.memory_max_bytes / 2, 1)))
        return;
    while (c && !holds_blocks(c))
        c = TAILQ_NEXT(c, all);
    if (c && conn_may_unload(table))
        (void)body_unload(&c->exchange->request.body);
}

/* ---- deadlines ---- */

/* Ends a connection whose deadline has passed. If bytes are there, this process was late (stopped,
 * or short of CPU), not the client: they are read first. */
static void expire(struct conn *c)
{
    if ((c->state == CONN_IDLE || c->state == CONN_READING) && conn_has_unread(c))
        return;
    switch (c->state) {
    case CONN_IDLE:
        conn_close(c, "idle");
        break;
    case CONN_READING:
        if (c->origin.proxy_due || parser_is_idle(c->exchange->parser))
            conn_close(c, "nothing of a request came");
        else
            intake_refuse(c, 408,
                          parser_in_body(c->exchange->parser) ? "body timeout" : "header timeout");
        break;
    case CONN_WRITING:
        if (output_is_taken(c->fd, &c->untaken, c->table->serving->config->send_timeout_ms))
            conn_give_time_to_take(c);
        else
            conn_break_off(c, "send timeout");
        break;
    case CONN_LINGERING:
        conn_close(c, "lingered");
        break;
    case CONN_RUNNING:
        break;
    }
}

static void expire_list(struct conn_table *table, struct conn_queue *list, uint64_t now)
{
    struct conn *c, *next;
    for (c = TAILQ_FIRST(list); c; c = next) {
        next = TAILQ_NEXT(c, all);
        if (c->queue || atomic_load_explicit(&c->owner, memory_order_acquire) != CONN_LOOP)
            continue;
        if (c->state == CONN_READING)
            intake_end_wait(c, now);
        if (table->draining && c->state == CONN_IDLE && c->deadline_ms > now + DRAIN_IDLE_MS)
            c->deadline_ms = now + DRAIN_IDLE_MS;
        if (is_too_slow(c, now))
            conn_break_off(c, for_others);
        else if (c->deadline_ms <= now)
            expire(c);
    }
}

void sweep(struct conn_table *table, uint64_t now)
{
    held_ask_for_rate(&table->held, now);
    expire_list(table, &table->transferring, now);
    expire_list(table, &table->evictable, now);
    unload_slow(table);
    while (conn_count_descriptors(table) > table->room && conn_close_quiet(table))
        continue;
    exchange_trim(&table->exchanges);
}
