/* syslog.c: lines as datagrams to a syslog daemon, here or on another machine.
 *
 * Owns the form of a line's head and the address it goes to. The socket is not connected: the next
 * datagram finds a daemon that was restarted. Never waits longer than SYSLOG_PATIENCE_US for a
 * daemon, never retries: a line that it does not take is lost. */
#include "syslog.h"
#include "base/date.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define SYSLOG_DEFAULT     "unix:/dev/log"
#define SYSLOG_FACILITY    3    /* daemon */
#define SYSLOG_MAX_BYTES   8192 /* of a line; RFC 5424 6.1 asks receivers for 480, most take this */
#define SYSLOG_PATIENCE_US 100000

static char *resolve(struct syslog *s, const char *address, bool only_look)
{
    const char *colon = strrchr(address, ':');
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found;
    if (!colon || colon == address || !colon[1] || strspn(colon + 1, "0123456789") > 5 ||
        colon[1 + strspn(colon + 1, "0123456789")])
        return xasprintf("\"%s\" is neither unix:PATH nor HOST:PORT of a syslog", address);
    if (only_look)
        return NULL;
    bool in_brackets = address[0] == '[' && colon[-1] == ']';
    char *host = xasprintf("%.*s", (int)(colon - address) - 2 * in_brackets, address + in_brackets);
    int error = getaddrinfo(host, colon + 1, &hints, &found);
    free(host);
    if (error)
        return xasprintf("the host of %s cannot be resolved: %s", address, gai_strerror(error));
    memcpy(&s->address, found->ai_addr, found->ai_addrlen);
    s->address_len = found->ai_addrlen;
    freeaddrinfo(found);
    return NULL;
}

static char *locate(struct syslog *s, const char *address, bool only_look)
{
    struct sockaddr_un *local = (struct sockaddr_un *)&s->address;
    if (!*address)
        address = SYSLOG_DEFAULT;
    if (strncmp(address, "unix:", 5) != 0)
        return resolve(s, address, only_look);
    const char *path = address + 5;
    if (!*path || strlen(path) >= sizeof local->sun_path)
        return xasprintf("the path of \"%s\" is empty or longer than %zu bytes", address,
                         sizeof local->sun_path - 1);
    local->sun_family = AF_UNIX;
    strcpy(local->sun_path, path);
    s->address_len = sizeof *local;
    return NULL;
}

/* What stands before the text of a line. For a unix socket as libc writes it (RFC 3164 4.1 without
 * the host), else as in RFC 5424 6. */
static int syslog_head(const struct syslog *s, unsigned severity, char *head, size_t room)
{
    struct timespec now;
    struct tm tm;
    char date[32], host[65];
    unsigned priority = SYSLOG_FACILITY * 8 + severity;
    clock_gettime(CLOCK_REALTIME, &now);
    if (s->address.ss_family == AF_UNIX) {
        localtime_r(&now.tv_sec, &tm);
        strftime(date, sizeof date, "%e %H:%M:%S", &tm);
        return snprintf(head, room, "<%u>%s %s myserver[%d]: ", priority, date_months[tm.tm_mon],
                        date, (int)getpid());
    }
    date_write_iso(date, now, 'T');
    if (gethostname(host, sizeof host - 1) != 0)
        strcpy(host, "-");
    host[sizeof host - 1] = '\0';
    return snprintf(head, room, "<%u>1 %s %s myserver %d - - ", priority, date, host,
                    (int)getpid());
}

static bool send_line(struct syslog *s, unsigned severity, const char *line, size_t len,
                      bool patient)
{
    char head[160];
    int head_len = syslog_head(s, severity, head, sizeof head);
    struct iovec pieces[] = {
        {head, (size_t)head_len},
        {(char *)(uintptr_t)line, len < SYSLOG_MAX_BYTES ? len : SYSLOG_MAX_BYTES}};
    struct msghdr message = {.msg_name = &s->address,
                             .msg_namelen = s->address_len,
                             .msg_iov = pieces,
                             .msg_iovlen = ARRAY_LEN(pieces)};
    int flags = MSG_NOSIGNAL | (patient ? 0 : MSG_DONTWAIT);
    ssize_t sent = sendmsg(s->fd, &message, flags);
    if (sent < 0 && errno == EINTR) /* patience may be interrupted, but does not begin anew */
        sent = sendmsg(s->fd, &message, flags | MSG_DONTWAIT);
    return sent >= 0;
}

bool syslog_send(struct syslog *s, unsigned severity, const char *lines, size_t len, bool patient)
{
    bool sent = true;
    while (len && sent) {
        const char *newline = memchr(lines, '\n', len);
        size_t line = newline ? (size_t)(newline - lines) : len;
        sent = send_line(s, severity, lines, line, patient);
        line += newline != NULL;
        lines += line;
        len -= line;
    }
    return sent;
}

char *syslog_check(const char *where)
{
    struct syslog nowhere;
    return locate(&nowhere, where, true);
}

char *syslog_open(struct syslog *s, const char *where)
{
    struct timeval patience = {.tv_usec = SYSLOG_PATIENCE_US};
    *s = (struct syslog){0};
    char *wrong = locate(s, where, false);
    if (wrong)
        return wrong;
    s->fd = socket(s->address.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (s->fd < 0)
        return xasprintf("no socket for syslog: %s", strerror(errno));
    setsockopt(s->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    return NULL;
}
