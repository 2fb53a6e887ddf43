/* timedwait.h: the program's pthread_cond_timedwait.
 *
 * A thread that wants the GIL sleeps in that function. The dynamic linker finds a definition in the
 * program before that of the C library, but none in a library that is loaded later: so it is here,
 * and the engine puts a hook into it that measures the wait (python/gil.h). */
#ifndef MYSERVER_LAUNCHER_TIMEDWAIT_H
#define MYSERVER_LAUNCHER_TIMEDWAIT_H

#include "system/launch.h"

/* Where the engine puts its hook; NULL under ThreadSanitizer, which has a function of its own. */
extern launch_wait_hook **const timedwait_hook;

#endif
