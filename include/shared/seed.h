/* seed.h: what a worker or a mold gets at its birth, and what makes a worker a mold. */
#ifndef MYSERVER_SHARED_SEED_H
#define MYSERVER_SHARED_SEED_H

#include "base/base.h"

struct board;
struct config;
struct listeners;
struct worker_inbox;

/* Why there is a new mold. */
enum seed_cause {
    SEED_OTHER, /* the one before has died, or is a worker that became one; or a rehearsal */
    SEED_START, /* of the server */
    SEED_UPGRADE,
    SEED_RELOAD,
};

/* What a worker or mold inherits over fork. All is borrowed and lives as long as the process. */
struct worker_seed {
    const struct config *config;
    struct listeners *listeners;
    struct board *board;
    struct worker_inbox *inboxes; /* [board->workers] */
    unsigned slot;                /* from 0; the log and titles say slot + 1 */
    unsigned generation;
    enum seed_cause cause; /* of the mold */
    unsigned promotions;   /* how often a worker became a mold since the application was loaded */
    int lifeline_fd;       /* reads EOF when the master is gone: drain and leave */
};

/* What a worker gets that is to become the mold of `generation` after its drain. */
struct worker_promotion {
    int order_fd;        /* where the mold reads its orders; owned */
    uint32_t generation; /* 0: none */
};

#endif
