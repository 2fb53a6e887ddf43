/* balance.h: which worker a kept-alive connection is with. Clients choose a worker once, when they
 * connect; their requests should be served as if all workers had one queue. Leader. */
#ifndef MYSERVER_BALANCE_H
#define MYSERVER_BALANCE_H

#include "conn.h"
#include "worker.h"

struct board;

struct balance {
    struct conn_shared *shared;
    struct board *board;
    const struct worker_inbox *inboxes; /* [board->workers] */
    unsigned slot;
};

/* Borrows all. The loop must be there. */
void balance_init(struct balance *b, struct conn_shared *shared, const struct worker_seed *seed);
/* No thread is free, and the next request of an idle connection is there: gives it to a worker
 * that has one, or parks it. */
void balance_overflow(struct balance *b, struct conn *c);
/* Tells the siblings how many requests wait here, and wakes one who has more than threads when a
 * thread here is free, or about to run a request that came much later. */
void balance_publish(const struct balance *b);
/* Requests wait for `service_ns` each: tells the siblings, and gives to one where less waits.
 * Cheap when nothing does. */
void balance_level(struct balance *b, uint64_t service_ns);
/* We drain: workers that go on serving take the quiet connections, and their clients notice
 * nothing. When the whole server stops there are none. */
void balance_drain(struct balance *b);

#endif
