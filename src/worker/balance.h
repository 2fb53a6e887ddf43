/* balance.h: moves kept-alive connections between workers. A client gets its worker once, when it
 * connects; still, requests should be served as if all workers had one queue. Leader. */
#ifndef MYSERVER_WORKER_BALANCE_H
#define MYSERVER_WORKER_BALANCE_H

#include "conn.h"
#include "shared/seed.h"

struct board;

struct balance {
    struct conn_table *table;
    struct board *board;
    const struct worker_inbox *inboxes; /* [board->workers] */
    unsigned slot;
};

/* Borrows all. `table->loop` must exist. */
void balance_init(struct balance *b, struct conn_table *table, const struct worker_seed *seed);
/* Adopts all connections in the inbox of this worker. An order of the master to become the mold is
 * stored in `promotion`. False: the process has no free descriptor to receive another one with
 * (errno says why), and what is in the inbox stays there. */
MUST_CHECK bool balance_adopt(struct balance *b, int read_fd, struct worker_promotion *promotion);
/* No thread is free, and the next request of an idle connection has come: gives the connection to a
 * worker with a free thread, or parks it. */
void balance_overflow(struct balance *b, struct conn *c);
/* How many clients all workers have accepted. */
uint64_t balance_accepted(const struct balance *b);
/* One more; returns how many these are. */
uint64_t balance_note_accepted(struct balance *b);
/* Publishes on the board how many requests wait here and since when. If a thread here is free,
 * wakes the siblings that have parked requests; if it is about to run a request, wakes only the
 * sibling whose next request has waited longest, if that one is much older. */
void balance_publish(const struct balance *b);
/* Publishes the same, and gives connections to the sibling where the fewest requests wait.
 * `service_ns` is how much each waiting request delays those behind it. Cheap when nothing
 * waits. */
void balance_level(struct balance *b, uint64_t service_ns);
/* This worker has as many connections as it may: gives its longest idle one to the worker with the
 * fewest, so that none has to be closed as long as there is room in any worker. */
void balance_relieve(const struct balance *b);
/* This worker drains: gives its connections that are between two requests to workers that go on
 * serving, so that the clients notice nothing. Not called when the whole server stops. */
void balance_drain(struct balance *b);

#endif
