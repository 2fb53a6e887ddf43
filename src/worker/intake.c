/* intake.c: from a readable socket to a request that may run.
 *
 * Owns: nothing. Reads, parses, finds out who the client is, refuses, sends 100 Continue. Never
 * waits, never runs Python: a whole request is left to the thread that reads it. Runs on the
 * leader. */
#include "worker/intake.h"
#include "base/log.h"
#include "config/settings.h"
#include "descriptors.h"
#include "http/proxy.h"
#include "shared/board.h"
#include "streams.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_ROUNDS      16 /* reads from one connection before the others have their turn */
/* Bytes of a large body moved at once, instead of many reads. A pipe of an unprivileged user may
 * hold this much (pipe(7)). */
#define SPLICE_BYTES     (1024u * 1024)
/* For less than this, one read and one write are as fast. */
#define SPLICE_BYTES_MIN (64u * 1024)

/* A body must arrive at this rate, on average over body-timeout. That is slow enough for a bad
 * line, and too fast for a client that only wants to hold a connection. */
#define BODY_BYTES_PER_S 500

/* Sends an error page of the server, then lets the connection linger, because the part of the
 * request that was not read may still be arriving. */
static void answer_error(struct conn *c, unsigned status)
{
    struct exchange *e = c->exchange;
    struct response_facts facts = {
        .is_head = e->http.is_head, .version_minor = 1, .keep_alive = false, .known_bytes = -1};
    response_error(&e->response, status, &facts);
    struct iovec page = {e->response.head.data, e->response.head.len};
    e->first_byte_ns = now_ns();
    switch (output_send(&e->output, c->fd, page)) {
    case OUTPUT_BLOCKED: /* the client has not taken the answer before this one yet */
        conn_write(c);
        return;
    case OUTPUT_GONE:
        e->aborted = true;
        break;
    case OUTPUT_DONE:
        break;
    }
    conn_end_request(c);
    conn_linger(c);
}

static int shown(struct http_text text, unsigned most)
{
    return (int)(text.length < most ? text.length : most);
}

/* Method and path hold visible ASCII only. */
static void log_refusal(const struct conn *c, unsigned status, const char *reason)
{
    const struct exchange *e = c->exchange;
    const struct http *h = &e->http;
    const char *client = e->resolved ? e->client : c->origin.peer;
    if (http_has_line(h))
        log_client(LOG_INFO, "refused a request from %s: %u %s, %.*s %.*s", client, status, reason,
                   shown(h->method, BOARD_METHOD_MAX), http_at(h, h->method),
                   shown(h->path, BOARD_PATH_MAX), http_at(h, h->path));
    else
        log_client(LOG_INFO, "refused a request from %s: %u %s", client, status, reason);
}

static const char *file_advice(int error)
{
    return error == EFBIG ? "; raise the limit of file sizes (ulimit -f, LimitFSIZE)"
                          : descriptors_advice(error);
}

void intake_refuse(struct conn *c, unsigned status, const char *reason)
{
    struct exchange *e = c->exchange;
    e->end = reason;
    if (e->http.body.error) {
        log_client(LOG_ERROR, "%s: %s in %s%s", reason, strerror(e->http.body.error),
                   c->shared->config->tmp_dir, file_advice(e->http.body.error));
        exchange_shed_files(c->shared);
    }
    log_refusal(c, status, reason);
    answer_error(c, status);
}

/* Finds out the client's address and the scheme, from the headers of trusted proxies. False:
 * refused. */
static bool resolve(struct conn *c)
{
    struct exchange *e = c->exchange;
    struct forwarded_view view;
    if (!forwarded_resolve(&c->shared->trust, c->origin.peer_trusted, c->origin.peer, &e->http,
                           &view)) {
        intake_refuse(c, 400, "proxy headers disagree on the scheme");
        return false;
    }
    memcpy(e->client, view.client, sizeof(e->client));
    e->facts = (struct environ_facts){
        .request = &e->http,
        .listener = c->origin.listener,
        .client = e->client,
        .client_port = view.from_header ? 0 : c->origin.peer_port,
        .peer = c->origin.peer,
        .https = view.https,
        .trusted = c->origin.peer_trusted,
    };
    e->resolved = true;
    return true;
}

/* The application is mounted at script-name; any other path gets a 404. */
static bool is_below_script_name(const struct conn *c)
{
    const char *prefix = c->shared->config->script_name;
    const struct http *request = &c->exchange->http;
    size_t prefix_len = prefix ? strlen(prefix) : 0;
    if (prefix_len == 0)
        return true;
    char *path = xmalloc(request->path.length + 1);
    size_t len = http_decode(http_at(request, request->path), request->path.length, path);
    bool below = len >= prefix_len && memcmp(path, prefix, prefix_len) == 0 &&
                 (len == prefix_len || path[prefix_len] == '/');
    free(path);
    return below;
}

