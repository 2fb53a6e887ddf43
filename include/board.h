/* board.h: the one mapping that all processes of the server share. Made by the
 * master before the first fork; lines of its own for every worker slot and every
 * thread of it, indexed by slot and not by pid, so that counters outlive a worker.
 *
 * The writer of each part is named; everybody may read. The master trusts nothing on
 * it that a crashed child could have left half-written: it compares, bounds and counts. */
#ifndef MYSERVER_BOARD_H
#define MYSERVER_BOARD_H

#include "base.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

enum board_mold_state { BOARD_MOLD_LOADING, BOARD_MOLD_READY, BOARD_MOLD_FAILED };

/* What is known of "/", when no other request is configured to warm up with. */
enum board_root {
    BOARD_ROOT_UNKNOWN,     /* or it did not answer */
    BOARD_ROOT_MUST_ANSWER, /* it did under the code before, which goes on if it does no more */
    BOARD_ROOT_ANSWERED,    /* under this code, or the last that was found out about */
};

enum board_worker_state {
    BOARD_WORKER_EMPTY,    /* nobody, or not yet forked */
    BOARD_WORKER_STARTING, /* forked, does not accept yet */
    BOARD_WORKER_SERVING,
    BOARD_WORKER_DRAINING, /* finishes what it has, accepts no more */
};

/* Why a worker is to be replaced while it still serves. */
enum board_retire {
    BOARD_RETIRE_NOT,
    BOARD_RETIRE_REQUESTS, /* max-requests */
    BOARD_RETIRE_LIFETIME, /* max-worker-lifetime */
    BOARD_RETIRE_MEMORY,   /* max-worker-memory */
    BOARD_RETIRE_REFORK,   /* refork-after: to become the mold */
    BOARD_RETIRE_STUCK,    /* accepts no more: drained at once, its replacement comes at once */
};

/* What a worker ended of. */
enum board_end {
    BOARD_END_CRASH,
    BOARD_END_RELOAD,
    BOARD_END_REQUESTS, /* as enum board_retire */
    BOARD_END_LIFETIME,
    BOARD_END_MEMORY,
    BOARD_END_REFORK,
    BOARD_END_STUCK,
    BOARD_END_STOP, /* fewer were wanted, or none */
    BOARD_END_COUNT
};

enum board_phase { BOARD_IDLE, BOARD_RUNNING };

/* Bounds of the latency histogram; beyond the last is one more bucket. */
#define BOARD_LATENCY_BOUNDS 15
extern const uint64_t board_latency_bounds_ns[BOARD_LATENCY_BOUNDS];

#define BOARD_RESPONSE_CLASSES 6 /* by status / 100; 0: no answer (the client had gone) */

#define BOARD_METHOD_MAX       16
#define BOARD_PATH_MAX         256
#define BOARD_CLIENT_MAX       46

/* One thread that runs requests; written by that thread only, but for phase, tid and deadline_ns,
 * which the master clears when the worker is gone. Times are now_ns(). */
struct board_thread {
    _Alignas(128) _Atomic uint32_t phase; /* enum board_phase */
    _Atomic int32_t tid;
    _Atomic uint64_t requests; /* finished */
    _Atomic uint64_t
        accepted_ns; /* first byte of the request was read, or its connection accepted */
    _Atomic uint64_t parsed_ns;
    _Atomic uint64_t started_ns;
    _Atomic uint64_t first_byte_ns; /* 0: nothing sent yet */
    _Atomic uint64_t done_ns;
    /* When the worker's watch must have looked at the request again; 0: never. Written by the
     * watch too (watch.h); when it has passed for long, the worker cannot help itself. */
    _Atomic uint64_t deadline_ns;
    /* From whole request to end of answer, over all lives of the worker. */
    _Atomic uint64_t latency_ns; /* sum */
    _Atomic uint64_t latency[BOARD_LATENCY_BOUNDS + 1];
    /* What it runs; text may tear for a reader, never runs over. */
    char method[BOARD_METHOD_MAX];
    char path[BOARD_PATH_MAX]; /* without the query */
    char client[BOARD_CLIENT_MAX];
};

