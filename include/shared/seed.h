/* worker.h: the process that serves. Owns the event loop, the connections, the threads. */
#ifndef MYSERVER_WORKER_H
#define MYSERVER_WORKER_H

#include "base/base.h"

struct config;
struct listeners;
struct board;

/* A datagram socket pair per slot, made by the master before the first fork, on which
 * workers give each other connections. Any worker may write, the slot's worker reads. What a
 * worker that has ended did not read, the master moves to another (inbox_forward). */
struct worker_inbox {
    int read_fd;
    int write_fd;
};

/* What a worker gets that is to become the mold of `generation` after its drain. */
struct worker_promotion {
    int order_fd;        /* where the mold reads its orders; owned */
    uint32_t generation; /* 0: none */
};

/* What a worker or mold inherits over fork. All is borrowed and lives as long as the process. */
struct worker_seed {
    const struct config *config;
    struct listeners *listeners;
    struct board *board;
    struct worker_inbox *inboxes; /* [board->workers] */
    unsigned slot;                /* from 0; the log and titles say slot + 1 */
    unsigned generation;
    unsigned promotions; /* how often a worker became a mold since the application was loaded */
    int lifeline_fd;     /* reads EOF when the master is gone: drain and leave */
};

/* Runs the worker in a process forked from the mold, with the application ready to run (see
 * wsgi_init), GIL held, signals as process_set_signals leaves them. Sets its board slot to
 * SERVING and rings when it accepts. SIGTERM drains, SIGQUIT leaves at once; both end with
 * _exit(0).
 *
 * Returns only after a promotion, when the worker has drained: what is left then is the
 * application, the listeners and one thread, which holds the GIL. */
struct worker_promotion worker_main(const struct worker_seed *seed);

#endif