static enum conn_step start_request(struct conn *c)
{
    struct exchange *e = c->exchange;
    e->parsed_ns = now_ns();
    if (!resolve(c))
        return CONN_WAITS;
    if (!is_below_script_name(c)) {
        answer_error(c, 404);
        return CONN_WAITS;
    }
    conn_set_state(c, CONN_RUNNING);
    c->deadline_ms = UINT64_MAX;
    /* parking stopped the reader: the leader must start it again */
    int owner = c->unwatched ? CONN_NOTED : CONN_THREAD;
    atomic_store_explicit(&c->owner, owner, memory_order_release);
    return CONN_RUNS;
}

/* RFC 9110 10.1.1: sent when the server is about to read the body; all limits have been checked. */
static void send_continue(struct conn *c)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    c->exchange->continued = true;
    /* The socket took none or only some of the 25 bytes: no valid answer can follow. */
    if (send(c->fd, text, sizeof(text) - 1, MSG_NOSIGNAL) != (ssize_t)sizeof(text) - 1)
        (void)shutdown(c->fd, SHUT_RDWR);
}

/* Sets a new deadline only when the body has grown enough since the last one, so that a client that
 * sends single bytes does not get more time for each. */
static void pace_body(struct conn *c)
{
    struct exchange *e = c->exchange;
    uint64_t limit_ms = c->shared->config->body_timeout_ms;
    uint64_t wanted = limit_ms * BODY_BYTES_PER_S / 1000;
    if (e->paced && e->http.body.length - e->paced_bytes < wanted)
        return;
    e->paced = true;
    e->paced_bytes = e->http.body.length;
    c->deadline_ms = conn_deadline(limit_ms);
}

static void await_more(struct conn *c)
{
    struct exchange *e = c->exchange;
    conn_watch(c);
    if (http_is_idle(&e->http) && e->http.in.len == 0) {
        exchange_put(c);
        conn_set_state(c, CONN_IDLE);
        /* conn_adopt queued it as readable, and it was parked, but no request had come */
        c->parked_ns = 0;
        return;
    }
    if (http_in_body(&e->http)) {
        pace_body(c);
        if (e->http.expects_continue && !e->continued && e->http.body.length == 0)
            send_continue(c);
    } else if (c->state == CONN_IDLE) {
        c->deadline_ms =
            conn_deadline(c->shared->config->header_timeout_ms); /* for the whole head */
    }
    conn_set_state(c, CONN_READING);
}

static enum conn_step on_result(struct conn *c, enum http_result result)
{
    switch (result) {
    case HTTP_MORE:
        await_more(c);
        return CONN_WAITS;
    case HTTP_READY:
        return start_request(c);
    case HTTP_REFUSED:
        intake_refuse(c, c->exchange->http.refusal_status, c->exchange->http.refusal_reason);
        return CONN_WAITS;
    }
    assert(!"an http_result");
    return CONN_WAITS;
}

/* When the body goes on to a file and no descriptor is left for it, refuses the request: the file
 * would use a descriptor that is kept back for the application. */
static enum conn_step feed(struct conn *c, size_t got)
{
    struct http *http = &c->exchange->http;
    bool was_in_file = http->body.fd >= 0;
    enum http_result result = http_feed(http, got);
    if (http->body.fd >= 0 && !was_in_file && !conn_make_room_for_file(c->shared)) {
        intake_refuse(c, 503, "no descriptor is left for a body in a file");
        return CONN_WAITS;
    }
    return on_result(c, result);
}

/* The client sends nothing more. Half a request is not run, but it gets its line in the access
 * log. */
static void on_end(struct conn *c, const char *why)
{
    struct exchange *e = c->exchange;
    if (e && !c->origin.proxy_due && !http_is_idle(&e->http)) {
        e->aborted = true;
        e->end = why;
        conn_end_request(c);
    }
    conn_close(c, why);
}

static enum conn_step discard(struct conn *c)
{
    char bytes[16 * 1024];
    ssize_t got = read(c->fd, bytes, sizeof(bytes));
    if (got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR)))
        return CONN_WAITS;
    conn_close(c, "lingered");
    return CONN_GONE;
}

static void stamp_first_byte(struct conn *c)
{
    struct exchange *e = c->exchange;
    e->accepted_ns = now_ns();
    if (c->shared->access)
        clock_gettime(CLOCK_REALTIME, &e->start_time);
}

