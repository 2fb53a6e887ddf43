/* statements.c: the statements to databases.
 *
 * Owns the layout of its memory, which belongs to the board. A place is taken by a compare and swap
 * of its hash; the text follows, in a piece of the arena that stays with the place. A place can be
 * taken from a statement that has cost little: what others add meanwhile is then lost or counted
 * for the new one, some numbers of some. */
#include "shared/statements.h"

#include <string.h>

uint64_t statements_hash(struct text shown, enum sql_dialect dialect, const char *alias)
{
    uint64_t hash = text_hash(TEXT_HASH, shown.data, shown.len);
    hash = text_hash(hash, alias, strlen(alias) + 1);
    return text_hash(hash, &(char){(char)dialect}, 1) | 1;
}

static void copy_text(char *out, size_t room, struct text text)
{
    size_t len = text.len < room - 1 ? text.len : room - 1;
    memcpy(out, text.data, len);
    out[len] = '\0';
}

/* ---- places ---- */

/* A piece of the arena for a text; false: it is full. */
static bool take_room(struct statements *all, struct statement *s, size_t len)
{
    uint32_t used = atomic_load(&all->used);
    do
        if (used + len > STATEMENTS_ARENA)
            return false;
    while (!atomic_compare_exchange_weak(&all->used, &used, used + (uint32_t)len));
    s->offset = used;
    s->room = (uint16_t)len;
    return true;
}

static void fill(struct statements *all, struct statement *s, struct text shown,
                 enum sql_dialect dialect, const char *alias)
{
    size_t len = shown.len < STATEMENTS_TEXT_MAX ? shown.len : STATEMENTS_TEXT_MAX;
    if (s->room == 0 && !take_room(all, s, len))
        len = 0; /* the statement counts, without a text */
    len = len < s->room ? len : s->room;
    memcpy(all->arena + s->offset, shown.data, len);
    s->length = (uint16_t)len;
    s->cut = len < shown.len;
    s->dialect = (uint8_t)dialect;
    copy_text(s->alias, sizeof s->alias, (struct text){alias, strlen(alias)});
    atomic_store_explicit(&s->whole, true, memory_order_release);
}

static void clear(struct statement *s)
{
    atomic_store(&s->whole, false);
    atomic_store(&s->slowest_view, 0);
    atomic_store(&s->count, 0);
    atomic_store(&s->time_ns, 0);
    atomic_store(&s->most_ns, 0);
    atomic_store(&s->failed, 0);
    atomic_store(&s->duplicates, 0);
}

/* Takes the place of the statement that has cost least, if the new one costs more. One whose piece
 * of the arena is too small does not give its place, unless the arena has room. */
static uint32_t take_over(struct statements *all, uint64_t hash, size_t len, uint64_t time_ns)
{
    uint32_t least = STATEMENTS_NONE;
    uint64_t least_ns = time_ns;
    for (uint32_t i = 0; i < STATEMENTS_MAX; i++) {
        const struct statement *s = &all->items[i];
        uint64_t cost_ns = atomic_load_explicit(&s->time_ns, memory_order_relaxed);
        if (cost_ns < least_ns && (s->room >= len || s->room == 0)) {
            least = i;
            least_ns = cost_ns;
        }
    }
    if (least == STATEMENTS_NONE)
        return least;
    struct statement *s = &all->items[least];
    uint64_t before = atomic_load(&s->hash);
    if (before == 0 || !atomic_compare_exchange_strong(&s->hash, &before, hash))
        return STATEMENTS_NONE;
    clear(s);
    atomic_fetch_add(&all->forgotten, 1);
    return least;
}

/* The place that has the hash, or a free one, which has it then. */
static uint32_t take_place(struct statements *all, uint64_t hash)
{
    uint32_t first_free = STATEMENTS_NONE;
    for (uint32_t i = 0; i < STATEMENTS_MAX; i++) {
        uint64_t there = atomic_load_explicit(&all->items[i].hash, memory_order_relaxed);
        if (there == hash)
            return i;
        if (there == 0 && first_free == STATEMENTS_NONE)
            first_free = i;
    }
    if (first_free == STATEMENTS_NONE)
        return first_free;
    uint64_t none = 0;
    bool is_ours = atomic_compare_exchange_strong(&all->items[first_free].hash, &none, hash);
    return is_ours || none == hash ? first_free : take_place(all, hash);
}

