/* health.c: asks a running server whether it is ready.
 *
 * Owns one connection. Runs in a process of its own, which has nothing of the server but its
 * settings. An answer that is not whole, or not HTTP, is none. */
#include "control/health.h"

#include "base/text.h"
#include "config/origin.h"
#include "config/settings.h"
#include "control/control.h"

#include <errno.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define WAIT_MS 3000

static const char request[] =
    "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/* What is left of WAIT_MS, at least 1 ms. */
static struct timeval time_left(uint64_t until_ms)
{
    uint64_t now = now_ms(), left = until_ms > now ? until_ms - now : 1;
    return (struct timeval){(time_t)(left / 1000), (suseconds_t)(left % 1000 * 1000)};
}

/* Returns a connection, or -1 with `errno` set. */
static int open_to(const struct sockaddr *address, socklen_t len, uint64_t until_ms)
{
    struct timeval left = time_left(until_ms);
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &left, sizeof left); /* for connect(2), too */
    if (connect(fd, address, len) == 0)
        return fd;
    int error = errno == EINPROGRESS ? ETIMEDOUT : errno;
    close(fd);
    errno = error;
    return -1;
}

static int open_unix(const char *path, uint64_t until_ms)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path));
    return open_to((struct sockaddr *)&address, sizeof address, until_ms);
}

/* "HOST:PORT", "[V6]:PORT" or ":PORT"; the form is known to be right. To the kernel an address that
 * stands for all is the one of this machine. */
static int open_tcp(const char *text, uint64_t until_ms)
{
    char *host = xstrdup(text), *port = strrchr(host, ':');
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *addresses = NULL;
    *port++ = '\0';
    char *name = host;
    if (name[0] == '[') {
        name[strlen(name) - 1] = '\0';
        name++;
    }
    int fd = -1;
    if (getaddrinfo(*name ? name : NULL, port, &hints, &addresses) != 0)
        errno = EADDRNOTAVAIL;
    for (struct addrinfo *a = addresses; a && fd < 0; a = a->ai_next)
        fd = open_to(a->ai_addr, a->ai_addrlen, until_ms);
    int error = errno;
    if (addresses)
        freeaddrinfo(addresses);
    free(host);
    errno = error;
    return fd;
}

static int open_control(const char *address, uint64_t until_ms)
{
    if (address[0] == '/')
        return open_unix(address, until_ms);
    if (strncmp(address, "unix:", 5) == 0)
        return open_unix(address + 5, until_ms);
    return open_tcp(address, until_ms);
}

/* Reads up to the end of the answer. False with `errno` set: the time is over, or the connection
 * broke; 0: it was closed before anything came. */
static bool read_answer(int fd, char *answer, size_t size, uint64_t until_ms)
{
    size_t len = 0;
    ssize_t got = 1;
    while (got > 0 && len + 1 < size) {
        struct timeval left = time_left(until_ms);
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &left, sizeof left);
        got = now_ms() < until_ms ? read(fd, answer + len, size - 1 - len) : -1;
        len += got > 0 ? (size_t)got : 0;
    }
    answer[len] = '\0';
    if (got == 0 && len == 0)
        errno = 0;
    return got >= 0 && len > 0;
}

static enum exit_status say(FILE *out, const char *address, const char *answer)
{
    const char *body = strstr(answer, "\r\n\r\n");
    int status = 0;
    if (sscanf(answer, "HTTP/1.1 %3d ", &status) != 1 || !body) {
        fprintf(out, "not ready: %s does not speak as the control process does\n", address);
        return EXIT_CRASH;
    }
    body += 4;
    fprintf(out, "%s%.*s\n", status == 200 ? "" : "not ready: ", (int)strcspn(body, "\r\n"),
            text_quote(body));
    return status == 200 ? EXIT_OK : EXIT_CRASH;
}

static const char *reason(int error)
{
    if (error == 0)
        return "it closes the connection: it answers root and the user that the server runs as";
    return error == EAGAIN ? strerror(ETIMEDOUT) : strerror(error);
}

enum exit_status health_ask(const struct config *config, FILE *out)
{
    char answer[4096];
    const char *address = config->control;
    uint64_t until_ms = now_ms() + WAIT_MS;
    if (!address)
        die(EXIT_CONFIG, "--health asks the address of control, which is not set; write control = "
                         "ADDR in the ini file of the server, or --control ADDR");
    control_check(config);
    if (strncmp(address, "fd://", 5) == 0)
        config_origin_die(EXIT_CONFIG, "control", NULL,
                          "\"%s\" is a descriptor of the server; write the address that it is "
                          "bound to",
                          text_quote(address));
    int fd = open_control(address, until_ms);
    bool is_sent = fd >= 0 && send(fd, request, sizeof request - 1, MSG_NOSIGNAL) > 0;
    bool is_read = is_sent && read_answer(fd, answer, sizeof answer, until_ms);
    int error = errno;
    if (fd >= 0)
        close(fd);
    if (is_read)
        return say(out, address, answer);
    fprintf(out, "not ready: no answer from %s: %s\n", text_quote(address), reason(error));
    return EXIT_CRASH;
}
