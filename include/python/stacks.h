/* stacks.h: the stacks of all Python threads, as another thread sees them.
 *
 * Takes the GIL for some microseconds, and runs no Python: it makes no object that the collector
 * sees for longer, holds no frame, and writes to no object that the running code has not written
 * to. So pages that workers share stay shared. */
#ifndef MYSERVER_PYTHON_STACKS_H
#define MYSERVER_PYTHON_STACKS_H

#include "base/base.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

struct _ts;
struct samples_area;
struct stacks;

/* A thread that is in Python. */
struct stacks_thread {
    const struct _ts *state; /* only to be compared */
    pid_t tid;               /* as Python knows it; the main thread's may be that of the mold */
    uint16_t node;           /* of the area: where it is */
    uint16_t view, seat;     /* for the caller */
    uint32_t of;             /* the same */
    bool had_gil;            /* until it was taken for this */
};

/* For the calling thread, which must be no Python thread yet: names and stacks go to `area`. NULL:
 * this interpreter's threads cannot be looked at from outside. GIL not held, nor waited for. */
struct stacks *stacks_new(struct samples_area *area);
/* On the same thread. Waits for the GIL. */
void stacks_free(struct stacks *stacks);

/* Looks at all threads. `see` is called with what was found while the GIL is held: nothing that was
 * seen has moved on. Not called, and false is returned, when *stopping is set once the GIL is
 * there. The list is valid until the next call. On the same thread, GIL not held; waits for it. */
typedef void stacks_see(void *context, struct stacks_thread *threads, unsigned count);
MUST_CHECK bool stacks_take(struct stacks *stacks, const _Atomic bool *stopping, stacks_see *see,
                            void *context);
/* Within `see`: the number of the view of that name. */
uint16_t stacks_view(struct stacks *stacks, const char *name, size_t len);

#endif
