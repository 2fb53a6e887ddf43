/* held.h: answers that clients do not take: how much memory they have, and who is to go. Leader. */
#ifndef MYSERVER_HELD_H
#define MYSERVER_HELD_H

#include "conn.h"

/* From now on the loop sends the rest of this connection's answer, of which the kernel has
 * c->untaken; exchange_reset ends that. */
void held_begin(struct conn *c);
/* Every tick: whether those that are slow must go, and how slow is too slow. */
void held_ask_for_rate(struct conn_shared *shared, uint64_t now);
/* It must. */
MUST_CHECK bool held_is_too_slow(const struct conn *c, uint64_t now);
/* Where there is more than may be even for a moment, `reset` gets who has taken the least in its
 * time, then the next, until there is room. It must end the answer. */
void held_make_room(struct conn_shared *shared, void (*reset)(struct conn *c));

#endif
