/* inherit.c: listening sockets that are inherited and passed on.
 *
 * Owns two conventions about the environment. systemd's (sd_listen_fds(3)): LISTEN_FDS descriptors
 * from 3 on, meant for the process LISTEN_PID, with the names LISTEN_FDNAMES. That between the
 * masters of an upgrade: MYSERVER_SOCKETS has a line for each socket, "descriptor made bind", where
 * bind is the address that the user wrote for it; by it the next master finds the socket in its own
 * settings.
 *
 * Never opens or examines a socket: listen.c does. Master only. */
#include "system/inherit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SOCKETS_VARIABLE "MYSERVER_SOCKETS"
#define SYSTEMD_FIRST_FD 3
#define COUNT_MAX        1024

struct inherited {
    int fd; /* -1: was taken */
    bool made;
    char *bind; /* owned */
};

static struct inherited *sockets; /* [count]; owned */
static size_t count;

static void add(int fd, bool made, const char *bind)
{
    sockets = xrealloc(sockets, (count + 1) * sizeof *sockets);
    sockets[count++] = (struct inherited){fd, made, xstrdup(bind)};
    fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static void read_systemd(void)
{
    const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
    const char *names = getenv("LISTEN_FDNAMES");
    char *copy = xstrdup(names ? names : ""), *rest = copy;
    if (pid && fds && atoi(pid) == getpid())
        for (int i = 0; i < atoi(fds) && i < COUNT_MAX; i++) {
            const char *name = strsep(&rest, ":");
            bool is_uwsgi = name && strcmp(name, "uwsgi") == 0;
            add(SYSTEMD_FIRST_FD + i, false, is_uwsgi ? INHERIT_SYSTEMD_UWSGI : INHERIT_SYSTEMD);
        }
    free(copy);
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
}

static void read_predecessor(void)
{
    const char *text = getenv(SOCKETS_VARIABLE);
    char *copy = xstrdup(text ? text : ""), *rest = copy, *line;
    while ((line = strsep(&rest, "\n")) != NULL) {
        int fd, made, bind = 0;
        if (sscanf(line, "%d %d %n", &fd, &made, &bind) == 2 && bind > 0)
            add(fd, made != 0, line + bind);
    }
    free(copy);
    unsetenv(SOCKETS_VARIABLE);
}

void inherit_init(void)
{
    read_predecessor();
    read_systemd();
}

int inherit_take(const char *bind, bool *made)
{
    for (size_t i = 0; i < count; i++) {
        struct inherited *socket = &sockets[i];
        if (socket->fd < 0 || strcmp(socket->bind, bind) != 0)
            continue;
        int fd = socket->fd;
        *made = socket->made;
        socket->fd = -1;
        return fd;
    }
    return -1;
}

void inherit_close_rest(void)
{
    for (size_t i = 0; i < count; i++)
        if (sockets[i].fd >= 0)
            close(sockets[i].fd);
}

void inherit_remove_rest(void)
{
    for (size_t i = 0; i < count; i++) {
        const struct inherited *socket = &sockets[i];
        if (socket->fd >= 0 && socket->made && strncmp(socket->bind, "unix:", 5) == 0)
            unlink(socket->bind + 5);
        free(sockets[i].bind);
    }
    free(sockets);
    sockets = NULL;
    count = 0;
}

void inherit_pass_on(int fd, bool made, const char *bind)
{
    const char *before = getenv(SOCKETS_VARIABLE);
    char *text = xasprintf("%s%d %d %s\n", before ? before : "", fd, made, bind);
    setenv(SOCKETS_VARIABLE, text, 1);
    free(text);
    fcntl(fd, F_SETFD, 0);
}
