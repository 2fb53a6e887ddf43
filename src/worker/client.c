/* client.c: whether a client still waits for its answer, and for how long it has waited.
 *
 * Owns nothing. Asks the kernel only about requests that may have waited: the first one of a
 * connection, which may have waited in the queue of the listening socket, and those that were
 * parked or queued in this worker. Never reads, never closes. */
#include "client.h"
#include "config/settings.h"
#include "conn.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

/* A TCP client that shuts its sending side may still read, as netcat does. So it counts as gone
 * only after a wait in which clients usually leave. */
#define LEAVES_AFTER_MS        500
/* The same while its answer is being made; after this time it has almost certainly left. */
#define LEAVES_ANSWER_AFTER_MS 5000
/* A shorter stay in the queue of whole requests is only a hand-off between threads. */
#define QUEUED_MS              2
/* A shorter silence may be nothing but a step of the kernel's clock. */
#define SILENT_MS              10
/* Whoever has waited unread for less is taken for one who still waits. */
#define UNREAD_MS              5

/* Behind what has not been read. */
static bool has_shut(const struct conn *c)
{
    struct pollfd polled = {.fd = c->fd, .events = POLLRDHUP};
    return poll(&polled, 1, 0) > 0;
}

bool client_has_ended(const struct conn *c)
{
    char byte;
    ssize_t got = recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (got > 0)
        return c->exchange->request.body.rest > 0 && has_shut(c);
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
}

/* Whether the kernel knows that the client has closed: on a unix socket close() differs from
 * shutdown(); with TCP only a reset tells. */
static bool is_surely_gone(const struct conn *c)
{
    struct pollfd polled = {.fd = c->fd};
    return poll(&polled, 1, 0) > 0 && (polled.revents & (POLLHUP | POLLERR)) != 0;
}

/* Time since the last bytes came from a TCP client, also before the connection was accepted. False
 * for unix sockets, for which the kernel keeps no such time. */
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

/* For the access log: the request has begun when it began to wait, not when it was read. */
static void begin_at(struct exchange *e, uint64_t begun_ns)
{
    if (begun_ns >= e->accepted_ns)
        return;
    int64_t earlier_ns = (int64_t)(e->accepted_ns - begun_ns);
    int64_t start_ns = e->start_time.tv_sec * (int64_t)NS_PER_S + e->start_time.tv_nsec;
    e->accepted_ns = begun_ns;
    e->waited_ns += (uint64_t)earlier_ns;
    e->start_time.tv_sec = (start_ns - earlier_ns) / (int64_t)NS_PER_S;
    e->start_time.tv_nsec = (start_ns - earlier_ns) % (int64_t)NS_PER_S;
}

void client_note_wait(struct conn *c)
{
    if (c->waits_since_ns && c->waits_since_ns + NS_PER_MS <= c->exchange->accepted_ns)
        begin_at(c->exchange, c->waits_since_ns);
    c->waits_since_ns = 0;
}

enum client_verdict client_judge(struct conn *c)
{
    struct exchange *e = c->exchange;
    uint64_t limit_ms = c->table->serving->config->queue_timeout_ms, now = now_ns(), silent_ms = 0;
    uint64_t queued_ms = since_ms(e->parsed_ns, now);
    uint64_t unread_ms = since_ms(c->waits_since_ns, e->accepted_ns);
    uint64_t waited_ms = longest(queued_ms, unread_ms);
    bool may_have_waited = c->requests == 0 || unread_ms >= UNREAD_MS || queued_ms >= QUEUED_MS;
    client_note_wait(c);
    if (!may_have_waited)
        return CLIENT_WAITS;
    bool ended = client_has_ended(c);
    if (ended && is_surely_gone(c))
        return CLIENT_GONE;
    bool asks = ended || limit_ms || /* or the account has the wait */
                (c->table->serving->ledger && costs_observe(OBSERVED_VIEWS, 0));
    bool is_tcp = asks && read_silence(c, &silent_ms);
    if (silent_ms >= SILENT_MS)
        begin_at(e, now - silent_ms * NS_PER_MS);
    waited_ms = longest(waited_ms, silent_ms);
    if (ended && is_tcp && waited_ms >= LEAVES_AFTER_MS)
        return CLIENT_GONE;
    return limit_ms && waited_ms >= limit_ms ? CLIENT_LATE : CLIENT_WAITS;
}
