/* sampler.h: the sampler, a thread of each worker that looks at the stacks of all Python threads:
 * some times a second, always, and more often while somebody wants a profile. What it sees goes to
 * the worker's area (samples.h). It waits for the GIL like any thread, and nobody waits for it. */
#ifndef MYSERVER_WORKER_SAMPLER_H
#define MYSERVER_WORKER_SAMPLER_H

#include "turn.h"

struct board;
struct board_seat;
struct config;

/* Starts the thread; borrows all. On a board without samples nothing is done, here and below. */
void sampler_start(struct turns *turns, const struct config *config, const struct board *board,
                   unsigned slot);
/* Ends the thread, soon; from here on it uses nothing that the worker owns. Where the GIL does not
 * become free, it may still wait for that. GIL held. */
void sampler_stop(void);
/* After sampler_stop: waits until the thread has ended. GIL held; lets go of it meanwhile. */
void sampler_join(void);
/* A request has ended, at `ended_ns` (now_ns). By its thread, before it leaves the seat. */
void sampler_note_request(const struct board_seat *seat, uint64_t wall_ns, uint64_t ended_ns);

#endif
