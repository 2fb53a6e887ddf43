/* inbox.h: how workers give each other connections, over a datagram socket pair per worker slot. */
#ifndef MYSERVER_INBOX_H
#define MYSERVER_INBOX_H

#include "shared/seed.h"
#include "worker/conn.h"

/* In the master: opens an inbox for each of `count` slots. The caller owns the array. Failure ends
 * the program. */
struct worker_inbox *inbox_open_all(unsigned count);
void inbox_close_all(struct worker_inbox *all, unsigned count);

/* Sends an idle connection to the worker that reads the inbox of `write_fd`, and closes it here.
 * False: the inbox is full and nothing has changed. Leader, state CONN_IDLE. */
MUST_CHECK bool inbox_give(struct conn *c, int write_fd);
/* Adopts all connections in the inbox. An order of the master to become the mold is stored in
 * `promotion`. False: the process has no free descriptor to receive another one with (errno says
 * why), and what is in the inbox stays there. Leader. */
MUST_CHECK bool inbox_adopt_all(struct conn_shared *shared, int read_fd,
                                struct worker_promotion *promotion);
/* In the master: moves the connections in the inbox `from`, which no worker reads, to the inbox
 * `to`, and updates `taken` and `given` of the two slots. Stops at a connection that does not fit
 * into `to` and puts it back into `from`. Promotions are dropped. */
void inbox_forward(const struct worker_inbox *from, struct board_worker *from_slot,
                   const struct worker_inbox *to, struct board_worker *to_slot);

/* Wakes the worker that reads the inbox of `write_fd`. Any process. */
void inbox_wake(int write_fd);

/* In the master: tells the worker to become the mold of `generation` when it has drained. The
 * worker gets a copy of `order_fd`, from which it will read its orders. False: for instance the
 * inbox is full; errno says why. */
MUST_CHECK bool inbox_promote(const struct worker_inbox *to, uint32_t generation, int order_fd);

#endif
