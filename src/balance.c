/* balance.c: which worker a kept-alive connection is with.
 *
 * Owns: the choice. A connection moves only between requests, when nothing of the next one has been
 * read, so nothing can be lost (inbox.c); that costs 6 us, and is done where it saves a request
 * milliseconds: when a worker has no free thread and another has, and when the requests that wait
 * here will wait much longer than those elsewhere. */
#include "balance.h"
#include "board.h"
#include "inbox.h"

#define RETRY_S      0.002
/* What must be won for a connection to move. */
#define LEVEL_MIN_NS (4 * NS_PER_MS)

static bool serves(const struct board_worker *worker)
{
    return atomic_load_explicit(&worker->state, memory_order_relaxed) == BOARD_WORKER_SERVING;
}

/* One of its free threads is ours, until it says anew how many it has: what others are about to
 * give it, it does not know yet. */
static bool claim_thread(struct board_worker *worker)
{
    uint32_t free = atomic_load_explicit(&worker->free_threads, memory_order_relaxed);
    while (free > 0)
        if (atomic_compare_exchange_weak(&worker->free_threads, &free, free - 1))
            return true;
    return false;
}

/* A worker that would run a request at once, one only for each of its threads; -1: none. */
static int claim_free(const struct balance *b)
{
    for (unsigned i = 1; i < b->board->workers; i++) {
        unsigned slot = (b->slot + i) % b->board->workers;
        struct board_worker *other = &b->board->worker[slot];
        if (serves(other) && atomic_load_explicit(&other->waiting, memory_order_relaxed) == 0 &&
            claim_thread(other))
            return (int)slot;
    }
    return -1;
}

/* The worker where the fewest requests wait, and how many; -1: there is no other. */
static int find_least(const struct balance *b, unsigned *waiting)
{
    int least = -1;
    for (unsigned slot = 0; slot < b->board->workers; slot++) {
        const struct board_worker *other = &b->board->worker[slot];
        if (slot == b->slot || !serves(other))
            continue;
        unsigned theirs = atomic_load_explicit(&other->waiting, memory_order_relaxed);
        if (least < 0 || theirs < *waiting) {
            least = (int)slot;
            *waiting = theirs;
        }
    }
    return least;
}

/* One of whose request something has been read has to stay. */
static bool may_move(const struct conn *c)
{
    return c->state == CONN_IDLE && !c->exchange;
}

static bool give_to(const struct balance *b, struct conn *c, int slot)
{
    return may_move(c) && inbox_give(c, b->inboxes[slot].write_fd);
}

static void give_parked_to_free(struct balance *b)
{
    struct conn *c, *next;
    for (c = TAILQ_FIRST(&b->shared->parked); c; c = next) {
        next = TAILQ_NEXT(c, link);
        if (!may_move(c))
            continue;
        int slot = claim_free(b);
        if (slot < 0)
            return;
        if (!inbox_give(c, b->inboxes[slot].write_fd)) { /* its inbox is full: it does not look */
            atomic_fetch_add(&b->board->worker[slot].free_threads, 1);
            return;
        }
    }
}

static void on_retry(struct ev_loop *loop, ev_timer *watcher, int events)
{
    (void)events;
    struct balance *b = watcher->data;
    give_parked_to_free(b);
    if (TAILQ_EMPTY(&b->shared->parked))
        ev_timer_stop(loop, watcher);
}

void balance_init(struct balance *b, struct conn_shared *shared, const struct worker_seed *seed)
{
    b->shared = shared;
    b->board = seed->board;
    b->inboxes = seed->inboxes;
    b->slot = seed->slot;
    ev_timer_init(&b->retry, on_retry, RETRY_S, RETRY_S);
    b->retry.data = b;
}

void balance_overflow(struct balance *b, struct conn *c)
{
    conn_park(c);
    give_parked_to_free(b); /* those that have waited longer first */
    if (!TAILQ_EMPTY(&b->shared->parked) && !ev_is_active(&b->retry)) {
        ev_timer_set(&b->retry, RETRY_S, RETRY_S);
        ev_timer_start(b->shared->loop, &b->retry);
    }
}

/* Every second of those that have more before them here than there: what is left here and what goes
 * there is then served in the order in which it came. */
static unsigned give_second(struct balance *b, struct conn_queue *queue, int slot, unsigned theirs,
                            unsigned *rank)
{
    struct conn *c, *next;
    unsigned given = 0;
    for (c = TAILQ_FIRST(queue); c; c = next, (*rank)++) {
        next = TAILQ_NEXT(c, link);
        if (*rank >= theirs && (*rank - theirs) % 2 == 0)
            given += give_to(b, c, slot);
    }
    return given;
}

void balance_publish(const struct balance *b)
{
    atomic_store_explicit(&b->board->worker[b->slot].waiting, b->shared->waiting,
                          memory_order_relaxed);
}

/* Numbers are compared, not times: what a request takes is the same in all workers, and two
 * estimates of it would send connections to and fro. */
void balance_level(struct balance *b, uint64_t service_ns)
{
    struct conn_shared *shared = b->shared;
    unsigned ours = shared->waiting, theirs = 0;
    balance_publish(b);
    if (ours * service_ns < LEVEL_MIN_NS || shared->draining)
        return;
    int slot = find_least(b, &theirs);
    if (slot < 0 || ours < theirs + 2 || (ours - theirs) * service_ns < LEVEL_MIN_NS)
        return;
    unsigned rank = 0;
    unsigned given = give_second(b, &shared->parked, slot, theirs, &rank);
    given += give_second(b, &shared->readable, slot, theirs, &rank);
    /* Until they have looked, they do not know; nobody shall give them the same again. */
    atomic_fetch_add_explicit(&b->board->worker[slot].waiting, given, memory_order_relaxed);
    balance_publish(b);
}

/* To the next in turn that takes it. */
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

/* Who has waited longest first: the others queue them as they come. */
void balance_drain(struct balance *b)
{
    unsigned turn = 0;
    struct conn *c, *next;
    drain_queue(b, &b->shared->parked, &turn);
    drain_queue(b, &b->shared->readable, &turn);
    for (c = TAILQ_FIRST(&b->shared->calm); c; c = next) {
        next = TAILQ_NEXT(c, all);
        if (atomic_load(&c->owner) == CONN_LOOP)
            give_to_any(b, c, &turn);
    }
}
