/* board.h: the one mapping that all processes of the server share. The master makes it before the
 * first fork. Every worker slot and every thread of it has cache lines of its own, indexed by slot
 * and not by pid, so that counters go on when a slot gets a new worker.
 *
 * The writer of each part is named; everybody may read. A crashed child may have left anything on
 * the board half-written, so the master compares and bounds what it reads. */
#ifndef MYSERVER_SHARED_BOARD_H
#define MYSERVER_SHARED_BOARD_H

#include "base/base.h"
#include "shared/growth.h"
#include "shared/hints.h"
#include "shared/ledger.h"
#include "shared/observed.h"
#include "shared/statements.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

struct samples;

enum board_mold_state { BOARD_MOLD_LOADING, BOARD_MOLD_READY, BOARD_MOLD_FAILED };

enum board_worker_state {
    BOARD_WORKER_EMPTY,    /* no worker, or not yet forked */
    BOARD_WORKER_STARTING, /* forked, does not accept yet */
    BOARD_WORKER_SERVING,
    BOARD_WORKER_DRAINING, /* finishes what it has, accepts no more */
    BOARD_WORKER_ENDING,   /* has nothing left, and does not use the slot any more */
};

/* Why a worker is to be replaced while it still serves. */
enum board_retire {
    BOARD_RETIRE_NOT,
    BOARD_RETIRE_REQUESTS, /* max-requests */
    BOARD_RETIRE_LIFETIME, /* max-worker-lifetime */
    BOARD_RETIRE_MEMORY,   /* max-worker-memory */
    BOARD_RETIRE_REFORK,   /* refork-after: it is to become the mold */
    BOARD_RETIRE_STUCK,    /* a request is stuck: the worker is drained and replaced at once */
};

/* Why a worker ended. */
enum board_end {
    BOARD_END_CRASH,
    BOARD_END_RELOAD,
    BOARD_END_REQUESTS, /* from here to STUCK: as enum board_retire */
    BOARD_END_LIFETIME,
    BOARD_END_MEMORY,
    BOARD_END_REFORK,
    BOARD_END_STUCK,
    BOARD_END_STOP, /* fewer workers were wanted, or none */
    BOARD_END_COUNT
};
extern const char *const board_end_names[BOARD_END_COUNT];

enum board_phase { BOARD_IDLE, BOARD_RUNNING };

/* Upper bounds of the buckets of the latency histogram; one more bucket is above the last bound. */
#define BOARD_LATENCY_BOUNDS 15
extern const uint64_t board_latency_bounds_ns[BOARD_LATENCY_BOUNDS];

/* By status / 100; 0: no answer, because the client was gone or the worker ended. */
#define BOARD_RESPONSE_CLASSES 6

#define BOARD_METHOD_MAX       16
#define BOARD_PATH_MAX         256
#define BOARD_CLIENT_MAX       46
#define BOARD_FORMAT_MAX       4097

/* However late it is, the end of a process with Python has this time. */
#define BOARD_END_LEAST_MS     1000

/* A seat: one request that runs. Only who runs it writes here, except that the master clears phase,
 * tid and deadline_ns when the worker has ended. Seats are numbered per request that runs, not per
 * thread; with a pool of threads each thread always uses the same one. Times are now_ns(). */
