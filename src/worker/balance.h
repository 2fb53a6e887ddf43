/* balance.h: moves kept-alive connections between workers. A client gets its worker once, when it
 * connects; still, requests should be served as if all workers had one queue. Leader. */
#ifndef MYSERVER_BALANCE_H
#define MYSERVER_BALANCE_H

#include "shared/seed.h"
#include "worker/conn.h"

struct board;

struct balance {
    struct conn_shared *shared;
    struct board *board;
    const struct worker_inbox *inboxes; /* [board->workers] */
    unsigned slot;
};

/* Borrows all. `shared->loop` must exist. */
void balance_init(struct balance *b, struct conn_shared *shared, const struct worker_seed *seed);
/* No thread is free, and the next request of an idle connection has come: gives the connection to a
 * worker with a free thread, or parks it. */
void balance_overflow(struct balance *b, struct conn *c);
/* Publishes on the board how many requests wait here and since when. If a thread here is free,
 * wakes the siblings that have parked requests; if it is about to run a request, wakes only the
 * sibling whose next request has waited longest, if that one is much older. */
void balance_publish(const struct balance *b);
/* Publishes the same, and gives connections to the sibling where the fewest requests wait.
 * `service_ns` is how much each waiting request delays those behind it. Cheap when nothing
 * waits. */
void balance_level(struct balance *b, uint64_t service_ns);
/* This worker drains: gives its connections that are between two requests to workers that go on
 * serving, so that the clients notice nothing. Not called when the whole server stops. */
void balance_drain(struct balance *b);

#endif
