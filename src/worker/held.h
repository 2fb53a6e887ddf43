/* held.h: whole answers that slow clients do not take: how much memory they use together, and when
 * that is too much. sweep.c picks those that end. Leader. */
#ifndef MYSERVER_WORKER_HELD_H
#define MYSERVER_WORKER_HELD_H

#include "base/base.h"
#include "exchange.h"

#include <stdbool.h>

#define HELD_GRACE_MS 5000 /* in which a client can show how fast it is */

struct held {
    size_t bytes;        /* not taken by their clients */
    size_t memory_bytes; /* in which these are kept */
    uint64_t since_ms;   /* since when `bytes` is above its bound; 0: it is not */
    uint64_t least_rate; /* bytes per second; answers to slower clients end; 0: none */
};

/* The loop begins to send the rest of this answer. */
void held_begin(struct held *held, struct exchange *e);
/* It is sent, or broken off. */
void held_end(struct held *held, struct exchanges *all, struct exchange *e);
/* More than its bound: answers to clients below least_rate end, as long as it is. */
bool held_is_too_much(const struct held *held);
/* Every tick: sets least_rate, which grows until enough answers have ended. */
void held_ask_for_rate(struct held *held, uint64_t now);
/* More than is allowed even for a moment: answers end at once, until held_has_room. */
bool held_is_full(const struct held *held);
bool held_has_room(const struct held *held);

#endif
