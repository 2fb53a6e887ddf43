/* samples.h: what the samplers of the workers have seen: stacks of Python threads, and what their
 * threads did there. Memory of its own that all processes share: the last minutes of a worker can
 * be read while it is stuck or stopped, and after it has died, and reading never makes it wait.
 *
 * One area belongs to each slot of a worker; only the sampler of that worker writes to it, but for
 * the words whose writer is named. A stack is a node of a tree: a frame, below the node of its
 * caller. Names, functions, frames and nodes stand in tables that only grow; when one is full all
 * are emptied, and a new `epoch` begins.
 *
 * When a worker has died, the master keeps its area, with what is known of the end, and gives the
 * slot another one. Nothing is copied. */
#ifndef MYSERVER_SHARED_SAMPLES_H
#define MYSERVER_SHARED_SAMPLES_H

#include "base/base.h"
#include "base/text.h"

#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#define SAMPLES_TEXT_BYTES (256 * 1024)
#define SAMPLES_FUNCTIONS  4096
#define SAMPLES_FRAMES     16384
#define SAMPLES_NODES      65535
#define SAMPLES_VIEWS      256
/* The view of what runs in no request, and that of requests for which there is no more room. */
#define SAMPLES_NO_VIEW    0
#define SAMPLES_OTHER_VIEW (SAMPLES_VIEWS - 1)
/* The thread of a record that is none of the pool's. */
#define SAMPLES_NO_SEAT    UINT16_MAX
/* A record grows while its thread stays where it is, for at most so long. */
#define SAMPLES_GROW_MS    250
/* How often a profile may sample, in a second. */
#define SAMPLES_MOST_HZ    250
/* Workers that have died and are kept. */
#define SAMPLES_KEPT       4
/* Lines of the log, and requests that have ended. */
#define SAMPLES_LOG_BYTES  (16 * 1024)
#define SAMPLES_PAST       64
#define SAMPLES_PATH_MAX   96

struct samples_function {
    uint32_t name, file; /* offsets of texts that end with NUL */
    uint32_t first_line;
};

struct samples_frame {
    uint32_t line;
    uint16_t function;
};

struct samples_node {
    uint16_t parent; /* node of the caller; 0: there is none */
    uint16_t frame;
};

/* Where a thread was for a while, and what it did there. The parts are fractions of wall_us, 255
 * for all of it: it computed, it had the GIL, it waited for the GIL. */
struct samples_record {
    uint32_t begin_ms; /* since the area's begin_ns */
    uint32_t wall_us;
    uint16_t node, view, seat;
    uint8_t cpu, had_gil, wanted_gil;
};

/* The always-on samples, and those of a profile that somebody has asked for. */
enum samples_kind { SAMPLES_STEADY, SAMPLES_FAST, SAMPLES_KINDS };

/* The record number N lies at N % room, and is whole when `head` is above N. */
struct samples_ring {
    _Atomic uint64_t head;
    uint64_t first; /* of this epoch */
    uint32_t room;  /* a power of two; set once */
    uint32_t at;    /* index in `records` of the area; set once */
};

/* A request that has ended. */
struct samples_past {
    _Atomic uint64_t ended_ns; /* now_ns(); 0: none */
    uint64_t wall_ns;
    uint32_t status; /* 0: no answer */
    char method[16], path[SAMPLES_PATH_MAX];
};

struct samples_area {
    _Atomic int32_t pid;       /* of the worker; 0: nobody has begun here */
    _Atomic uint32_t epoch;    /* odd while the tables are emptied */
    _Atomic uint64_t begin_ns; /* now_ns() at which begin_ms counts from 0 */
    _Atomic uint32_t hz;       /* at which it samples now */
    _Atomic uint32_t slowed;   /* it samples every 2^slowed time only, to stay within its budget */
    _Atomic uint64_t taken;    /* samples */
    _Atomic uint64_t cpu_ns;   /* of the sampler, in this worker */
    _Atomic uint32_t text_len, functions, frames, nodes, views; /* how many there are */
    struct samples_ring rings[SAMPLES_KINDS];
    sem_t wake;                 /* of the sampler; any process */
    _Atomic uint64_t log_head;  /* bytes that were written to `log`, all in all; any thread */
    _Atomic uint32_t past_head; /* requests that were written to `past`; any thread */
    struct samples_past past[SAMPLES_PAST];
    char log[SAMPLES_LOG_BYTES];
    uint32_t view[SAMPLES_VIEWS]; /* offsets of texts */
    struct samples_function function[SAMPLES_FUNCTIONS];
    struct samples_frame frame[SAMPLES_FRAMES];
    struct samples_node node[SAMPLES_NODES];
    char text[SAMPLES_TEXT_BYTES];
    struct samples_record records[]; /* of both rings */
};

