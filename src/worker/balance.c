/* balance.c: moves kept-alive connections between workers.
 *
 * Owns: the choice which connections move and where. A connection moves only between requests, when
 * no byte of the next one has been read, so nothing can be lost (inbox.c). A move costs 6 us, and
 * is done where it saves a request milliseconds: when this worker has no free thread and another
 * one has; when requests here have waited much longer than the next one of a sibling; and when they
 * will wait much longer here than there. */
#include "balance.h"
#include "leads.h"

#include "shared/board.h"
#include "shared/inbox.h"

#include <string.h>
#include <sys/epoll.h>

/* A connection moves only if that saves its request at least this. */
#define LEVEL_MIN_NS (4 * NS_PER_MS)
/* A connection also moves if its request has waited at least this much longer than the sibling's;
 * AGED_MAX is how many move at once. */
#define AGE_MIN_NS   (20 * NS_PER_MS)
#define AGED_MAX     16

/* What goes with a connection. Written and read by the same program. */
struct gift {
    uint64_t waits_since_ns, after_newcomers;
    struct conn_origin origin;
};
static_assert(sizeof(struct gift) <= INBOX_ABOUT_BYTES, "a letter has room for a gift");

static bool serves(const struct board_worker *worker)
{
    return atomic_load_explicit(&worker->state, memory_order_relaxed) == BOARD_WORKER_SERVING;
}

/* Takes one off the number of free threads that `worker` has published, so that two workers do not
 * send a connection each to the same free thread. The worker overwrites the number when it next
 * publishes it. */
static bool claim_thread(struct board_worker *worker)
{
    uint32_t free = atomic_load(&worker->free_threads);
    while (free > 0)
        if (atomic_compare_exchange_weak(&worker->free_threads, &free, free - 1))
            return true;
    return false;
}

/* Whether the worker can take one more connection: without a free descriptor there, it would be
 * lost. */
static bool has_place(const struct board_worker *other)
{
    return (int32_t)(atomic_load(&other->takes_until) - atomic_load(&other->given)) > 0;
}

static bool claim_place(struct board_worker *other)
{
    uint32_t given = atomic_load(&other->given);
    do {
        if ((int32_t)(atomic_load(&other->takes_until) - given) <= 0)
            return false;
    } while (!atomic_compare_exchange_weak(&other->given, &given, given + 1));
    return true;
}

/* The slot of a worker that would run a request at once; one of its free threads and one place for
 * a connection are claimed. -1: there is none. */
static int claim_free(const struct balance *b)
{
    for (unsigned i = 1; i < b->board->workers; i++) {
        unsigned slot = (b->slot + i) % b->board->workers;
        struct board_worker *other = &b->board->worker[slot];
        if (!serves(other) || atomic_load(&other->waiting) > 0 || !claim_thread(other))
            continue;
        if (claim_place(other))
            return (int)slot;
        atomic_fetch_add(&other->free_threads, 1);
    }
    return -1;
}

/* Since when the next request of `worker` waits; now, if none waits. */
static uint64_t waits_since(const struct board_worker *worker)
{
    uint64_t since_ns = atomic_load_explicit(&worker->waits_since_ns, memory_order_relaxed);
    return since_ns ? since_ns : now_ns();
}

/* Whether requests are parked at `other` and its next one has waited longer than the next one
 * here. */
static bool is_behind(const struct balance *b, const struct board_worker *other)
{
    return atomic_load(&other->parked) &&
           waits_since(other) < waits_since(&b->board->worker[b->slot]);
}

/* The slot of the sibling where the fewest requests wait, and in *waiting how many; -1: there is
 * none. Siblings whose next request has waited longer than ours get nothing more. */
static int find_least(const struct balance *b, unsigned *waiting)
{
    int least = -1;
    for (unsigned slot = 0; slot < b->board->workers; slot++) {
        const struct board_worker *other = &b->board->worker[slot];
        if (slot == b->slot || !serves(other) || !has_place(other) || is_behind(b, other))
            continue;
        unsigned theirs = atomic_load_explicit(&other->waiting, memory_order_relaxed);
        if (least < 0 || theirs < *waiting) {
            least = (int)slot;
            *waiting = theirs;
        }
    }
    return least;
}

/* A connection has to stay once part of a request has been read. */
static bool may_move(const struct conn *c)
{
    return c->state == CONN_IDLE && !c->exchange;
}

/* Sends `c` to the worker of `slot`, whose place is claimed, and closes it here. False: the inbox
 * there is full, because nobody reads it. */