/* One worker slot. When the worker is gone the master clears what is not counted over all lives. */
struct board_worker {
    /* Of the worker. 0: nobody has claimed the order yet (set by the master); whoever comes first
     * puts the pid (the worker, its parent) or -1 for "none will come" (mold, master). */
    _Alignas(128) _Atomic int32_t pid;
    _Atomic uint32_t state;      /* enum board_worker_state; the worker's, EMPTY by the master */
    _Atomic uint32_t generation; /* of the mold it was forked from */
    _Atomic uint32_t retire;     /* enum board_retire; the worker's, NOT by the master; then ring */
    _Atomic uint64_t max_memory_bytes; /* worker: its limit on private memory, 0 for none */
    _Atomic uint32_t free_threads; /* worker: that could take a request; less what siblings claim */
    /* Three running numbers, over all lives of the worker. `given`: connections that siblings or
     * the master have sent to its inbox, counted by the sender. `taken`: those of them that it has
     * taken out. `takes_until`: nobody may send more than this, for lack of descriptors. */
    _Atomic uint32_t given, taken, takes_until;
    _Atomic uint32_t waiting;        /* worker: requests that wait for a thread; see balance.h */
    _Atomic bool parked;             /* board_set_parked: wake it when a thread is free elsewhere */
    _Atomic uint32_t asked_by;       /* siblings: slot + 1 of one whose next came later; 0: none */
    _Atomic uint64_t waits_since_ns; /* worker: the one of them that is next; 0: it has just come */
    _Atomic uint32_t connections;    /* worker: open ones */
    _Atomic uint64_t requests;       /* worker: answered, over all its lives */
    _Atomic uint64_t exceptions;     /* worker: uncaught in the application */
    _Atomic uint64_t timeouts;       /* worker: requests that passed their deadline */
    _Atomic uint64_t deadline_ns;    /* worker: it is wedged when this has passed; 0: none */
    _Atomic uint64_t sent_bytes;
    _Atomic uint64_t responses[BOARD_RESPONSE_CLASSES]; /* worker */
    _Atomic uint64_t spawns;                            /* master */
    _Atomic uint64_t spawned_s;                         /* master: wall clock of the last */
};

struct board_mold {
    _Atomic uint32_t state;   /* enum board_mold_state; the mold's, LOADING by the master */
    _Atomic uint32_t root;    /* enum board_root; who loads the application, at first the master */
    _Atomic uint32_t workers; /* by its settings; the mold's, before it is READY */
};

struct board {
    unsigned workers; /* slots */
    unsigned threads; /* per worker */
    int bell_fd;      /* eventfd; see board_ring */
    uint64_t started_ns;
    uint64_t started_s;           /* Unix time */
    _Atomic uint32_t log_opening; /* master: how often the log files were reopened */
    _Atomic int32_t master_pid;
    _Atomic bool upgraded;  /* master: another one serves in its place; before `stopping` */
    _Atomic bool stopping;  /* master: the whole server stops, no worker will go on serving */
    _Atomic bool last_call; /* master: with it, nobody else answers who waits in the kernel */
    _Atomic uint64_t ends[BOARD_END_COUNT]; /* master: workers */
    _Atomic int parked;         /* how many workers are; who has a free thread looks here first */
    struct board_mold molds[2]; /* the serving generation's and the loading one's: generation % 2 */
    struct board_worker *worker; /* [workers] */
    struct board_thread *thread; /* [workers * threads] */
};

/* die()s when the mapping cannot be made. */
struct board *board_new(unsigned workers, unsigned threads);
void board_free(struct board *board);
/* Whether requests are parked at the worker of `slot`; false: that was known. Any process. */
bool board_set_parked(struct board *board, unsigned slot, bool parked);
/* Master: the place of the mold of `generation`, which is about to be made. The number of workers
 * and what is known of "/" come from the generation before; `must_answer`: if it answered there, it
 * has to go on. */
void board_begin_mold(struct board *board, uint32_t generation, bool must_answer);
/* Whether "/" answered under the code of `generation`, or that which it is to replace. */
bool board_root_answered(struct board *board, uint32_t generation);
static inline struct board_thread *board_thread(struct board *board, unsigned slot, unsigned thread)
{
    return &board->thread[slot * board->threads + thread];
}
/* Whether any worker serves. */
bool board_is_served(const struct board *board);
/* Counts a finished request. By the thread itself: there is one writer. */
void board_count_latency(struct board_thread *thread, uint64_t latency_ns);
/* Tells the master that something on the board changed. Never blocks. */
void board_ring(struct board *board);

#endif
