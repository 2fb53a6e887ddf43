/* growth.h: what of a worker's memory grows. Control asks one worker at a time, and the worker
 * itself finds it: it traces its memory for a while, and leaves the result here as JSON. Memory of
 * the board; a page of it exists when it is used.
 *
 * The number of a trace and its state are one word, so that a worker that was given up never
 * writes to the trace of another: control goes from any state to ASKED, the worker from ASKED to
 * TRACING, and from that to READY or FAILED. What stands beside the word is written before it. */
#ifndef MYSERVER_SHARED_GROWTH_H
#define MYSERVER_SHARED_GROWTH_H

#include "base/base.h"
#include "base/text.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#define GROWTH_TYPE_MAX   128
#define GROWTH_WHY_MAX    200
#define GROWTH_TEXT_BYTES (512 * 1024)
/* Who wants a trace says so again within this time; else it ends, without a result. */
#define GROWTH_WANTED_NS  (3 * NS_PER_S)

enum growth_state { GROWTH_NONE, GROWTH_ASKED, GROWTH_TRACING, GROWTH_READY, GROWTH_FAILED };
#define GROWTH_STATE(word)  ((enum growth_state)((word)&7))
#define GROWTH_NUMBER(word) ((word) >> 3)

struct growth {
    _Atomic uint64_t word;
    /* control: which worker, for how long, and by when the trace is no longer wanted (now_ns) */
    _Atomic uint32_t slot;
    _Atomic int32_t pid;
    _Atomic uint64_t lasts_ns, wanted_until_ns;
    bool pages;                 /* which types lie on copied pages is to be told */
    char type[GROWTH_TYPE_MAX]; /* whose owners are to be found; empty: none's */
    /* the worker */
    _Atomic uint64_t began_ns; /* 0: it has not */
    char why[GROWTH_WHY_MAX];  /* FAILED: a sentence */
    _Atomic uint32_t length;   /* READY: of the text */
    char text[GROWTH_TEXT_BYTES];
};

/* Control: asks the worker of that slot and process. Returns the number of the trace. Only when
 * growth_is_busy says no. */
uint64_t growth_ask(struct growth *growth, unsigned slot, pid_t pid, uint64_t lasts_ns,
                    const char *type, bool pages);
/* A trace was asked for or runs, and whoever asked for it still wants it. */
bool growth_is_busy(const struct growth *growth);

/* The worker: takes what it is asked for. Returns the number of the trace; 0: it is asked for
 * nothing. */
MUST_CHECK uint64_t growth_take(struct growth *growth, unsigned slot, pid_t pid);
/* Ends the trace with a result, or with a sentence that says why there is none. Nothing if it is
 * not the one that was taken last. */
void growth_finish(struct growth *growth, uint64_t number, struct text result);
PRINTF_LIKE(3, 4)
void growth_fail(struct growth *growth, uint64_t number, const char *format, ...);

#endif