/* The master: a worker that has died. */
struct samples_death {
    _Atomic uint32_t number; /* which death it was, from 1; 0: none is kept here */
    uint32_t area, worker;   /* the worker's number, from 1 */
    uint64_t died_s;         /* Unix time */
    uint64_t died_ns;        /* now_ns() */
    char how[96];            /* "signal 9 (SIGKILL)" */
    char running[2048];      /* a line for each request that it was running */
};

struct samples {
    unsigned slots;
    size_t area_bytes;
    _Atomic uint64_t fast_until_ns; /* control: a profile is wanted until then (now_ns) */
    _Atomic uint32_t fast_hz;       /* control: at this rate */
    _Atomic uint32_t deaths;        /* master: how many there were */
    struct samples_death death[SAMPLES_KEPT];
    _Atomic uint32_t area_of[]; /* [slots]; master */
};

/* The master, before the first fork: an area for each slot, of workers with so many threads. NULL
 * when there is no memory: then nothing is sampled, which the log says. */
struct samples *samples_new(unsigned slots, unsigned threads);
void samples_free(struct samples *samples);
struct samples_area *samples_area_at(struct samples *samples, unsigned index);
static inline struct samples_area *samples_area(struct samples *samples, unsigned slot)
{
    return samples_area_at(samples, atomic_load(&samples->area_of[slot]));
}
/* The master, when the worker of `slot` has died: keeps its area in place of the oldest that is
 * kept, unless it had not begun to sample. `running`: what it was doing, as text; cut if need be.
 * Returns the number of the death; 0: nothing was kept. */
unsigned samples_keep(struct samples *samples, unsigned slot, const char *how, struct text running);

/* ---- by the worker of the area ---- */

void samples_begin(struct samples_area *area, pid_t pid);
/* Empties the tables and the rings. */
void samples_empty(struct samples_area *area);
/* They return the number of the new entry, or -1 when there is no room. samples_add_text returns
 * the offset; the text ends at a NUL byte, if it has one. */
MUST_CHECK int samples_add_text(struct samples_area *area, const char *text, size_t len);
MUST_CHECK int samples_add_view(struct samples_area *area, uint32_t text);
MUST_CHECK int samples_add_function(struct samples_area *area, struct samples_function function);
MUST_CHECK int samples_add_frame(struct samples_area *area, struct samples_frame frame);
MUST_CHECK int samples_add_node(struct samples_area *area, struct samples_node node);
/* Puts a record into the ring and returns its number. */
uint64_t samples_put(struct samples_area *area, enum samples_kind kind,
                     const struct samples_record *record);
/* Writes a record that was put before again; nothing if it has been overwritten. */
void samples_put_again(struct samples_area *area, enum samples_kind kind, uint64_t number,
                       const struct samples_record *record);
/* Any thread: a request has ended. The texts end with NUL. */
void samples_note_request(struct samples_area *area, const char *method, const char *path,
                          uint32_t status, uint64_t wall_ns, uint64_t ended_ns);
/* Any thread: a record of the log, which ends with a newline. */
void samples_note_log(struct samples_area *area, const char *record, size_t len);

/* ---- by any process ---- */

/* Copies the records of the ring from number `from` on that are whole and no longer grow into
 * `out`, at most `room`. *next: where to go on; *lost: how many between `from` and the first copied
 * one were overwritten. `all`: also those that may still grow. Returns how many. */
size_t samples_read(const struct samples_area *area, enum samples_kind kind, uint64_t from,
                    bool all, struct samples_record *out, size_t room, uint64_t *next,
                    uint64_t *lost);
/* Lets all samplers see at once what is wanted of them. */
void samples_wake(struct samples *samples);
/* Asks all workers for a profile of so many samples a second from now on, until `until_ns`. */
void samples_ask(struct samples *samples, unsigned hz, uint64_t until_ns);

#endif
