/* gil.c: how long threads wait for the GIL.
 *
 * Owns: the program's pthread_cond_timedwait. A thread that wants the GIL while another holds it
 * sleeps in that function, and nothing else in libpython does (locks and events wait on
 * semaphores). The dynamic linker finds the definition here before that of the C library, so the
 * wait is measured without changing Python. A thread that gets the GIL at once never comes here, so
 * that costs nothing. */
#include "python/gil.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>

static _Thread_local uint64_t waited_ns;
static _Thread_local bool counted;
static _Atomic unsigned waiting;

void gil_count_this_thread(void)
{
    counted = true;
}

bool gil_is_wanted(void)
{
    return waiting > 0;
}

uint64_t gil_waited_ns(void)
{
    return waited_ns;
}

#ifndef __SANITIZE_THREAD__

typedef int timedwait(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);

static timedwait *find_next(void)
{
    static timedwait *_Atomic next; /* two threads may both set it, to the same value */
    timedwait *found = next;
    if (!found) {
        *(void **)&found = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
        next = found;
    }
    return found;
}

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                           const struct timespec *until)
{
    uint64_t start_ns = now_ns();
    waiting += counted;
    int result = find_next()(cond, mutex, until);
    waiting -= counted;
    waited_ns += now_ns() - start_ns;
    return result;
}

#endif
