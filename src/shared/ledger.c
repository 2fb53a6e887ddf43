/* ledger.c: the account of the views.
 *
 * Owns the layout of its memory, which belongs to the board. Names are found by their hash in an
 * open table; whoever puts a hash into a free place writes the name there. A process that dies in
 * between leaves a hash without a name, which the next one that uses it writes: the bytes are the
 * same. */
#include "shared/ledger.h"

#include <string.h>

#define FIRST_SHIFT     16 /* the first bucket ends at 2^16 ns */
/* How often old requests give up their place among the slow ones. */
#define SLOW_REFRESH_NS (10 * NS_PER_S)

const char *const ledger_part_names[LEDGER_PARTS] = {
    [LEDGER_RECEIVE] = "receive", [LEDGER_THREAD] = "thread",     [LEDGER_GIL] = "gil",
    [LEDGER_CPU] = "cpu",         [LEDGER_DATABASE] = "database", [LEDGER_RUNQUEUE] = "runqueue",
    [LEDGER_OTHER] = "other",     [LEDGER_SEND] = "send",
};
const char *const ledger_doing_names[LEDGER_DOINGS] = {
    [LEDGER_RUNS] = "runs",
    [LEDGER_QUERIES] = "database",
    [LEDGER_SENDS] = "sends",
};

static size_t shards_offset(void)
{
    const size_t line = _Alignof(struct ledger_shard);
    return (sizeof(struct ledger) + line - 1) / line * line;
}

size_t ledger_bytes(unsigned shards)
{
    return shards_offset() + shards * sizeof(struct ledger_shard);
}

struct ledger *ledger_init(void *memory, unsigned shards)
{
    struct ledger *ledger = memory;
    ledger->shards = shards;
    ledger->shard = (struct ledger_shard *)((char *)memory + shards_offset());
    return ledger;
}

static struct ledger_shard *shard_of(struct ledger *ledger, unsigned slot)
{
    return &ledger->shard[slot % ledger->shards];
}

void ledger_begin(struct ledger *ledger, unsigned slot)
{
    atomic_store(&shard_of(ledger, slot)->slow_taken, false);
}

/* ---- names ---- */

static void write_name(struct ledger_name *name, const char *text, size_t len)
{
    memcpy(name->text, text, len);
    name->text[len] = '\0';
    atomic_store_explicit(&name->whole, true, memory_order_release);
}

unsigned ledger_view(struct ledger *ledger, const char *name, size_t len)
{
    len = len < LEDGER_NAME_MAX - 1 ? len : LEDGER_NAME_MAX - 1;
    uint64_t hash = text_hash(TEXT_HASH, name, len) | 1; /* 0: a place that is free */
    for (unsigned step = 0; step < LEDGER_VIEWS; step++) {
        unsigned view = (unsigned)(hash >> 32 ^ hash >> 1) + step;
        struct ledger_name *found = &ledger->names[view %= LEDGER_VIEWS];
        uint64_t there = atomic_load_explicit(&found->hash, memory_order_relaxed);
        if (there == 0 && atomic_compare_exchange_strong(&found->hash, &there, hash))
            there = hash;
        if (there != hash)
            continue;
        if (UNLIKELY(!atomic_load_explicit(&found->whole, memory_order_relaxed)))
            write_name(found, name, len);
        return view;
    }
    return LEDGER_VIEWS;
}

const char *ledger_name(const struct ledger *ledger, unsigned view)
{
    if (view >= LEDGER_VIEWS)
        return view == LEDGER_VIEWS ? "other" : NULL;
    const struct ledger_name *name = &ledger->names[view];
    return atomic_load_explicit(&name->whole, memory_order_acquire) ? name->text : NULL;
}

/* ---- the histogram ---- */

unsigned ledger_bucket(uint64_t ns)
{
    if (ns < 1ull << FIRST_SHIFT)
        return 0;
    unsigned power = 63 - (unsigned)__builtin_clzll(ns);
    unsigned quarter = (unsigned)(ns >> (power - 2)) & 3;
    unsigned bucket = 1 + (power - FIRST_SHIFT) * 4 + quarter;
    return bucket < LEDGER_BUCKETS ? bucket : LEDGER_BUCKETS - 1;
}

uint64_t ledger_bound_ns(unsigned bucket)
{
    if (bucket >= LEDGER_BUCKETS - 1)
        return UINT64_MAX;
    return (uint64_t)(4 + bucket % 4) << (FIRST_SHIFT + bucket / 4 - 2);
}

/* ---- slow requests ---- */

static bool is_recent(const struct ledger_slow *slow, uint64_t now)
{
    return now - slow->ended_ns < LEDGER_RECENT_NS;
}