/* The PROXY header, which comes before the first request on a connection from a balancer. */
static enum conn_step read_proxy_header(struct conn *c, size_t got)
{
    struct buf *in = &c->exchange->http.in;
    struct proxy_header header;
    in->len += got;
    switch (proxy_parse(c->shared->config->proxy_protocol, in->data, in->len, &header)) {
    case PROXY_MORE:
        await_more(c);
        return CONN_WAITS;
    case PROXY_WRONG:
        log_client(LOG_INFO, "closed a connection from %s: no PROXY header", c->origin.peer);
        conn_close(c, "no PROXY header");
        return CONN_GONE;
    case PROXY_DONE:
        break;
    }
    c->origin.proxy_due = false;
    if (header.has_client)
        conn_set_peer(c, &header.client.any); /* this address may itself be a trusted proxy */
    else
        c->origin.peer_trusted = false; /* the balancer does not say who the client is */
    buf_consume(in, header.bytes);
    if (in->len > 0)
        stamp_first_byte(c);
    return feed(c, 0);
}

static enum conn_step on_bytes(struct conn *c, size_t got)
{
    if (c->origin.proxy_due)
        return read_proxy_header(c, got);
    if (!c->exchange->accepted_ns)
        stamp_first_byte(c);
    return feed(c, got);
}

static enum conn_step on_nothing(struct conn *c, ssize_t got)
{
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        await_more(c);
        return CONN_WAITS;
    }
    on_end(c, "client closed");
    return CONN_GONE;
}

static void close_end(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void intake_close_pipe(struct conn_shared *shared)
{
    close_end(&shared->pipe_in);
    close_end(&shared->pipe_out);
}

void intake_shed_pipe(struct conn_shared *shared)
{
    if (atomic_load_explicit(&shared->bodies.files, memory_order_relaxed) == 0)
        intake_close_pipe(shared);
}

/* False: no descriptors are left. F_SETPIPE_SZ may fail when the pipes of the user have too much
 * memory together; the pipe then takes less at once. */
static bool open_pipe(struct conn_shared *shared)
{
    int ends[2];
    if (shared->pipe_in >= 0)
        return true;
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return false;
    shared->pipe_out = streams_spare(ends[0]);
    shared->pipe_in = streams_spare(ends[1]);
    if (shared->pipe_out < 0 || shared->pipe_in < 0) {
        intake_close_pipe(shared);
        return false;
    }
    (void)fcntl(shared->pipe_in, F_SETPIPE_SZ, SPLICE_BYTES);
    return true;
}

/* Moves up to `room` bytes of the body that have arrived from the socket to its file, without a
 * copy through this process. */
static enum conn_step splice_once(struct conn *c, uint64_t room)
{
    struct conn_shared *shared = c->shared;
    size_t most = room < SPLICE_BYTES ? (size_t)room : SPLICE_BYTES;
    ssize_t got = splice(c->fd, NULL, shared->pipe_in, NULL, most, SPLICE_F_NONBLOCK);
    if (got <= 0)
        return on_nothing(c, got);
    enum http_result result = http_splice(&c->exchange->http, shared->pipe_out, (size_t)got);
    if (result == HTTP_REFUSED)
        intake_close_pipe(shared); /* drops the bytes that are still in the pipe */
    return on_result(c, result);
}

/* Reads once. *more: the read filled the buffer, so another may bring more. */
static enum conn_step read_once(struct conn *c, bool *more)
{
    struct http *http = &c->exchange->http;
    uint64_t past = http_splice_room(http);
    *more = false;
    if (past >= SPLICE_BYTES_MIN && open_pipe(c->shared))
        return splice_once(c, past);
    size_t room;
    char *at = http_room(http, &room);
    if (!at) {
        intake_refuse(c, http->refusal_status, http->refusal_reason);
        return CONN_WAITS;
    }
    ssize_t got = recv(c->fd, at, room, 0); /* 30 ns faster than read */
    *more = got == (ssize_t)room;
    return got > 0 ? on_bytes(c, (size_t)got) : on_nothing(c, got);
}

enum conn_step intake_read(struct conn *c)
{
    conn_dequeue(c);
    if (c->state == CONN_LINGERING)
        return discard(c);
    if (c->state == CONN_WRITING) {
        conn_unwatch(c);
        return CONN_WAITS;
    }
    if (!c->exchange)
        c->exchange = exchange_take(c->shared);
    if (c->has_input) {
        c->has_input = false;
        stamp_first_byte(c); /* the next request was pipelined: its first byte is here */
        return feed(c, 0);
    }
    bool more = true;
    enum conn_step step = CONN_WAITS;
    for (unsigned i = 0; i < READ_ROUNDS && more; i++) {
        step = read_once(c, &more);
        if (step != CONN_WAITS || c->state != CONN_READING)
            return step;
    }
    /* if there is more, epoll reports it after the other connections had their turn */
    return step;
}
