/* middle.c: the first half of a double fork. Owns nothing. */
#include "middle.h"

#include "base/log.h"
#include "python/python.h"
#include "system/forks.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* True when the process ended by exit. */
static bool has_exited(pid_t pid)
{
    int status = 0;
    /* ECHILD: the application ignores SIGCHLD, and the kernel has reaped the process. */
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return WIFEXITED(status);
}

bool middle_fork(bool has_python, void (*run)(void *context, const sigset_t *mask), void *context,
                 const char *what)
{
    sigset_t all, mask;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &mask);
    if (has_python)
        python_before_fork();
    forks_are_own(true);
    pid_t pid = fork();
    if (pid == 0)
        run(context, &mask);
    forks_are_own(false);
    if (pid < 0)
        log_error("cannot fork for %s: %s", what, strerror(errno));
    bool exited = pid > 0 && has_exited(pid);
    if (has_python)
        python_after_fork_parent();
    sigprocmask(SIG_SETMASK, &mask, NULL);
    return exited;
}

void middle_await_end(pid_t middle)
{
    const struct timespec pause = {.tv_nsec = 100000};
    while (getppid() == middle)
        (void)nanosleep(&pause, NULL);
}
