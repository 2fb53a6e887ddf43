/* trash.h: what threads without the GIL leave for one that has it: references to drop, and
 * responses to close. Any thread, except where a function says more. */
#ifndef MYSERVER_PYTHON_TRASH_H
#define MYSERVER_PYTHON_TRASH_H

#include "base/base.h"
#include "python/wsgi.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct trash {
    pthread_mutex_t lock;
    struct _object **objects; /* references to drop at the next hold of the GIL */
    size_t room;
    _Atomic size_t count;
    struct wsgi_unclosed *_Atomic unclosed; /* the first one */
    struct wsgi_unclosed **unclosed_end;    /* where the next one is linked */
    /* told that a response is to be closed that the seat with this number has answered; set before
     * any is */
    void (*on_unclosed)(void *context, unsigned seat);
    void *context;
};

void trash_init(struct trash *trash);
/* When it is empty. */
void trash_fini(struct trash *trash);
/* Keeps a Python reference until some thread holds the GIL anyway, and drops it then. Takes
 * `object`. */
void trash_discard(struct trash *trash, struct _object *object);
/* Drops what trash_discard keeps. GIL held. */
void trash_drop(struct trash *trash);
static inline bool trash_is_empty(const struct trash *trash)
{
    return atomic_load_explicit(&trash->count, memory_order_relaxed) == 0;
}
/* Keeps a response until a thread takes it to call its close(). Takes `unclosed`. */
void trash_add_unclosed(struct trash *trash, struct wsgi_unclosed *unclosed);
/* The one that was added first; NULL: there is none. */
struct wsgi_unclosed *trash_take_unclosed(struct trash *trash);
static inline bool trash_has_unclosed(const struct trash *trash)
{
    return atomic_load_explicit(&trash->unclosed, memory_order_relaxed) != NULL;
}

#endif