uint32_t statements_find(struct statements *all, struct text shown, enum sql_dialect dialect,
                         const char *alias, uint64_t time_ns)
{
    uint64_t hash = statements_hash(shown, dialect, alias);
    uint32_t place = take_place(all, hash);
    if (place == STATEMENTS_NONE)
        place = take_over(all, hash, shown.len, time_ns);
    if (place != STATEMENTS_NONE && !atomic_load(&all->items[place].whole))
        fill(all, &all->items[place], shown, dialect, alias);
    return place;
}

uint32_t statements_place(const struct statements *all, uint64_t hash)
{
    for (uint32_t i = 0; i < STATEMENTS_MAX; i++)
        if (statements_is(all, i, hash))
            return i;
    return STATEMENTS_NONE;
}

bool statements_text(const struct statements *all, uint32_t place, char *out)
{
    const struct statement *s = &all->items[place];
    uint64_t hash = atomic_load(&s->hash);
    uint32_t offset = s->offset;
    size_t length = s->length;
    if (!atomic_load_explicit(&s->whole, memory_order_acquire) || length > STATEMENTS_TEXT_MAX ||
        offset > STATEMENTS_ARENA || offset + length > STATEMENTS_ARENA)
        return false;
    memcpy(out, all->arena + offset, length);
    out[length] = '\0';
    return atomic_load(&s->whole) && atomic_load(&s->hash) == hash;
}

/* ---- counting ---- */

static void add(_Atomic uint64_t *sum, uint64_t value)
{
    if (value)
        atomic_fetch_add_explicit(sum, value, memory_order_relaxed);
}

/* True: the value is the highest until now. */
static bool raise_to(_Atomic uint64_t *most, uint64_t value)
{
    uint64_t before = atomic_load_explicit(most, memory_order_relaxed);
    while (before < value)
        if (atomic_compare_exchange_weak_explicit(most, &before, value, memory_order_relaxed,
                                                  memory_order_relaxed))
            return true;
    return false;
}

void statements_add(struct statements *all, uint32_t place, uint64_t hash, uint32_t view,
                    const struct statement_use *use)
{
    struct statement *s = &all->items[place];
    if (!statements_is(all, place, hash))
        return;
    add(&s->count, use->count);
    add(&s->time_ns, use->time_ns);
    add(&s->failed, use->failed);
    add(&s->duplicates, use->duplicates);
    if (raise_to(&s->most_ns, use->most_ns))
        atomic_store_explicit(&s->slowest_view, view, memory_order_relaxed);
}

/* ---- repeats ---- */

uint32_t statements_repeat(struct statements *all, uint64_t hash, uint32_t view, bool *is_new)
{
    uint64_t key = text_hash(hash, &view, sizeof view) | 1;
    for (uint32_t i = 0; i < STATEMENTS_REPEATS; i++) {
        struct statement_repeat *repeat = &all->repeats[i];
        uint64_t there = atomic_load_explicit(&repeat->key, memory_order_relaxed);
        if (there == 0 && atomic_compare_exchange_strong(&repeat->key, &there, key))
            there = key;
        if (there != key)
            continue;
        *is_new = !atomic_load(&repeat->whole);
        repeat->hash = hash;
        repeat->view = view;
        return i;
    }
    *is_new = false;
    return STATEMENTS_NONE;
}

uint32_t statements_repeat_of(struct statements *all, uint32_t repeat, uint32_t view)
{
    const struct statement_repeat *seen = &all->repeats[repeat];
    bool is_new;
    if (seen->view == view)
        return repeat;
    uint32_t found = statements_repeat(all, seen->hash, view, &is_new);
    if (found != STATEMENTS_NONE && is_new && atomic_load(&seen->whole))
        statements_set_origin(all, found, (struct text){seen->origin, strlen(seen->origin)});
    return found;
}

void statements_set_origin(struct statements *all, uint32_t repeat, struct text origin)
{
    struct statement_repeat *r = &all->repeats[repeat];
    copy_text(r->origin, sizeof r->origin, origin);
    atomic_store_explicit(&r->whole, true, memory_order_release);
}

void statements_add_repeat(struct statements *all, uint32_t repeat, const struct statement_use *use)
{
    struct statement_repeat *r = &all->repeats[repeat];
    uint32_t most = atomic_load_explicit(&r->most, memory_order_relaxed);
    add(&r->requests, 1);
    add(&r->queries, use->count);
    add(&r->time_ns, use->time_ns);
    while (most < use->count && !atomic_compare_exchange_weak(&r->most, &most, use->count))
        continue;
}
