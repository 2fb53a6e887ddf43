/* notify.c: one datagram per message to the socket that the service manager has named.
 *
 * Owns that socket and the last status. Knows the protocol; the callers in the master know when to
 * send what. The state is at file scope, since there is one manager and one master.
 *
 * Never waits for the manager. Master only. */
#include "system/notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MESSAGE_MAX 512

static struct sockaddr_un manager;
static socklen_t manager_len; /* 0: there is none */
static int fd = -1;
static uint64_t watchdog_ms;
static bool reloading;
static char last_status[MESSAGE_MAX];

/* `name`: a path, or with @ in front a name in the kernel's abstract namespace. */
static void open_socket(const char *name)
{
    size_t len = name ? strlen(name) : 0;
    if (len < 2 || len >= sizeof manager.sun_path || (name[0] != '/' && name[0] != '@'))
        return;
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    manager.sun_family = AF_UNIX;
    memcpy(manager.sun_path, name, len);
    if (name[0] == '@')
        manager.sun_path[0] = '\0';
    manager_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
}

void notify_init(void)
{
    const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    open_socket(getenv("NOTIFY_SOCKET"));
    if (manager_len > 0 && usec && (!pid || atoi(pid) == getpid()))
        watchdog_ms = strtoull(usec, NULL, 10) / 1000 / 2;
}

static void send_text(const char *text, size_t len)
{
    ssize_t sent =
        sendto(fd, text, len, MSG_NOSIGNAL, (const struct sockaddr *)&manager, manager_len);
    (void)sent;
}

void notify_send(const char *format, ...)
{
    char text[MESSAGE_MAX];
    va_list args;
    if (manager_len == 0)
        return;
    va_start(args, format);
    int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (len > 0)
        send_text(text, (size_t)len < sizeof text ? (size_t)len : sizeof text - 1);
}

void notify_reloading(void)
{
    reloading = true;
    notify_send("RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)(now_ns() / 1000));
}

void notify_reloaded(void)
{
    if (reloading)
        notify_send("READY=1");
    reloading = false;
}

void notify_status(const char *format, ...)
{
    char text[MESSAGE_MAX - 16];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (strcmp(text, last_status) == 0)
        return;
    memcpy(last_status, text, sizeof text);
    notify_send("STATUS=%s", text);
}

uint64_t notify_watchdog_ms(void)
{
    return watchdog_ms;
}

void notify_pass_on(void)
{
    char pid[16];
    snprintf(pid, sizeof pid, "%d", getpid());
    if (getenv("WATCHDOG_PID") != NULL)
        setenv("WATCHDOG_PID", pid, 1);
}

void notify_forget(void)
{
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    if (fd >= 0)
        close(fd);
    manager_len = 0;
}
