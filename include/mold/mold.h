/* mold.h: the process that has the application loaded and forks workers from it. */
#ifndef MYSERVER_MOLD_MOLD_H
#define MYSERVER_MOLD_MOLD_H

#include "shared/seed.h"

/* Runs the mold in a process just forked from the master; never returns. Loads the
 * application, sets its state on the board and rings, then forks a worker per order:
 * double fork, so that the worker becomes the master's child. The worker's pid is in its slot
 * before the next order is read. `seed->slot` is ignored. Exit status EXIT_APP when the
 * application cannot be loaded. */
NORETURN void mold_main(const struct worker_seed *seed, int order_fd);

/* --check-config: the same for one worker, which ends when it could serve. The seed's board has
 * worker[0].pid once it is forked, and its state SERVING at that end. Exit status: EXIT_APP as
 * above, or the worker's. */
NORETURN void mold_rehearse(const struct worker_seed *seed);

#endif