static void copy_text(char *out, size_t room, struct text text)
{
    size_t len = text.len < room - 1 ? text.len : room - 1;
    if (len > 0)
        memcpy(out, text.data, len);
    out[len] = '\0';
}

/* The place of the request that is to be forgotten first, and the time that the next one must
 * exceed. */
static struct ledger_slow *place_for(struct ledger_shard *shard, uint64_t now, uint64_t *floor_ns)
{
    struct ledger_slow *least = shard->slow;
    uint64_t least_ns = UINT64_MAX;
    for (unsigned i = 0; i < LEDGER_SLOW; i++) {
        struct ledger_slow *slow = &shard->slow[i];
        uint64_t wall_ns = atomic_load_explicit(&slow->wall_ns, memory_order_relaxed);
        uint64_t weight_ns = wall_ns && is_recent(slow, now) ? wall_ns : 0;
        if (weight_ns < least_ns) {
            least = slow;
            least_ns = weight_ns;
        }
    }
    *floor_ns = least_ns;
    return least;
}

static void write_slow(struct ledger_slow *slow, const struct ledger_entry *entry, uint64_t wall_ns)
{
    atomic_store_explicit(&slow->wall_ns, 0, memory_order_relaxed);
    slow->ended_ns = entry->ended_ns;
    memcpy(slow->parts_ns, entry->parts_ns, sizeof slow->parts_ns);
    slow->pauses_ns = entry->pauses.total_ns;
    slow->view = entry->view;
    slow->status = entry->status;
    slow->queries = entry->queries;
    slow->worker = entry->worker;
    memcpy(slow->trace, entry->trace, sizeof slow->trace);
    copy_text(slow->method, sizeof slow->method, entry->method);
    copy_text(slow->path, sizeof slow->path, entry->path);
    atomic_store_explicit(&slow->wall_ns, wall_ns, memory_order_release);
}

/* Where another thread is at it, the request is left out: nobody waits. */
static void keep_slow(struct ledger_shard *shard, const struct ledger_entry *entry,
                      uint64_t wall_ns)
{
    uint64_t floor_ns, now = entry->ended_ns;
    if (atomic_exchange_explicit(&shard->slow_taken, true, memory_order_acquire))
        return;
    struct ledger_slow *place = place_for(shard, now, &floor_ns);
    if (wall_ns > floor_ns)
        write_slow(place, entry, wall_ns);
    (void)place_for(shard, now, &floor_ns);
    atomic_store_explicit(&shard->slow_floor_ns, floor_ns, memory_order_relaxed);
    atomic_store_explicit(&shard->slow_look_ns, now + SLOW_REFRESH_NS, memory_order_relaxed);
    atomic_store_explicit(&shard->slow_taken, false, memory_order_release);
}

/* ---- counting ---- */

static void add(_Atomic uint64_t *sum, uint64_t value)
{
    if (value)
        atomic_fetch_add_explicit(sum, value, memory_order_relaxed);
}

static void add_pauses(struct ledger_row *row, const struct ledger_pauses *pauses)
{
    uint32_t longest_us = atomic_load_explicit(&row->longest_pause_us, memory_order_relaxed);
    uint32_t its_us = (uint32_t)(pauses->longest_ns / NS_PER_US);
    atomic_fetch_add_explicit(&row->pauses, (uint32_t)pauses->count, memory_order_relaxed);
    add(&row->pauses_ns, pauses->total_ns);
    while (its_us > longest_us &&
           !atomic_compare_exchange_weak(&row->longest_pause_us, &longest_us, its_us))
        continue;
}

void ledger_add(struct ledger *ledger, unsigned slot, const struct ledger_entry *entry)
{
    struct ledger_shard *shard = shard_of(ledger, slot);
    struct ledger_row *row = &shard->rows[entry->view];
    unsigned class = entry->status / 100;
    uint64_t wall_ns = 0;
    for (unsigned i = 0; i < LEDGER_PARTS; i++) {
        add(&row->parts_ns[i], entry->parts_ns[i]);
        wall_ns += entry->parts_ns[i];
    }
    add(&row->queries, entry->queries);
    add(&row->sent_bytes, entry->sent_bytes);
    if (UNLIKELY(entry->pauses.count))
        add_pauses(row, &entry->pauses);
    if (UNLIKELY(wall_ns > atomic_load_explicit(&shard->slow_floor_ns, memory_order_relaxed) ||
                 entry->ended_ns >
                     atomic_load_explicit(&shard->slow_look_ns, memory_order_relaxed)))
        keep_slow(shard, entry, wall_ns);
    /* last, so that whoever sees the request sees all of it */
    atomic_fetch_add_explicit(&row->classes[class < LEDGER_CLASSES ? class : 0], 1,
                              memory_order_release);
    atomic_fetch_add_explicit(&row->buckets[ledger_bucket(wall_ns)], 1, memory_order_release);
}
