/* timedwait.c: the program's pthread_cond_timedwait. Owns the hook. */
#include "timedwait.h"

#include <dlfcn.h>

#ifdef __SANITIZE_THREAD__

launch_wait_hook **const timedwait_hook = NULL;

#else

static launch_wait_hook *hook; /* set by the engine while there is one thread */
launch_wait_hook **const timedwait_hook = &hook;

/* What takes the place of the C library's function where that is not found: the same, but for the
 * clock, which is told from the time. A time since the start of the machine is not that of a day
 * after 1980. */
static int wait_by_guess(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until)
{
    const time_t ten_years = 10L * 365 * 24 * 3600;
    clockid_t clock = until->tv_sec < ten_years ? CLOCK_MONOTONIC : CLOCK_REALTIME;
    return pthread_cond_clockwait(cond, mutex, clock, until);
}

/* The version that programs bind to which are linked today. Architectures that are older than glibc
 * 2.3.2 have another one, for an older condition variable, and before 2.36 dlsym returns that one.
 * The others have only one. */
static launch_timedwait *look_up(const char *name)
{
    launch_timedwait *found;
    *(void **)&found = dlvsym(RTLD_NEXT, name, "GLIBC_2.3.2");
    if (!found)
        *(void **)&found = dlsym(RTLD_NEXT, name);
    return found ? found : wait_by_guess;
}

static launch_timedwait *find_next(void)
{
    static launch_timedwait *_Atomic next; /* two threads may both set it, to the same value */
    launch_timedwait *found = next;
    if (!found)
        next = found = look_up("pthread_cond_timedwait");
    return found;
}

__attribute__((visibility("default"))) int
pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until)
{
    launch_timedwait *next = find_next();
    return hook ? hook(cond, mutex, until, next, __builtin_return_address(0))
                : next(cond, mutex, until);
}

#endif
