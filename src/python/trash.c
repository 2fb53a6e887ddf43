/* trash.c: what threads without the GIL leave for one that has it.
 *
 * Owns: the references and the responses until they are dropped or taken. Its lock is held for a
 * few instructions, also inside that of the pool. Knows no thread and no loop. */
#include "python/trash.h"

#include <stdlib.h>

void trash_init(struct trash *trash)
{
    pthread_mutex_init(&trash->lock, NULL);
}

void trash_fini(struct trash *trash)
{
    pthread_mutex_destroy(&trash->lock);
    free(trash->objects);
}

void trash_discard(struct trash *trash, struct _object *object)
{
    pthread_mutex_lock(&trash->lock);
    if (trash->count == trash->room) {
        trash->room = trash->room ? trash->room * 2 : 16;
        trash->objects = xrealloc(trash->objects, trash->room * sizeof(*trash->objects));
    }
    trash->objects[trash->count++] = object;
    pthread_mutex_unlock(&trash->lock);
}

/* One at a time and without the lock: dropping a reference may run Python code, and give the GIL to
 * a thread that wants the lock. */
void trash_drop(struct trash *trash)
{
    while (!trash_is_empty(trash)) {
        struct _object *object = NULL;
        pthread_mutex_lock(&trash->lock);
        if (trash->count > 0)
            object = trash->objects[--trash->count];
        pthread_mutex_unlock(&trash->lock);
        if (object)
            wsgi_drop(&object);
    }
}

void trash_add_unclosed(struct trash *trash, struct wsgi_unclosed *unclosed)
{
    unsigned seat = unclosed->seat; /* it may be closed before this returns */
    unclosed->next = NULL;
    pthread_mutex_lock(&trash->lock);
    if (trash->unclosed)
        *trash->unclosed_end = unclosed;
    else
        trash->unclosed = unclosed;
    trash->unclosed_end = &unclosed->next;
    pthread_mutex_unlock(&trash->lock);
    trash->on_unclosed(trash->context, seat);
}

struct wsgi_unclosed *trash_take_unclosed(struct trash *trash)
{
    if (!trash_has_unclosed(trash))
        return NULL;
    pthread_mutex_lock(&trash->lock);
    struct wsgi_unclosed *unclosed = trash->unclosed;
    if (unclosed)
        trash->unclosed = unclosed->next;
    pthread_mutex_unlock(&trash->lock);
    return unclosed;
}