struct board_seat {
    _Alignas(128) _Atomic uint32_t phase; /* enum board_phase */
    _Atomic int32_t tid;
    _Atomic uint64_t requests;    /* finished */
    _Atomic uint64_t accepted_ns; /* first byte of the request was read, or seen to wait */
    _Atomic uint64_t parsed_ns;
    _Atomic uint64_t started_ns;
    _Atomic uint64_t first_byte_ns; /* 0: nothing sent yet */
    _Atomic uint32_t status;        /* of the answer that has begun; 0: none has */
    _Atomic uint32_t version_minor; /* HTTP/1.0 or HTTP/1.1 */
    /* the watch: it has answered, logged and counted the request that the thread is still in */
    _Atomic bool recorded;
    _Atomic uint64_t done_ns;
    /* By when the worker's watch must have looked at the request again; 0: never. The watch writes
     * it too (watch.h). When it is long past, the master takes the worker for wedged. */
    _Atomic uint64_t deadline_ns;
    /* From the whole request to the end of the answer, over all workers that this slot has had. */
    _Atomic uint64_t latency_ns; /* sum */
    _Atomic uint64_t latency[BOARD_LATENCY_BOUNDS + 1];
    /* The request it runs. A reader may see a mix of two texts, but always finds a NUL inside. */
    char method[BOARD_METHOD_MAX];
    char path[BOARD_PATH_MAX]; /* without the query */
    char client[BOARD_CLIENT_MAX];
    /* What it does now, where that is observed. */
    _Atomic uint32_t doing;     /* enum ledger_doing */
    _Atomic uint32_t wants_gil; /* its thread waits for the interpreter; 0 or 1 */
    _Atomic uint32_t view;      /* from ledger_view, + 1; 0: not known yet */
    _Atomic uint32_t statement; /* while it `doing` LEDGER_QUERIES: place, + 1; 0: none is known */
    _Atomic uint64_t doing_since_ns;
};

/* Garbage collections, which stop all threads of a worker that run Python. */
struct board_pauses {
    _Atomic uint64_t count, total_ns, longest_ns;
};

/* What a worker had when it began to serve: answers of the slot, and memory. */
struct board_beginning {
    _Atomic uint64_t requests;
    _Atomic uint64_t private_bytes;
    _Atomic uint64_t of_mold_bytes; /* that it shared with the process it was forked from */
};

/* One worker slot. When the worker has ended, the master clears all but the counters, which go on
 * with the next worker of the slot. */
struct board_worker {
    /* Pid of the worker. The master sets 0 with the order to fork. Whoever changes the 0 first
     * decides: the worker or its parent store the pid, the mold or the master store -1 for "there
     * will be no worker". */
    _Alignas(128) _Atomic int32_t pid;
    _Atomic uint32_t state;      /* enum board_worker_state; worker, EMPTY by the master */
    _Atomic uint32_t generation; /* worker: of the mold it was forked from */
    _Atomic uint32_t retire;     /* enum board_retire; worker, then rings; NOT by the master */
    _Atomic uint32_t drains_for; /* enum board_end; master, before it tells the worker to drain */
    _Atomic uint64_t
        max_memory_bytes; /* worker: its limit on private memory: CONFIG_AUTO or, for none, 0 */
    /* worker: threads that could take a request; siblings subtract what they claim */
    _Atomic uint32_t free_threads;
    /* Three running numbers over all workers of the slot; they may wrap. `given`: connections that
     * siblings or the master have sent to its inbox; the sender counts. `taken`: those that were
     * taken out of it. `takes_until`: `given` must not exceed it, because the worker has no
     * descriptors for more. */
    _Atomic uint32_t given, taken, takes_until;
    _Atomic uint32_t waiting; /* worker: requests that wait for a thread; see balance.h */
    /* requests are parked: wake it when a sibling has a free thread; see board_set_parked */
    _Atomic bool parked;
    /* siblings: slot + 1 of the one that asks for older requests; 0: none */
    _Atomic uint32_t asked_by;
    /* worker: since when its next request waits; 0: it has not waited */
    _Atomic uint64_t waits_since_ns;
    _Atomic uint32_t connections;    /* worker: open now */
    _Atomic uint32_t taken_over;     /* worker: of these, the application has so many sockets */
    _Atomic uint64_t requests;       /* worker: answered, over all workers of the slot */
    _Atomic uint64_t exceptions;     /* worker: not caught by the application */
    _Atomic uint64_t timeouts;       /* worker: requests that passed their deadline */
    _Atomic uint64_t queue_timeouts; /* worker: requests that had waited for too long */
    _Atomic uint64_t deadline_ns;    /* worker: when this has passed it is wedged; 0: none */
    _Atomic uint64_t sent_bytes;
    _Atomic uint64_t responses[BOARD_RESPONSE_CLASSES]; /* worker */
    struct board_beginning beginning;                   /* worker; memory only with `control` */
    struct board_pauses pauses[2];                      /* worker; [1]: between requests */
    _Atomic uint64_t access_lines,
        access_ns;              /* worker: lines of the access log; how long that took */
    _Atomic uint64_t spawns;    /* master */
    _Atomic uint64_t spawned_s; /* master: Unix time of the last */
};

