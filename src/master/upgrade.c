/* upgrade.c: USR2. The master starts its program again, by the name it was started with, from the
 * directory it was started in; the sockets go along (inherit.h). The new master loads its
 * application and starts its workers while the old ones serve. When all new workers serve, the new
 * master writes a byte into a pipe, and only then the old master drains and leaves. If the new one
 * ends before that, the old one goes on serving.
 *
 * Owns the pipe between the two masters and the environment variable that names it. Never ends a
 * worker itself, never kills a predecessor: the predecessor leaves. Master only. */
#include "upgrade.h"

#include "base/fds.h"
#include "base/log.h"
#include "base/logfile.h"
#include "system/inherit.h"
#include "system/listen.h"
#include "system/notify.h"
#include "system/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* "pid of the old master, descriptor to tell it" */
#define TELL_VARIABLE "MYSERVER_UPGRADE"

void upgrade_init(struct upgrade *u, struct listeners *app, struct listeners *http,
                  struct listeners *stats)
{
    *u = (struct upgrade){.heard_fd = -1, .tell_fd = -1, .sockets = {app, http, stats}};
    const char *text = getenv(TELL_VARIABLE);
    int pid, tell_fd;
    if (text && sscanf(text, "%d %d", &pid, &tell_fd) == 2 && pid > 0 && tell_fd > 2) {
        u->predecessor = pid;
        u->tell_fd = tell_fd;
        fcntl(tell_fd, F_SETFD, FD_CLOEXEC);
    }
    unsetenv(TELL_VARIABLE);
}

static NORETURN void become_successor(const struct upgrade *u, pid_t predecessor, int tell_fd)
{
    char text[48];
    snprintf(text, sizeof text, "%d %d", predecessor, tell_fd);
    setenv(TELL_VARIABLE, text, 1);
    fcntl(tell_fd, F_SETFD, 0);
    for (unsigned i = 0; i < ARRAY_LEN(u->sockets); i++)
        listen_pass_on(u->sockets[i]);
    notify_pass_on();
    logfile_pass_on();
    process_restore_signals();
    process_go_home();
    process_start_again();
}

/* Why there can be no upgrade now; NULL: nothing prevents it. */
static const char *find_obstacle(const struct upgrade *u, bool serves)
{
    if (u->successor > 0 || u->predecessor > 0)
        return "one is under way";
    if (!serves)
        return "the server does not serve";
    if (getpid() == 1)
        return "this is process 1, and its container would end with it; start another container";
    return NULL;
}

void upgrade_begin(struct upgrade *u, bool serves)
{
    int fds[2];
    const char *obstacle = find_obstacle(u, serves);
    if (obstacle) {
        log_warning("no upgrade now: %s", obstacle);
        return;
    }
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0) {
        log_error("no upgrade: cannot make a pipe: %s%s", strerror(errno), fds_advice(errno));
        return;
    }
    pid_t self = getpid(), pid = fork();
    if (pid == 0)
        become_successor(u, self, fds[1]);
    close(fds[1]);
    if (pid < 0) {
        log_error("no upgrade: cannot start another master: %s%s", strerror(errno),
                  errno == EAGAIN ? "; raise the limit of processes (ulimit -u, TasksMax)" : "");
        close(fds[0]);
        return;
    }
    u->successor = pid;
    u->heard_fd = fds[0];
    log_info("upgrading: the new master is pid %d; SIGTERM to it calls it off", pid);
}

static void share_sockets(const struct upgrade *u, bool shared)
{
    for (unsigned i = 0; i < ARRAY_LEN(u->sockets); i++)
        listen_set_shared(u->sockets[i], shared);
}

bool upgrade_hear(struct upgrade *u)
{
    char word;
    if (u->heard_fd < 0)
        return false;
    ssize_t got = read(u->heard_fd, &word, 1);
    if (got < 0)
        return false;
    close(u->heard_fd);
    u->heard_fd = -1;
    if (got == 0)
        return false; /* EOF: the successor has ended; upgrade_on_exit logs how */
    log_info("upgraded: the new master (pid %d) serves; this one leaves", u->successor);
    notify_send("MAINPID=%d\nSTATUS=upgraded", u->successor);
    u->left = true;
    share_sockets(u, true);
    return true;
}

/* Somebody has stopped the new master, maybe before it had a handler for that. */
static bool was_stopped(int status)
{
    return (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_OK) ||
           (WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

enum upgrade_end upgrade_on_exit(struct upgrade *u, pid_t pid, int status, const char *why,
                                 const char *and_now)
{
    if (pid != u->successor)
        return UPGRADE_OTHER;
    /* It may have taken over, been stopped, and removed sockets and files. */
    bool has_left = WIFEXITED(status) && WEXITSTATUS(status) == EXIT_OK && upgrade_hear(u);
    u->successor = 0;
    if (u->left) {
        log_error("the new master (pid %d) has ended: %s", pid, why);
        return has_left ? UPGRADE_LEFT : UPGRADE_GONE;
    }
    if (was_stopped(status))
        log_info("upgrade called off: the new master (pid %d) has ended%s", pid, and_now);
    else
        log_error("upgrade failed: the new master (pid %d) has ended: %s%s", pid, why, and_now);
    if (u->heard_fd >= 0) /* a byte that is still in there no longer counts */
        close(u->heard_fd);
    u->heard_fd = -1;
    return UPGRADE_FAILED;
}

void upgrade_take_over(struct upgrade *u)
{
    if (u->predecessor == 0)
        return;
    share_sockets(u, false);
    inherit_remove_rest();
    ssize_t told = write(u->tell_fd, "1", 1);
    (void)told; /* EPIPE: the predecessor has gone already */
    close(u->tell_fd);
    u->tell_fd = -1;
    log_info("upgraded: taking the place of master %d", u->predecessor);
    prctl(PR_SET_PDEATHSIG, SIGCHLD); /* for upgrade_look */
    u->leaves = u->predecessor;
    u->predecessor = 0;
}

void upgrade_look(struct upgrade *u, pid_t other)
{
    if (u->leaves == 0 || getppid() == u->leaves || other <= 0)
        return;
    u->leaves = 0;
    notify_send("MAINPID=%d", other);
    notify_send("MAINPID=%d", getpid());
}

void upgrade_call_off(const struct upgrade *u)
{
    if (u->successor > 0 && !u->left)
        kill(u->successor, SIGTERM);
}