static bool give_claimed(const struct balance *b, struct conn *c, int slot)
{
    assert(may_move(c));
    const struct gift gift = {c->waits_since_ns, c->after_newcomers, c->origin};
    struct letter letter = {0};
    memcpy(letter.about, &gift, sizeof(gift));
    if (!inbox_send(b->inboxes[slot].write_fd, &letter, c->fd)) {
        atomic_fetch_sub(&b->board->worker[slot].given, 1);
        return false;
    }
    /* The epoll instance of this worker watches the open file description, which stays open in the
     * other worker: after close() alone it would be watched for ever (epoll(7), Q6). libev has no
     * call for this. */
    (void)epoll_ctl(c->table->epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
    conn_close(c, "given to another worker");
    return true;
}

uint64_t balance_accepted(const struct balance *b)
{
    return atomic_load_explicit(&b->board->accepted, memory_order_relaxed);
}

uint64_t balance_note_accepted(struct balance *b)
{
    return atomic_fetch_add_explicit(&b->board->accepted, 1, memory_order_relaxed) + 1;
}

static bool give_to(const struct balance *b, struct conn *c, int slot)
{
    return may_move(c) && claim_place(&b->board->worker[slot]) && give_claimed(b, c, slot);
}

/* This worker sets `parked` on the board before it looks for a free thread, and a sibling publishes
 * its free thread before it looks for workers with `parked` set (offer_thread). So at least one of
 * the two sees the other. */
static void give_parked_to_free(struct balance *b)
{
    struct conn *c, *next;
    if (TAILQ_EMPTY(&b->table->parked))
        return;
    board_set_parked(b->board, b->slot, true);
    for (c = TAILQ_FIRST(&b->table->parked); c; c = next) {
        next = TAILQ_NEXT(c, link);
        if (!may_move(c))
            continue;
        int slot = claim_free(b);
        if (slot < 0)
            return;
        if (!give_claimed(b, c, slot)) {
            atomic_fetch_add(&b->board->worker[slot].free_threads, 1);
            return;
        }
    }
}

/* The slot of the sibling with the fewest connections, which all may have `limit` of; -1: all have
 * that many. */
static int find_roomiest(const struct balance *b, unsigned limit)
{
    int roomiest = -1;
    for (unsigned slot = 0; slot < b->board->workers; slot++) {
        const struct board_worker *other = &b->board->worker[slot];
        /* what is in its inbox is counted there, and for a moment twice */
        unsigned theirs = atomic_load(&other->given) - atomic_load(&other->taken);
        theirs += atomic_load(&other->connections);
        if (slot == b->slot || !serves(other) || !has_place(other) || theirs >= limit)
            continue;
        limit = theirs;
        roomiest = (int)slot;
    }
    return roomiest;
}

void balance_relieve(const struct balance *b)
{
    const struct conn_table *table = b->table;
    assert_leads();
    if (conn_has_room(table))
        return;
    int slot = find_roomiest(b, table->limit < table->room ? table->limit : table->room);
    struct conn *c = slot < 0 ? NULL : conn_find_idle(b->table);
    if (c)
        (void)give_to(b, c, slot);
}

void balance_init(struct balance *b, struct conn_table *table, const struct worker_seed *seed)
{
    b->table = table;
    b->board = seed->board;
    b->inboxes = seed->inboxes;
    b->slot = seed->slot;
}

bool balance_adopt(struct balance *b, int read_fd, struct worker_promotion *promotion)
{
    struct letter letter;
    struct gift gift;
    int fd = -1;
    assert_leads();
    for (;;) {
        enum inbox_result result = inbox_take(read_fd, &letter, &fd);
        if (result == INBOX_FULL)
            return false;
        if (result == INBOX_EMPTY)
            return true;
        if (result == INBOX_LETTER && letter.generation) {
            *promotion = (struct worker_promotion){fd, letter.generation};
            continue;
        }
        if (result == INBOX_LETTER) {
            memcpy(&gift, letter.about, sizeof(gift));
            balance_relieve(b);
            conn_adopt(b->table, fd, &gift.origin, gift.waits_since_ns, gift.after_newcomers);
        }
        if (result != INBOX_WAKE)
            atomic_fetch_add(&b->board->worker[b->slot].taken, 1);
    }
}

void balance_overflow(struct balance *b, struct conn *c)
{
    assert_leads();
    conn_park(c);
    give_parked_to_free(b); /* in the order of the queue: the longest wait first */
}

/* Gives away every second connection that has more than `theirs` before it here. What stays and
 * what goes are then both served in the order in which they came. */
static void give_second(struct balance *b, struct conn_queue *queue, int slot, unsigned theirs,
                        unsigned *rank)
{
    struct conn *c, *next;
    for (c = TAILQ_FIRST(queue); c; c = next, (*rank)++) {
        next = TAILQ_NEXT(c, link);
        if (*rank <= theirs || (*rank - theirs) % 2 == 0)
            continue;
        /* The sibling counts it only when it reads its inbox: count it now, so that nobody gives it
         * too many. */
        if (give_to(b, c, slot))
            atomic_fetch_add(&b->board->worker[slot].waiting, 1);
    }
}

/* Wakes the worker of `slot` if it has parked requests; not again until it has looked. */
static void wake(const struct balance *b, unsigned slot)
{
    if (board_set_parked(b->board, slot, false))
        inbox_wake(b->inboxes[slot].write_fd);
}

static void offer_thread(const struct balance *b)
{
    for (unsigned slot = 0; slot < b->board->workers; slot++)
        if (slot != b->slot)
            wake(b, slot);
}

/* Called before this worker runs its next request: when that one came at least AGE_MIN_NS after the
 * next request of a sibling, asks the sibling whose next request has waited longest. */
static void ask_for_older(const struct balance *b)
{
    uint64_t oldest_ns = waits_since(&b->board->worker[b->slot]) - AGE_MIN_NS;
    int slot = -1;
    for (unsigned i = 0; i < b->board->workers; i++) {
        const struct board_worker *other = &b->board->worker[i];
        if (i == b->slot || !serves(other) || !atomic_load(&other->parked) ||
            waits_since(other) >= oldest_ns)
            continue;
        oldest_ns = waits_since(other);
        slot = (int)i;
    }
    if (slot < 0)
        return;
    atomic_store(&b->board->worker[slot].asked_by, b->slot + 1);
    wake(b, (unsigned)slot);
}

void balance_publish(const struct balance *b)
{
    struct board_worker *ours = &b->board->worker[b->slot];
    const struct conn *next = TAILQ_FIRST(&b->table->parked);
    bool parked = next != NULL;
    assert_leads();
    if (!next)
        next = TAILQ_FIRST(&b->table->readable);
    /* If the first one has to stay, there is nothing here that a sibling could ask for. */
    atomic_store_explicit(&ours->waits_since_ns, next && may_move(next) ? next->waits_since_ns : 0,
                          memory_order_relaxed);
    atomic_store_explicit(&ours->waiting, b->table->waiting, memory_order_relaxed);
    unsigned spare = b->table->inbox_waits ? 0 : conn_spare_descriptors(b->table);
    atomic_store_explicit(&ours->takes_until, atomic_load(&ours->taken) + spare,
                          memory_order_relaxed);
    if (parked)
        return;
    board_set_parked(b->board, b->slot, false);
    /* Without a free thread the standby thread leads, and no request is about to run here. */
    if (atomic_load(&b->board->parked) == 0 || b->table->draining ||
        atomic_load(&ours->free_threads) == 0)
        return;
    if (next)
        ask_for_older(b);
    else
        offer_thread(b);
}

/* Where all threads are busy for long, parked requests grow old while a sibling runs younger ones.
 * When the sibling has asked (ask_for_older), it gets the oldest. */
static void give_older(const struct balance *b)
{
    uint32_t asker = atomic_exchange(&b->board->worker[b->slot].asked_by, 0);
    if (!asker || !serves(&b->board->worker[asker - 1]))
        return;
    uint64_t theirs_ns = waits_since(&b->board->worker[asker - 1]);
    struct conn *c, *next;
    unsigned seen = 0;
    for (c = TAILQ_FIRST(&b->table->parked); c && seen < AGED_MAX; c = next, seen++) {
        next = TAILQ_NEXT(c, link);
        if (c->waits_since_ns + AGE_MIN_NS > theirs_ns)
            return;
        (void)give_to(b, c, (int)asker - 1);
    }
}

/* Compares numbers of requests, not estimated times: a request takes equally long in all workers,
 * and two different estimates would move connections to and fro. */
void balance_level(struct balance *b, uint64_t service_ns)
{
    struct conn_table *table = b->table;
    unsigned ours, theirs = 0;
    assert_leads();
    give_parked_to_free(b);
    if (!table->draining)
        give_older(b);
    ours = table->waiting;
    balance_publish(b);
    if (ours * service_ns < LEVEL_MIN_NS || table->draining)
        return;
    int slot = find_least(b, &theirs);
    if (slot < 0 || ours < theirs + 2 || (ours - theirs) * service_ns < LEVEL_MIN_NS)
        return;
    unsigned rank = 0;
    give_second(b, &table->parked, slot, theirs, &rank);
    give_second(b, &table->readable, slot, theirs, &rank);
    balance_publish(b);
}

/* Gives `c` to the next worker in turn that takes it, if one does. */
static void give_to_any(struct balance *b, struct conn *c, unsigned *turn)
{
    for (unsigned tried = 0; tried < b->board->workers; tried++) {
        unsigned slot = (*turn)++ % b->board->workers;
        if (slot != b->slot && serves(&b->board->worker[slot]) && give_to(b, c, (int)slot))
            return;
    }
}

static void drain_queue(struct balance *b, struct conn_queue *queue, unsigned *turn)
{
    struct conn *c, *next;
    for (c = TAILQ_FIRST(queue); c; c = next) {
        next = TAILQ_NEXT(c, link);
        give_to_any(b, c, turn);
    }
}

/* The longest wait first, because the others queue connections in the order in which they come. */
void balance_drain(struct balance *b)
{
    unsigned turn = 0;
    struct conn *c, *next;
    assert_leads();
    drain_queue(b, &b->table->parked, &turn);
    drain_queue(b, &b->table->readable, &turn);
    for (c = TAILQ_FIRST(&b->table->evictable); c; c = next) {
        next = TAILQ_NEXT(c, all);
        if (atomic_load(&c->owner) == CONN_LOOP)
            give_to_any(b, c, &turn);
    }
}
