/* held.h: whole answers that slow clients do not take: how much memory they use, and which are
 * ended. Leader. */
#ifndef MYSERVER_HELD_H
#define MYSERVER_HELD_H

#include "worker/conn.h"

/* The loop begins to send the rest of this connection's answer; c->untaken bytes of it are with the
 * kernel. Counts the answer until exchange_reset. */
void held_begin(struct conn *c);
/* Every tick: sets conn_shared.least_rate, below which a client is too slow. */
void held_ask_for_rate(struct conn_shared *shared, uint64_t now);
/* Whether this connection's answer must end, because its client is slower than least_rate. */
MUST_CHECK bool held_is_too_slow(const struct conn *c, uint64_t now);
/* When answers use more memory than is allowed even for a moment: calls `reset`, which must end the
 * answer, for the connection with the lowest rate, then for the next, until there is room. */
void held_make_room(struct conn_shared *shared, void (*reset)(struct conn *c));

#endif
