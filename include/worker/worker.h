/* worker.h: the process that serves. Owns the event loop, the connections, the threads. */
#ifndef MYSERVER_WORKER_WORKER_H
#define MYSERVER_WORKER_WORKER_H

#include "shared/seed.h"

struct config;

/* Reads what workers need and share, before the application can change what relative paths mean.
 * Once in a process that will be forked, or will be a worker. */
void worker_prepare(const struct config *config);
/* Runs the worker in a process forked from the mold, with the application ready to run (see
 * wsgi_init), GIL held, signals as process_set_signals leaves them. Sets its board slot to
 * SERVING and rings when it accepts. SIGTERM drains, SIGQUIT leaves at once; both end with
 * _exit(0), a drained worker after what ending_leave does.
 *
 * Returns only after a promotion, when the worker has drained: what is left then is the
 * application, the listeners and one thread, which holds the GIL. */
struct worker_promotion worker_main(const struct worker_seed *seed);
/* After worker_main: the end of the worker, if it cannot become the mold. Gives up the slot. */
NORETURN void worker_end(void);

#endif
