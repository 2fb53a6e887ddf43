/* launch.h: what the launcher hands to the engine: which Python it has loaded, and for whom.
 *
 * The program is two files. The launcher (`myserver`) is not linked with Python: it finds the
 * interpreter, loads its libpython, then the engine, which is all the rest. */
#ifndef MYSERVER_SYSTEM_LAUNCH_H
#define MYSERVER_SYSTEM_LAUNCH_H

#include "base/base.h"

#include <pthread.h>
#include <time.h>

/* Set only from one launcher to the next: the virtualenv that the settings name. */
#define LAUNCH_VARIABLE "MYSERVER_LAUNCH"

typedef int launch_timedwait(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
/* Called in place of pthread_cond_timedwait: `next` is the C library's, `caller` the address that
 * it returns to. */
typedef int launch_wait_hook(pthread_cond_t *cond, pthread_mutex_t *mutex,
                             const struct timespec *until, launch_timedwait *next,
                             const void *caller);

struct launch {
    const char *virtualenv; /* whose Python is loaded; NULL: of none */
    const char *python;     /* path of the interpreter: what sys.executable will be */
    /* Why `virtualenv` cannot be served, NULL: it can. With `here`, also when it needs another
     * libpython than the one that is loaded. The caller owns the sentence. */
    char *(*refuse)(const char *virtualenv, bool here);
    launch_wait_hook **wait_hook; /* where to put it; NULL under ThreadSanitizer */
};

/* What the engine was launched with; before launch_begin: nothing but NULL. */
const struct launch *launch_get(void);
/* To be called first, with what then lives as long as the process. */
void launch_begin(const struct launch *launch);
/* Executes the launcher again, for that virtualenv. Failure: one sentence, exit status 1. */
NORETURN void launch_again(const char *virtualenv);
/* The directory of the package `myserver`: in a build tree, installed, or in a wheel. The caller
 * owns it; NULL: it is not where it belongs. */
char *launch_package(void);
/* Executes a command in Python: `python -m myserver` with `arguments` (ends with NULL), of the
 * Python that was launched. Failure: one sentence, exit status 1 or 2. */
NORETURN void launch_command(char **arguments);

/* The only function that the engine exports; the launcher's main() ends with it. */
typedef int launch_entry(int argc, char **argv, const struct launch *launch);

#endif
