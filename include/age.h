/* age.h: when a worker has served for long enough. On the thread that leads the loop. */
#ifndef MYSERVER_AGE_H
#define MYSERVER_AGE_H

#include "base.h"

struct board;
struct worker_seed;

struct age {
    uint64_t retire_requests; /* when the slot's counter gets there; 0: never */
    uint64_t retire_ms;       /* when the clock gets there; 0: never */
    uint64_t refork_requests; /* as retire_requests */
};

/* Sets the limits of this life of a worker: max-requests and max-worker-lifetime, with their
 * jitter, and refork-after. Tells the master max-worker-memory, which is for it to look at. */
void age_begin(struct age *age, const struct worker_seed *seed);
/* Asks the master for a replacement, once, when a limit is reached. Until the master sends SIGTERM
 * the worker goes on serving. */
void age_look(struct age *age, struct board *board, unsigned slot);

#endif
