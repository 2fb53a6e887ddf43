/* ledger.h: where the time of requests went, by view. A part of the board.
 *
 * The names of views stand there once, for all workers and generations; what they cost stands in
 * shards, one for each worker that is configured, so that workers do not write to the same cache
 * lines. Every word is added to on its own (relaxed): a reader finds numbers of nearly, but not
 * exactly, the same moment. Any process may call anything here; nothing waits. */
#ifndef MYSERVER_SHARED_LEDGER_H
#define MYSERVER_SHARED_LEDGER_H

#include "base/base.h"
#include "base/text.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

/* The parts of a request's time, in their order. Together they are all of it. */
enum ledger_part {
    LEDGER_RECEIVE,  /* its client sends it */
    LEDGER_THREAD,   /* it waits for a thread, also in the kernel's queue */
    LEDGER_GIL,      /* its thread waits for the interpreter */
    LEDGER_CPU,      /* its thread computes */
    LEDGER_DATABASE, /* in a call of a database driver, whatever that does there */
    LEDGER_RUNQUEUE, /* its thread is ready to run, and no CPU is free; of long requests */
    LEDGER_OTHER,    /* its thread waits for something else */
    LEDGER_SEND,     /* its client does not take the answer as fast as it is made */
    LEDGER_PARTS
};
extern const char *const ledger_part_names[LEDGER_PARTS];

/* What a running request does: a word of its seat. */
enum ledger_doing { LEDGER_RUNS, LEDGER_QUERIES, LEDGER_SENDS, LEDGER_DOINGS };
extern const char *const ledger_doing_names[LEDGER_DOINGS];

/* Names of requests that have no view. */
#define LEDGER_NO_VIEW     "(no view)" /* answered before one was found, or there is none */
#define LEDGER_NOT_RUN     "(not run)" /* no thread has run it: its client left, or it was too late */

/* Classes of statuses, by the first digit; 0: no answer. */
#define LEDGER_CLASSES     6
/* Views with a row of their own; one more row, the last, is for all others. */
#define LEDGER_VIEWS       512
#define LEDGER_NAME_MAX    112
/* The histogram of the time of whole requests: below 2^16 ns (66 us), then four buckets for each
 * power of two up to 7 * 2^33 ns (60 s), the last one also for all above. */
#define LEDGER_BUCKETS     80
/* The slowest recent requests that are kept by shard. */
#define LEDGER_SLOW        16
#define LEDGER_METHOD_MAX  16
#define LEDGER_PATH_MAX    128
#define LEDGER_TRACE_BYTES 16
/* How long a request is recent. */
#define LEDGER_RECENT_NS   (600 * NS_PER_S)

/* Garbage collections in a request; a part of its computing. */
struct ledger_pauses {
    uint64_t count, total_ns, longest_ns;
};

/* What one view has cost in one shard. */
struct ledger_row {
    _Atomic uint64_t classes[LEDGER_CLASSES];
    _Atomic uint64_t parts_ns[LEDGER_PARTS];
    _Atomic uint64_t queries;
    _Atomic uint64_t sent_bytes;
    _Atomic uint32_t pauses, longest_pause_us;
    _Atomic uint64_t pauses_ns;
    _Atomic uint64_t buckets[LEDGER_BUCKETS];
};

/* One request that has ended. */
struct ledger_entry {
    unsigned view;   /* from ledger_view */
    unsigned status; /* 0: no answer */
    uint64_t parts_ns[LEDGER_PARTS];
    uint32_t queries;
    struct ledger_pauses pauses;
    uint64_t sent_bytes;
    uint64_t ended_ns; /* now_ns() */
    unsigned worker;   /* its number, from 1 */
    struct text method, path;
    uint8_t trace[LEDGER_TRACE_BYTES]; /* all zero: it has none */
};

/* A slow request, as it is kept. A reader may see a mix of two, but always a NUL in the texts. */
struct ledger_slow {
    _Atomic uint64_t wall_ns; /* 0: none */
    uint64_t ended_ns;
    uint64_t parts_ns[LEDGER_PARTS], pauses_ns;
    uint32_t view, status, queries, worker;
    uint8_t trace[LEDGER_TRACE_BYTES];
    char method[LEDGER_METHOD_MAX];
    char path[LEDGER_PATH_MAX]; /* without the query */
};

struct ledger_shard {
    _Alignas(128) struct ledger_row rows[LEDGER_VIEWS + 1];
    /* a request that took less is not kept; looked at anew at slow_look_ns (now_ns) */
    _Atomic uint64_t slow_floor_ns, slow_look_ns;
    _Atomic bool slow_taken; /* somebody writes to `slow` */
    struct ledger_slow slow[LEDGER_SLOW];
};

struct ledger_name {
    _Atomic uint64_t hash; /* 0: free */
    _Atomic bool whole;    /* `text` may be read */
    char text[LEDGER_NAME_MAX];
};

struct ledger {
    unsigned shards;
    struct ledger_name names[LEDGER_VIEWS];
    struct ledger_shard *shard; /* [shards] */
};

/* The size of a ledger with so many shards, which lies in memory of the caller's that is zeroed and
 * aligned to 128 bytes. */
size_t ledger_bytes(unsigned shards);
struct ledger *ledger_init(void *memory, unsigned shards);
/* A worker begins in that slot: what the one before may have held when it was killed is free. */
void ledger_begin(struct ledger *ledger, unsigned slot);
/* The number of the view of that name, cut to LEDGER_NAME_MAX - 1 bytes; the first time it gets a
 * row. LEDGER_VIEWS where none is free: the row of the others. */
unsigned ledger_view(struct ledger *ledger, const char *name, size_t len);
static inline unsigned ledger_view_of(struct ledger *ledger, const char *name)
{
    return ledger_view(ledger, name, strlen(name));
}
/* Its name, which lives as long as the ledger; "other" for LEDGER_VIEWS. NULL: none has that number
 * yet. */
const char *ledger_name(const struct ledger *ledger, unsigned view);
/* Adds a request to its view, in the shard of the worker's slot; last to `classes` and then to
 * `buckets`, by which readers count: who reads them first, and acquires, reads all of each request.
 */
void ledger_add(struct ledger *ledger, unsigned slot, const struct ledger_entry *entry);
/* The upper bound of a bucket, in nanoseconds; UINT64_MAX: the last. */
uint64_t ledger_bound_ns(unsigned bucket);
unsigned ledger_bucket(uint64_t ns);

#endif
