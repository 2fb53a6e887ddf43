/* inbox.h: workers giving each other connections, over a datagram socket pair per worker slot. */
#ifndef MYSERVER_INBOX_H
#define MYSERVER_INBOX_H

#include "conn.h"
#include "worker.h"

/* One for each slot, in the master. The caller owns them. Failure ends the program. */
struct worker_inbox *inbox_open_all(unsigned count);
void inbox_close_all(struct worker_inbox *all, unsigned count);

/* Sends an idle connection to the worker behind `write_fd` and closes it here; false when that
 * inbox is full: nothing has changed then. Leader, state CONN_IDLE. */
MUST_CHECK bool inbox_give(struct conn *c, int write_fd);
/* Takes in what others gave, until the inbox is empty; what the master gave goes to `promotion`.
 * Leader. */
void inbox_adopt_all(struct conn_shared *shared, int read_fd, struct worker_promotion *promotion);
/* In the master: moves what lies in an inbox that nobody reads to another, also in the books of
 * both slots. What does not go in there goes back. */
void inbox_forward(const struct worker_inbox *from, struct board_worker *from_slot,
                   const struct worker_inbox *to, struct board_worker *to_slot);

/* Wakes a worker out of its loop. */
void inbox_wake(int write_fd);

/* In the master: tells the worker to become the mold of `generation` when it has drained; its
 * orders will come through `order_fd`, which it gets a copy of. False, for instance when the inbox
 * is full: errno says why. */
MUST_CHECK bool inbox_promote(const struct worker_inbox *to, uint32_t generation, int order_fd);

#endif
