/* upgrade.c: USR2. The master starts its program again, by the name it was started with, from the
 * directory it was started in; the sockets go along (inherit.h). The new master loads its
 * application and starts its workers while the old ones serve. When all new workers serve, the new
 * master writes a byte into a pipe, and only then the old master drains and leaves. If the new one
 * ends before that, the old one goes on serving.
 *
 * Owns the pipe between the two masters and the environment variable that names it. Never ends a
 * worker itself, never kills a predecessor: the predecessor leaves. Master only. */
#include "upgrade.h"

#include "base/log.h"
#include "base/logfile.h"
#include "descriptors.h"
#include "event.h"
#include "master/book.h"
#include "shared/board.h"
#include "system/inherit.h"
#include "system/notify.h"
#include "system/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* "pid of the old master, descriptor to tell it[, 1 if "/" answered under its code]" */
#define TELL_VARIABLE "MYSERVER_UPGRADE"

void upgrade_init(struct upgrade *u)
{
    *u = (struct upgrade){.heard_fd = -1, .tell_fd = -1};
    const char *text = getenv(TELL_VARIABLE);
    int pid, tell_fd, root_answered = 0;
    if (text != NULL && sscanf(text, "%d %d %d", &pid, &tell_fd, &root_answered) >= 2 && pid > 0 &&
        tell_fd > 2) {
        u->predecessor = pid;
        u->tell_fd = tell_fd;
        u->root_answered = root_answered == 1;
        fcntl(tell_fd, F_SETFD, FD_CLOEXEC);
    }
    unsetenv(TELL_VARIABLE);
}

static NORETURN void become_successor(const struct book *b, pid_t predecessor, int tell_fd)
{
    char text[48];
    snprintf(text, sizeof text, "%d %d %d", predecessor, tell_fd,
             board_root_answered(b->board, b->generation));
    setenv(TELL_VARIABLE, text, 1);
    fcntl(tell_fd, F_SETFD, 0);
    listen_pass_on(&b->listeners);
    listen_pass_on(&b->control.http);
    listen_pass_on(&b->control.stats);
    notify_pass_on();
    logfile_pass_on();
    process_restore_signals();
    process_go_home();
    process_start_again();
}

/* Why there can be no upgrade now; NULL: nothing prevents it. */
static const char *find_obstacle(const struct book *b)
{
    if (b->upgrade.successor > 0 || b->upgrade.predecessor > 0)
        return "one is under way";
    if (!b->served || b->stop != STOP_NOT)
        return "the server does not serve";
    if (getpid() == 1)
        return "this is process 1, and its container would end with it; start another container";
    return NULL;
}

void upgrade_begin(struct book *b)
{
    struct upgrade *u = &b->upgrade;
    int fds[2];
    const char *obstacle = find_obstacle(b);
    if (obstacle != NULL) {
        log_warning("no upgrade now: %s", obstacle);
        return;
    }
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0) {
        log_error("no upgrade: cannot make a pipe: %s%s", strerror(errno),
                  descriptors_advice(errno));
        return;
    }
    pid_t self = getpid(), pid = fork();
    if (pid == 0)
        become_successor(b, self, fds[1]);
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

void upgrade_hear(struct book *b)
{
    struct upgrade *u = &b->upgrade;
    char word;
    if (u->heard_fd < 0)
        return;
    ssize_t got = read(u->heard_fd, &word, 1);
    if (got < 0)
        return;
    close(u->heard_fd);
    u->heard_fd = -1;
    if (got == 0)
        return; /* EOF: the successor has ended; upgrade_on_exit logs how */
    log_info("upgraded: the new master (pid %d) serves; this one leaves", u->successor);
    notify_send("MAINPID=%d\nSTATUS=upgraded", u->successor);
    u->left = true;
    listen_set_shared(&b->listeners, true);
    listen_set_shared(&b->control.http, true);
    listen_set_shared(&b->control.stats, true);
    pidfile_close(&b->pidfile);
    atomic_store(&b->board->upgraded, true);
    book_release_control(b);
    event_stop(b, false);
}

/* Somebody has stopped the new master, maybe before it had a handler for that. */
static bool was_stopped(int status)
{
    return (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_OK) ||
           (WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

bool upgrade_on_exit(struct book *b, pid_t pid, int status, const char *why)
{
    struct upgrade *u = &b->upgrade;
    if (pid != u->successor)
        return false;
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_OK)
        upgrade_hear(b); /* it may have taken over, been stopped, and removed sockets and files */
    u->successor = 0;
    if (u->left) {
        log_error("the new master (pid %d) has ended: %s", pid, why);
        return true;
    }
    if (was_stopped(status))
        log_info("upgrade called off: the new master (pid %d) has ended%s", pid,
                 b->stop == STOP_NOT ? "; this one goes on" : "");
    else
        log_error("upgrade failed: the new master (pid %d) has ended: %s%s", pid, why,
                  b->stop == STOP_NOT ? "; this one goes on" : "");
    if (u->heard_fd >= 0) /* a byte that is still in there no longer counts */
        close(u->heard_fd);
    u->heard_fd = -1;
    b->pidfile.written = false; /* the new master may have written its own pid */
    return true;
}

void upgrade_take_over(struct book *b)
{
    struct upgrade *u = &b->upgrade;
    if (u->predecessor == 0)
        return;
    listen_set_shared(&b->listeners, false);
    listen_set_shared(&b->control.http, false);
    listen_set_shared(&b->control.stats, false);
    inherit_remove_rest();
    ssize_t told = write(u->tell_fd, "1", 1);
    (void)told; /* EPIPE: the predecessor has gone already */
    close(u->tell_fd);
    u->tell_fd = -1;
    log_info("upgraded: taking the place of master %d", u->predecessor);
    u->predecessor = 0;
}

void upgrade_call_off(struct book *b)
{
    if (b->upgrade.successor > 0 && !b->upgrade.left)
        kill(b->upgrade.successor, SIGTERM);
}
