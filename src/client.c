/* client.c: whether there still is somebody to answer, and how long he has waited.
 *
 * Owns nothing. Asks the kernel only about requests that may have waited: the first of a
 * connection, which may come from the listening socket's queue, and those that were parked or
 * queued here. Never reads, never closes. */
#include "client.h"
#include "config.h"
#include "conn.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

/* A TCP client that ends his side may still be there to read, as netcat is: so he is only taken
 * for gone after a wait that makes leaving likely. */
#define LEAVES_AFTER_MS        500
/* While his answer is being made; then it makes leaving nearly certain. */
#define LEAVES_ANSWER_AFTER_MS 5000
/* In the queue of whole requests; less is a hand-off between threads. */
#define QUEUED_MS              2

bool client_has_ended(const struct conn *c)
{
    char byte;
    ssize_t got = recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
}

/* A unix socket tells close() from shutdown(); TCP does after a reset. */
static bool is_surely_gone(const struct conn *c)
{
    struct pollfd polled = {.fd = c->fd};
    return poll(&polled, 1, 0) > 0 && (polled.revents & (POLLHUP | POLLERR)) != 0;
}

/* Since the last bytes came from a TCP client, also while the connection was not accepted. False
 * for unix sockets, of which the kernel keeps no time. */
static bool read_silence(const struct conn *c, uint64_t *ms)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);
    if (getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0)
        return false;
    *ms = info.tcpi_last_data_recv;
    return true;
}

bool client_is_gone(const struct conn *c)
{
    uint64_t silent_ms;
    if (!client_has_ended(c))
        return false;
    return is_surely_gone(c) ||
           (read_silence(c, &silent_ms) && silent_ms >= LEAVES_ANSWER_AFTER_MS);
}

static uint64_t since_ms(uint64_t then_ns, uint64_t now)
{
    return then_ns && then_ns < now ? (now - then_ns) / NS_PER_MS : 0;
}

static uint64_t longest(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

enum client_verdict client_judge(struct conn *c)
{
    uint64_t limit_ms = c->shared->config->queue_timeout_ms, now = now_ns(), silent_ms = 0;
    uint64_t queued_ms = since_ms(c->exchange->parsed_ns, now);
    uint64_t waited_ms = longest(queued_ms, since_ms(c->parked_ns, c->exchange->accepted_ns));
    bool may_have_waited = c->requests == 0 || c->parked_ns || queued_ms >= QUEUED_MS;
    c->parked_ns = 0;
    if (!may_have_waited)
        return CLIENT_WAITS;
    bool ended = client_has_ended(c);
    if (ended && is_surely_gone(c))
        return CLIENT_GONE;
    bool is_tcp = (ended || limit_ms) && read_silence(c, &silent_ms);
    waited_ms = longest(waited_ms, silent_ms);
    if (ended && is_tcp && waited_ms >= LEAVES_AFTER_MS)
        return CLIENT_GONE;
    return limit_ms && waited_ms >= limit_ms ? CLIENT_LATE : CLIENT_WAITS;
}