/* How many reports one generation can be kept from repeating. */
#define BOARD_SAID_MAX 64

struct board_mold {
    _Atomic uint32_t state; /* enum board_mold_state; mold, LOADING by the master */
    /* numbers of workers in its settings; mold, before it is READY */
    _Atomic uint32_t workers, workers_min;
    /* workers: marks of the texts that one of them has logged for all; 0: free. See
     * board_say_first. Cleared by the master. */
    _Atomic uint64_t said[BOARD_SAID_MAX];
    struct hints hints;                      /* its own and its workers'; cleared by the master */
    char access_logformat[BOARD_FORMAT_MAX]; /* of its workers; mold, before it is READY */
};

struct board {
    unsigned workers; /* slots */
    unsigned seats;   /* per worker */
    int bell_fd;      /* eventfd; see board_ring */
    uint64_t started_ns;
    uint64_t started_s;           /* Unix time */
    _Atomic uint32_t log_opening; /* master: how often the log files were reopened */
    _Atomic int32_t master_pid;
    _Atomic bool upgraded; /* master: another master serves in its place; set before `stopping` */
    _Atomic bool leaving;  /* master: it serves for shutdown-delay, and then stops */
    _Atomic bool stopping; /* master: the whole server stops, no worker will go on serving */
    _Atomic uint64_t leave_by_ns; /* master, with `stopping`: when graceful-timeout is over */
    /* master, with `stopping`: no other master answers the clients that wait in the kernel */
    _Atomic bool last_call;
    _Atomic uint64_t ends[BOARD_END_COUNT]; /* master: workers that have ended, by reason */
    /* number of workers with `parked` set; a worker with a free thread reads this first */
    _Atomic int parked;
    /* workers: how many clients they have accepted, the place of the last one in the line of all
     * that ever came */
    _Atomic uint64_t accepted;
    /* the process that runs hooks; the next one waits for its end before it says its own; 0: none
     */
    _Atomic int32_t hooks_pid;
    /* the number of the last MOLD_GONE that has reached its hooks, or a mold without any: what is
     * after it is told again when the process that it was told to has died */
    _Atomic uint32_t hooks_taken;
    struct samples *samples;     /* of the samplers; NULL: there are none */
    struct board_mold molds[2];  /* the serving and the loading generation; see board_mold */
    struct board_worker *worker; /* [workers] */
    struct board_seat *seat;     /* [workers * seats] */
    struct ledger *ledger;
    struct statements *statements;
    struct growth *growth;
    struct observed *observed;
};

/* Ends the process with die() when the mapping cannot be made. `usual`: how many workers serve at
 * once most of the time, at most `workers`. */
struct board *board_new(unsigned workers, unsigned seats, unsigned usual);
void board_free(struct board *board);
/* Notes whether requests are parked at the worker of `slot`. False: that was noted already. Any
 * process. */
bool board_set_parked(struct board *board, unsigned slot, bool parked);
/* Master: prepares the entry of the mold of `generation`, which is about to be forked. The number
 * of workers comes from the generation before. */
void board_begin_mold(struct board *board, uint32_t generation);
static inline struct board_seat *board_seat(struct board *board, unsigned slot, unsigned number)
{
    return &board->seat[slot * board->seats + number];
}
/* The entry of the mold of `generation`. */
static inline struct board_mold *board_mold(struct board *board, uint32_t generation)
{
    return &board->molds[generation % 2];
}
/* Whether no worker of the generation has said `text` before, nor says it at this moment. True,
 * too, when there is no room for another mark: better twice than never. Any worker. */
MUST_CHECK bool board_say_first(struct board_mold *mold, const char *text);
/* Whether any worker serves. */
bool board_is_served(const struct board *board);
/* Counts a finished request. Only on the thread that owns `thread`. */
void board_count_latency(struct board_seat *thread, uint64_t latency_ns);
/* Tells the master that something on the board has changed. Never blocks. Any process. */
void board_ring(struct board *board);

#endif
