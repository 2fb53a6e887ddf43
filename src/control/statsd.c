/* statsd.c: the numbers of /metrics, for statsd: PREFIX.NAME.LABEL:VALUE|c or |g.
 *
 * Takes them from the text that Prometheus gets, so that both always say the same. A gauge is sent
 * as it is, a counter (also those of a histogram) by what was added since the last time, without
 * "_total". The values of labels become parts of the name.
 *
 * Owns the socket and the counters that were sent last. Never waits; a daemon that is not there
 * costs nothing, and is looked up anew now and then. */
#include "statsd.h"

#include "base/log.h"

#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define DEFAULT_PORT   "8125"
#define LOOK_UP_PUSHES 12 /* a name server that does not answer holds the control process up */

/* ---- the address ---- */

/* HOST, HOST:PORT, [V6] or [V6]:PORT; the caller frees both. */
static bool split(const char *address, char **host, char **port)
{
    bool in_brackets = address[0] == '[';
    const char *end = in_brackets ? strchr(address, ']') : address + strcspn(address, ":");
    const char *rest = end && in_brackets ? end + 1 : end;
    if (!end || end == address + in_brackets || (*rest != '\0' && *rest != ':'))
        return false;
    const char *number = *rest == ':' ? rest + 1 : DEFAULT_PORT;
    size_t digits = strspn(number, "0123456789");
    if (digits == 0 || digits > 5 || number[digits] != '\0' || atoi(number) > 65535)
        return false;
    *host = xasprintf("%.*s", (int)(end - address) - in_brackets, address + in_brackets);
    *port = xstrdup(number);
    return true;
}

static const char *unix_path(const char *address)
{
    return strncmp(address, "unix:", 5) == 0 ? address + 5 : NULL;
}

char *statsd_check(const char *address)
{
    char *host, *port;
    const char *path = unix_path(address);
    if (path && *path && strlen(path) < sizeof((struct sockaddr_un){0}).sun_path)
        return NULL;
    if (path || !split(address, &host, &port))
        return xasprintf("\"%s\" is not right; write HOST:PORT, [IPV6]:PORT or unix:PATH", address);
    free(host);
    free(port);
    return NULL;
}

static int connect_to(int family, const void *address, socklen_t len)
{
    int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, address, len) != 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static int open_address(const char *address)
{
    const char *path = unix_path(address);
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICSERV}, *found;
    char *host, *port;
    if (path) {
        strcpy(local.sun_path, path); /* statsd_check has seen that it fits */
        return connect_to(AF_UNIX, &local, sizeof local);
    }
    if (!split(address, &host, &port))
        return -1;
    int error = getaddrinfo(host, port, &hints, &found), fd = -1;
    free(host);
    free(port);
    if (error)
        return -1;
    for (struct addrinfo *a = found; a && fd < 0; a = a->ai_next)
        fd = connect_to(a->ai_family, a->ai_addr, a->ai_addrlen);
    freeaddrinfo(found);
    return fd;
}

/* ---- lines ---- */

void statsd_begin(struct statsd *s, const char *address, const char *prefix)
{
    *s = (struct statsd){.address = address, .prefix = prefix, .fd = -1};
}

static void append_part(struct buf *name, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        bool is_plain = isalnum((unsigned char)text[i]) || text[i] == '_' || text[i] == '-';
        buf_append(name, is_plain ? text + i : "_", 1);
    }
}

/* The values of {a="x",b="y"}; `text` is behind the {. Returns what follows the }. */
static const char *append_labels(struct buf *name, const char *text)
{
    while (*text != '\0' && *text != '}') {
        const char *value = strchr(text, '"');
        if (!value)
            return text + strlen(text);
        const char *end = ++value;
        while (*end != '\0' && *end != '"')
            end += *end == '\\' && end[1] != '\0' ? 2 : 1;
        buf_append_str(name, ".");
        append_part(name, value, (size_t)(end - value));
        text = *end == '\0' ? end : end + 1;
    }
    return *text == '}' ? text + 1 : text;
}

/* What was added to the counter since the last time. Takes `name`. */
static double added(struct statsd *s, char *name, double value)
{
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(s->counters[i].name, name) == 0) {
            double before = s->counters[i].value;
            s->counters[i].value = value;
            free(name);
            return value > before ? value - before : 0;
        }
    s->counters = xrealloc(s->counters, (s->count + 1) * sizeof *s->counters);
    s->counters[s->count++] = (struct statsd_counter){name, value};
    return s->pushes == 0 ? 0 : value; /* one that is new has counted from 0 */
}

static void append_line(struct statsd *s, const char *line, bool is_counter, struct buf *out)
{
    size_t len = strcspn(line, "{ ");
    struct buf name = {0};
    size_t skipped = strncmp(line, "myserver_", 9) == 0 ? 9 : 0;
    bool is_total = len > 6 + skipped && strncmp(line + len - 6, "_total", 6) == 0;
    if (*s->prefix != '\0')
        buf_printf(&name, "%s.", s->prefix);
    append_part(&name, line + skipped, len - skipped - (is_total ? 6 : 0));
    const char *rest = line[len] == '{' ? append_labels(&name, line + len + 1) : line + len;
    double value = strtod(rest, NULL);
    char *text = xasprintf("%.*s", (int)name.len, name.data);
    if (is_counter)
        value = added(s, xstrdup(text), value);
    if (!is_counter || value > 0)
        buf_printf(out, "%s:%.12g|%s\n", text, value, is_counter ? "c" : "g");
    free(text);
    buf_fini(&name);
}

void statsd_format(struct statsd *s, const char *metrics, struct buf *out)
{
    bool is_counter = false;
    while (*metrics != '\0') {
        size_t len = strcspn(metrics, "\n");
        char *line = xasprintf("%.*s", (int)len, metrics);
        metrics += len + (metrics[len] == '\n');
        const char *type = strncmp(line, "# TYPE ", 7) == 0 ? strrchr(line, ' ') + 1 : NULL;
        if (type)
            is_counter = strcmp(type, "gauge") != 0;
        else if (line[0] != '#' && line[0] != '\0')
            append_line(s, line, is_counter, out);
        free(line);
    }
    s->pushes++;
}

/* ---- sending ---- */

void statsd_send(struct statsd *s, const struct buf *lines)
{
    if (s->fd < 0 && s->pushes % LOOK_UP_PUSHES == 1)
        s->fd = open_address(s->address);
    if (s->fd < 0 && s->pushes == 1)
        log_warning("statsd: %s cannot be reached; it is tried again every minute", s->address);
    for (size_t at = 0; s->fd >= 0 && at < lines->len;) {
        size_t len = 0;
        while (at + len < lines->len) {
            const char *line = lines->data + at + len;
            size_t next = (size_t)((const char *)memchr(line, '\n', lines->len - at - len) - line);
            if (len > 0 && len + next > STATSD_PACKET_BYTES)
                break;
            len += next + 1;
        }
        (void)send(s->fd, lines->data + at, len - 1, MSG_NOSIGNAL); /* without the last newline */
        at += len;
    }
}
