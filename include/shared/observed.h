/* observed.h: which parts of the observation are on: a word that all processes read where they
 * observe something, and that control changes while the server runs. A part of the board. What is
 * switched off at run time costs a look at this word. */
#ifndef MYSERVER_SHARED_OBSERVED_H
#define MYSERVER_SHARED_OBSERVED_H

#include "base/base.h"

#include <stdatomic.h>
#include <stdbool.h>

enum observed_part {
    OBSERVED_VIEWS,   /* the account of the views; without it there is nothing below but samples */
    OBSERVED_QUERIES, /* calls of databases */
    OBSERVED_GIL,     /* the wait for the interpreter as a part of its own */
    OBSERVED_COLLECTOR, /* pauses for garbage collections */
    OBSERVED_SAMPLER,   /* the samplers' looks while nobody makes a profile */
    OBSERVED_PARTS
};
extern const char *const observed_names[OBSERVED_PARTS];

struct observed {
    /* control */
    _Atomic uint32_t off; /* a bit for each part */
    _Atomic uint32_t
        only[OBSERVED_PARTS]; /* from ledger_view, + 1: of that view alone; 0: of all */
    /* the worker that began last: what its settings and its framework allow */
    _Atomic bool is_set;        /* observe */
    _Atomic bool names_views;   /* while a request runs its view is known */
    _Atomic uint32_t steady_hz; /* profile-rate */
};

static inline bool observed_is_on(const struct observed *observed, enum observed_part part)
{
    return !(atomic_load_explicit(&observed->off, memory_order_relaxed) & 1u << part);
}
/* Whether a part that is on is for this view (from ledger_view, + 1; 0: not known). */
static inline bool observed_is_for(const struct observed *observed, enum observed_part part,
                                   uint32_t view)
{
    uint32_t only = atomic_load_explicit(&observed->only[part], memory_order_relaxed);
    return LIKELY(only == 0) || only == view;
}

#endif
