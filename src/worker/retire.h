/* retire.h: when a worker has served long enough. Runs on the thread that leads the loop. */
#ifndef MYSERVER_WORKER_RETIRE_H
#define MYSERVER_WORKER_RETIRE_H

#include "base/base.h"

struct board;
struct worker_seed;

struct age {
    uint64_t retire_requests; /* retire when the slot's request counter reaches this; 0: never */
    uint64_t retire_ms;       /* retire when now_ms() reaches this; 0: never */
    uint64_t refork_requests; /* as retire_requests, but to become the mold */
};

/* Sets the limits of this worker: max-requests and max-worker-lifetime, each with its jitter, and
 * refork-after. Puts max-worker-memory on the board: the master checks it. */
void age_begin(struct age *age, const struct worker_seed *seed);
/* Asks the master for a replacement, once, when a limit is reached. Until the master sends SIGTERM
 * the worker goes on serving. */
void age_look(struct age *age, struct board *board, unsigned slot);

#endif
