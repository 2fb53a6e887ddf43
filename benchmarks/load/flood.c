/* flood.c: bad clients of one kind, many at once, at a small cost of their own.
 *
 * Owns: the connections and their turns. All turns of a kind are spread over its period, a step
 * every STEP_MS: in its turn a connection is made, or sends what its kind sends, or leaves. Who
 * was closed by the server comes back in its next turn. Never takes what it is sent, never
 * measures; talks to 127.0.0.1 only; says "ready" when each has had a turn; ends with its
 * standard input. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define STEP_MS        10
#define RECEIVE_BUFFER 4096 /* so that the server's side is what fills */
#define REPEATED_BYTES 8192

/* What a connection does in its turns after the first. */
enum turn { HOLDS, SENDS, LEAVES, RESETS };

struct kind {
    const char *name;
    unsigned count;
    unsigned period_ms; /* between two turns of a connection */
    enum turn turn;
    bool shuts; /* says that it sends no more as soon as it has begun */
    bool quits; /* leaves when it is answered: it was refused, and another takes its place */
    const char *start;
    const char *more; /* of SENDS */
    unsigned times;   /* `more` is sent so often in one turn */
};

#define GET     "GET /fast HTTP/1.1\r\nHost: a\r\n\r\n"
#define POST    "POST /upload HTTP/1.1\r\nHost: a\r\n"
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"
#define LENGTH  POST "Content-Length: 1000000\r\n\r\n"
#define TEN(x)  x x x x x x x x x x

static const struct kind kinds[] = {
    {"silent", 2000, 1000, HOLDS, false, false, "", "", 0},
    {"slow-heads", 2000, 1000, SENDS, false, true, "GET / HTTP/1.1\r\nHost: a\r\nX: ", "x", 1},
    {"slow-bodies", 2000, 1000, SENDS, false, true, LENGTH TEN(TEN("0123456789")), TEN("x"), 1},
    {"deaf", 50, 1000, HOLDS, false, false, "GET /big HTTP/1.1\r\nHost: a\r\n\r\n", "", 0},
    {"half-closed", 10, 40, LEAVES, true, false, "GET / HT", "", 0},
    {"half-closed-silent", 10, 40, LEAVES, true, false, "", "", 0},
    {"resets", 50, 40, RESETS, false, false, "GET", "", 0},
    {"pipelining", 5, 20, SENDS, false, false, "", GET, 20},
    {"header-floods", 20, 20, SENDS, false, true, "GET / HTTP/1.1\r\n", "a: b\r\n", 300},
    {"chunk-extensions", 20, 20, SENDS, false, true, CHUNKED, "1;" TEN(TEN(TEN("xx"))) "\r\nx\r\n",
     1},
    {"nonsense", 20, 20, SENDS, false, true, "", "\1\r\n\r\n", 1},
};

static struct sockaddr_in address = {.sin_family = AF_INET};
static char repeated[REPEATED_BYTES]; /* `more`, `times` times */
static size_t repeated_len;

static void leave(int *fd, bool reset)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    if (reset)
        setsockopt(*fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(*fd);
    *fd = -1;
}

static void come(const struct kind *kind, int *fd)
{
    int size = RECEIVE_BUFFER;
    size_t len = strlen(kind->start);
    *fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (*fd < 0) {
        perror("flood: socket");
        exit(1);
    }
    setsockopt(*fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    if ((connect(*fd, (struct sockaddr *)&address, sizeof(address)) < 0 && errno != EINPROGRESS) ||
        (len > 0 && send(*fd, kind->start, len, MSG_NOSIGNAL) < 0))
        leave(fd, false);
    else if (kind->shuts)
        shutdown(*fd, SHUT_WR);
}

static bool is_answered(int fd)
{
    char byte;
    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0;
}

/* Returns how many bytes were sent. */
static size_t take_turn(const struct kind *kind, int *fd)
{
    ssize_t sent = 0;
    if (*fd >= 0 && kind->quits && is_answered(*fd))
        leave(fd, false);
    if (*fd < 0) {
        come(kind, fd);
        return 0;
    }
    switch (kind->turn) {
    case HOLDS:
        break;
    case SENDS:
        sent = send(*fd, repeated, repeated_len, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN)
            leave(fd, false);
        break;
    case LEAVES:
    case RESETS:
        leave(fd, kind->turn == RESETS);
        come(kind, fd);
        break;
    }
    return sent > 0 ? (size_t)sent : 0;
}

static void flood(const struct kind *kind)
{
    int *fds = malloc(kind->count * sizeof(*fds));
    struct pollfd parent = {.fd = STDIN_FILENO, .events = POLLIN};
    unsigned steps = kind->period_ms / STEP_MS;
    unsigned long long bytes = 0, turns = 0;
    for (unsigned i = 0; i < kind->count; i++)
        fds[i] = -1;
    for (unsigned step = 0; poll(&parent, 1, STEP_MS) == 0; step++) {
        for (unsigned i = step % steps; i < kind->count; i += steps) {
            bytes += take_turn(kind, &fds[i]);
            turns++;
        }
        if (step + 1 == steps && puts("ready") >= 0)
            fflush(stdout);
    }
    printf("{\"turns\": %llu, \"bytes\": %llu}\n", turns, bytes);
    free(fds);
}

static const struct kind *find_kind(const char *name)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    return NULL;
}

int main(int argc, char **argv)
{
    const struct kind *kind = argc == 3 ? find_kind(argv[2]) : NULL;
    struct rlimit files;
    if (!kind || strncmp(argv[1], "127.0.0.1:", 10) != 0) {
        fprintf(stderr, "usage: flood 127.0.0.1:PORT KIND\n");
        for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
            puts(kinds[i].name);
        return 2;
    }
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    address.sin_port = htons((uint16_t)atoi(argv[1] + 10));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (unsigned i = 0; i < kind->times; i++) {
        memcpy(repeated + repeated_len, kind->more, strlen(kind->more));
        repeated_len += strlen(kind->more);
    }
    flood(kind);
    return 0;
}
