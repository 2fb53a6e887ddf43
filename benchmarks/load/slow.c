/* slow.c: many clients that send or read one byte a second, the company normal clients have to
 * stand.
 *
 * Owns: the sockets and their turns, spread evenly over each second. Half of the clients send a
 * request that never becomes whole, half ask for PATH and read its response a byte at a time. Who
 * is disconnected comes back in its next turn. Says one word on a line: with "burst", "ready" when
 * all are connected, and the readers ask in the second that follows; with "steady", "ready" when
 * every reader has the beginning of its answer and every sender has begun, or "late" when that has
 * taken STEADY_S. Never measures; talks to 127.0.0.1 only; ends after SECONDS, or with its standard
 * input. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define RECEIVE_BUFFER 4096 /* so that the server's side is what fills */
#define STEADY_S       6    /* twice as long as it takes a server that answers */

struct client {
    int fd; /* -1: not connected */
    unsigned sent;
    bool begun; /* a reader has a byte of its answer; a sender has sent one */
};

static struct sockaddr_in address = {.sin_family = AF_INET};
static char reader_head[512];
static const char sender_head[] = "GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ";

static void come(struct client *c, bool reads)
{
    int size = RECEIVE_BUFFER;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    c->sent = 0;
    c->begun = false;
    if (c->fd < 0) {
        perror("slow: socket");
        exit(1);
    }
    if (reads)
        setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    if (connect(c->fd, (struct sockaddr *)&address, sizeof(address)) < 0 && errno != EINPROGRESS) {
        close(c->fd);
        c->fd = -1;
    }
}

/* One byte, or the whole request of a reader. False: the connection is lost. */
static bool take_turn(struct client *c, bool reads)
{
    char byte = c->sent < sizeof(sender_head) - 1 ? sender_head[c->sent] : 'a';
    bool asks = reads && c->sent == 0;
    ssize_t n = reads && !asks ? recv(c->fd, &byte, 1, 0)
                : asks         ? send(c->fd, reader_head, strlen(reader_head), MSG_NOSIGNAL)
                               : send(c->fd, &byte, 1, MSG_NOSIGNAL);
    if (n > 0) {
        c->sent++;
        c->begun = !asks;
    }
    if (n > 0 || (n < 0 && (errno == EAGAIN || errno == ENOTCONN)))
        return reads || recv(c->fd, &byte, 1, MSG_PEEK) < 0; /* an answer ends a sender */
    return false;
}

/* What there is to say at the end of a round, or NULL. */
static const char *word_after(int round, bool steady, const struct client *clients, unsigned count)
{
    bool ready = true;
    for (unsigned i = 0; i < count; i++)
        ready &= clients[i].fd >= 0 && (clients[i].begun || !steady);
    if (ready)
        return "ready";
    return round + 1 == STEADY_S || !steady ? "late" : NULL;
}

int main(int argc, char **argv)
{
    bool steady = argc == 6 && strcmp(argv[5], "steady") == 0;
    bool burst = argc == 6 && strcmp(argv[5], "burst") == 0;
    if (!(steady || burst) || strncmp(argv[1], "127.0.0.1:", 10) != 0) {
        fprintf(stderr, "usage: slow 127.0.0.1:PORT CLIENTS SECONDS PATH burst|steady\n");
        return 2;
    }
    unsigned count = (unsigned)atoi(argv[2]), lost = 0;
    struct client *clients = calloc(count, sizeof(*clients));
    address.sin_port = htons((uint16_t)atoi(argv[1] + 10));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    snprintf(reader_head, sizeof(reader_head), "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n",
             argv[4]);
    for (unsigned i = 0; i < count; i++)
        clients[i].fd = -1;
    const char *word = NULL;
    struct pollfd parent = {.fd = STDIN_FILENO, .events = POLLIN};
    for (int round = 0; round < atoi(argv[3]); round++) {
        for (unsigned i = 0; i < count; i++) {
            struct client *c = &clients[i];
            if (c->fd < 0) {
                come(c, i % 2);
            } else if (!take_turn(c, i % 2)) {
                close(c->fd);
                c->fd = -1;
                lost++;
            }
            if (i % 10 == 9 && poll(&parent, 1, (int)(10000 / count)) > 0)
                goto end;
        }
        if (!word && (word = word_after(round, steady, clients, count)))
            puts(word);
        fflush(stdout);
    }
end:
    printf("{\"clients\": %u, \"lost\": %u}\n", count, lost);
    return 0;
}
