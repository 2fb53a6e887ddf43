/* intake.c: from a readable socket to a request that may run.
 *
 * Owns: the pipe for large bodies, and the order of the handlers. Reads, parses, finds out who the
 * client is, refuses, sends 100 Continue, then chooses who answers. Never waits, never runs Python:
 * a request for the application is left to the thread that reads it. Runs on the leader. */
#include "intake.h"
#include "base/fds.h"
#include "base/log.h"
#include "config/settings.h"
#include "files.h"
#include "http/proxy.h"
#include "leads.h"
#include "reply.h"
#include "roots.h"
#include "shared/board.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_ROUNDS       16 /* reads from one connection before the others have their turn */
/* Bytes of a large body moved at once, instead of many reads. A pipe of an unprivileged user may
 * hold this much (pipe(7)). */
#define SPLICE_BYTES      (1024u * 1024)
/* For less than this, one read and one write are as fast. */
#define SPLICE_BYTES_MIN  (64u * 1024)

/* Of a body that misses so much, the kernel is asked to keep what comes until it is all there: then
 * the application reads it from the kernel. Otherwise it would be copied twice, and once through
 * memory that is in no cache. */
#define AWAITED_BYTES_MIN (64u * 1024)
/* A client that takes longer is slow. */
#define AWAITED_MS        200

/* A body must arrive at this rate, on average over body-timeout. That is slow enough for a bad
 * line, and too fast for a client that only wants to hold a connection. */
#define BODY_BYTES_PER_S  500

/* Of a request whose answer needs no thread, the method and the path are in the first bytes. */
#define PEEK_BYTES        4096

/* The pipe through which large bodies go to their files; empty between uses; -1: not open. Leader.
 */
static int pipe_in = -1, pipe_out = -1;

/* Sends an error page of the server, then lets the connection linger, because the part of the
 * request that was not read may still be arriving. */
static void answer_error(struct conn *c, unsigned status)
{
    reply_make_error(c, status, false);
    switch (reply_send_error(c)) {
    case OUTPUT_BLOCKED: /* the client has not taken the answer before this one yet */
        conn_write(c);
        return;
    case OUTPUT_GONE:
        c->exchange->aborted = true;
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
    const struct request *h = &e->request;
    const char *client = e->resolved ? e->client : c->origin.peer;
    if (request_has_line(h))
        log_client(LOG_INFO, "refused a request from %s: %u %s, %.*s %.*s", client, status, reason,
                   shown(h->method, BOARD_METHOD_MAX), request_at(h, h->method),
                   shown(h->path, BOARD_PATH_MAX), request_at(h, h->path));
    else
        log_client(LOG_INFO, "refused a request from %s: %u %s", client, status, reason);
}

static const char *file_advice(int error)
{
    return error == EFBIG ? "; raise the limit of file sizes (ulimit -f, LimitFSIZE)"
                          : fds_advice(error);
}

void intake_refuse(struct conn *c, unsigned status, const char *reason)
{
    struct exchange *e = c->exchange;
    e->end = reason;
    if (e->request.body.error) {
        log_client(LOG_ERROR, "%s: %s in %s%s", reason, strerror(e->request.body.error),
                   e->request.body.tmp_dir ? e->request.body.tmp_dir
                                           : "memory, and tmp-dir names no directory",
                   file_advice(e->request.body.error));
        exchange_shed_files(&c->table->exchanges);
    }
    log_refusal(c, status, reason);
    answer_error(c, status);
}

/* In a uwsgi packet the proxy says who its client is, as in a PROXY header; that one may itself be
 * a trusted proxy. Headers of a client that is none are its own. False: malformed. */
static bool take_client(struct conn *c)
{
    struct sockaddr_in6 client;
    if (!forwarded_peer(&c->exchange->request, &client))
        return false;
    if (client.sin6_family == AF_UNSPEC)
        c->origin.peer_trusted = false;
    else
        conn_set_peer(c, client.sin6_family == AF_UNIX ? NULL : (struct sockaddr *)&client);
    /* "*" is about who connects: the proxy sends headers of its clients on. */
    if (client.sin6_family != AF_UNIX && c->table->serving->trust.everyone)
        c->origin.peer_trusted = false;
    return true;
}

/* Finds out the client's address and the scheme, from the headers of trusted proxies. False:
 * refused. */
static bool resolve(struct conn *c)
{
    struct exchange *e = c->exchange;
    struct forwarded_view view;
    bool vouched = e->request.is_uwsgi && c->origin.peer_trusted;
    if (vouched && !take_client(c)) {
        intake_refuse(c, 400, "malformed REMOTE_ADDR or REMOTE_PORT");
        return false;
    }
    if (!forwarded_resolve(&c->table->serving->trust, c->origin.peer_trusted, c->origin.peer,
                           &e->request, &view)) {
        intake_refuse(c, 400, "proxy headers disagree on the scheme");
        return false;
    }
    memcpy(e->client, view.client, sizeof(e->client));
    e->facts = (struct environ_facts){
        .request = &e->request,
        .listener = c->origin.listener,
        .client = e->client,
        .client_port = view.from_header ? 0 : c->origin.peer_port,
        .peer = c->origin.peer,
        .https = view.says_scheme ? view.https : vouched && e->request.says_https,
        .trusted = c->origin.peer_trusted,
        .vouched = vouched,
    };
    e->resolved = true;
    return true;
}

/* ---- who answers ---- */

static bool is_mounted(const struct serving *serving)
{
    return serving->config->script_name && serving->config->script_name[0];
}

/* The application is mounted at script-name. */
static bool application_takes(const struct serving *serving, struct text method, struct text path)
{
    const char *prefix = serving->config->script_name;
    (void)method;
    if (!is_mounted(serving))
        return true;
    size_t len = strlen(prefix);
    return path.len >= len && memcmp(path.data, prefix, len) == 0 &&
           (path.len == len || path.data[len] == '/');
}

static enum conn_step application_start(struct conn *c, struct text path)
{
    (void)path;
    conn_set_state(c, CONN_RUNNING);
    c->deadline_ms = UINT64_MAX;
    /* parking stopped the reader: the leader must start it again */
    int owner = c->unwatched ? CONN_NOTED : CONN_THREAD;
    atomic_store_explicit(&c->owner, owner, memory_order_release);
    return CONN_RUNS;
}

static const struct handler application_handler = {
    .needs_thread = true, .takes = application_takes, .start = application_start};

static enum conn_step server_start(struct conn *c, struct text path)
{
    (void)path;
    answer_error(c, 404);
    return CONN_WAITS;
}

/* For all that nobody else takes. */
static const struct handler server_handler = {.start = server_start};

static const struct handler *route(const struct serving *serving, struct text method,
                                   struct text path)
{
    static const struct handler *const handlers[] = {&files_handler, &application_handler};
    for (size_t i = 0; i < ARRAY_LEN(handlers); i++)
        if (handlers[i]->takes(serving, method, path))
            return handlers[i];
    return &server_handler;
}

static enum conn_step start_request(struct conn *c)
{
    struct exchange *e = c->exchange;
    const struct serving *serving = c->table->serving;
    const struct request *request = &e->request;
    e->parsed_ns = now_ns();
    if (!resolve(c))
        return CONN_WAITS;
    if (LIKELY(!roots_any() && !is_mounted(serving)))
        return application_start(c, (struct text){0});
    char *decoded = xmalloc(request->path.length + 1);
    struct text path = {
        decoded, request_decode(request_at(request, request->path), request->path.length, decoded)};
    enum conn_step step =
        route(serving, request_piece(request, request->method), path)->start(c, path);
    free(decoded);
    return step;
}

/* Cuts the next word off what a client has sent. */
static struct text cut_word(struct text *line)
{
    size_t len = 0;
    while (len < line->len && (unsigned char)line->data[len] > ' ')
        len++;
    struct text word = {line->data, len};
    if (len < line->len)
        len++;
    *line = (struct text){line->data + len, line->len - len};
    return word;
}

/* The bytes that wait to be parsed, on the socket or here. Without data: there are none. */
static struct text peek(const struct conn *c, char room[PEEK_BYTES])
{
    if (c->has_input)
        return (struct text){c->exchange->request.in.data, c->exchange->request.in.len};
    ssize_t got = recv(c->fd, room, PEEK_BYTES, MSG_PEEK | MSG_DONTWAIT);
    return got > 0 ? (struct text){room, (size_t)got} : (struct text){0};
}

/* Cuts off the PROXY header that must come first; all, as long as it is not whole. */
static void cut_proxy_header(const struct conn *c, struct text *bytes)
{
    struct proxy_header header;
    unsigned versions = c->table->serving->config->proxy_protocol;
    size_t len = bytes->len;
    if (!c->origin.proxy_due)
        return;
    if (proxy_parse(versions, bytes->data, bytes->len, &header) == PROXY_DONE)
        len = header.bytes;
    *bytes = (struct text){bytes->data + len, bytes->len - len};
}

bool intake_needs_thread(struct conn *c)
{
    char room[PEEK_BYTES], decoded[PEEK_BYTES];
    if (!roots_any())
        return true;
    struct text line = peek(c, room);
    if (!line.data)
        return false; /* a unix socket is accepted before its client sends: it goes on waiting */
    if (c->origin.is_uwsgi)
        return true; /* a packet must be read whole before it is known */
    cut_proxy_header(c, &line);
    while (line.len > 0 && (line.data[0] == '\r' || line.data[0] == '\n'))
        line = (struct text){line.data + 1, line.len - 1};
    struct text method = cut_word(&line), target = cut_word(&line);
    const char *query = target.len ? memchr(target.data, '?', target.len) : NULL;
    size_t len = query ? (size_t)(query - target.data) : target.len;
    if (len == 0 || len > sizeof(decoded))
        return true;
    struct text path = {decoded, request_decode(target.data, len, decoded)};
    return route(c->table->serving, method, path)->needs_thread;
}

/* ---- reading ---- */

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
    uint64_t limit_ms = c->table->serving->config->body_timeout_ms;
    uint64_t wanted = limit_ms * BODY_BYTES_PER_S / 1000;
    if (e->paced && e->request.body.length - e->paced_bytes < wanted)
        return;
    e->paced = true;
    e->paced_bytes = e->request.body.length;
    c->deadline_ms = conn_deadline(limit_ms);
}

static void await_more(struct conn *c)
{
    struct exchange *e = c->exchange;
    conn_watch(c);
    if (parser_is_idle(e->parser) && e->request.in.len == 0) {
        conn_put_exchange(c);
        conn_set_state(c, CONN_IDLE);
        c->waits_since_ns = 0; /* it was queued, but no request had come */
        return;
    }
    if (parser_in_body(e->parser)) {
        pace_body(c);
        if (e->request.expects_continue && !e->continued && e->request.body.length == 0)
            send_continue(c);
    } else if (c->state == CONN_IDLE) {
        c->deadline_ms =
            conn_deadline(c->table->serving->config->header_timeout_ms); /* for the whole head */
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
        intake_refuse(c, c->exchange->request.refusal_status, c->exchange->request.refusal_reason);
        return CONN_WAITS;
    }
    assert(!"an http_result");
    return CONN_WAITS;
}

/* When the body goes on to a file and no descriptor is left for it, refuses the request: the file
 * would use a descriptor that is kept back for the application. */
static enum conn_step feed(struct conn *c, size_t got)
{
    struct exchange *e = c->exchange;
    bool was_in_memory = e->request.body.fd < 0;
    enum http_result result = parser_feed(e->parser, got);
    if (was_in_memory && e->request.body.fd >= 0 && !conn_make_room_for_file(c->table)) {
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
    if (e && !c->origin.proxy_due && !parser_is_idle(e->parser)) {
        e->aborted = true;
        e->end = why;
        conn_end_request(c);
    }
    conn_close(c, why);
}

static enum conn_step discard(struct conn *c)
{
    char bytes[16 * 1024];
    ssize_t got = recv(c->fd, bytes, sizeof(bytes), MSG_DONTWAIT); /* see answer.c, on_take */
    if (got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR)))
        return CONN_WAITS;
    conn_close(c, "lingered");
    return CONN_GONE;
}

static void stamp_first_byte(struct conn *c)
{
    struct exchange *e = c->exchange;
    e->accepted_ns = now_ns();
    if (c->table->serving->access)
        clock_gettime(CLOCK_REALTIME, &e->start_time);
}

/* The PROXY header, which comes before the first request on a connection from a balancer. */
static enum conn_step read_proxy_header(struct conn *c, size_t got)
{
    struct buf *in = &c->exchange->request.in;
    struct proxy_header header;
    in->len += got;
    switch (proxy_parse(c->table->serving->config->proxy_protocol, in->data, in->len, &header)) {
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

void intake_close_pipe(void)
{
    close_end(&pipe_in);
    close_end(&pipe_out);
}

void intake_shed_pipe(const struct conn_table *table)
{
    if (atomic_load_explicit(&table->bodies.files, memory_order_relaxed) == 0)
        intake_close_pipe();
}

/* False: no descriptors are left. F_SETPIPE_SZ may fail when the pipes of the user have too much
 * memory together; the pipe then takes less at once. */
static bool open_pipe(void)
{
    int ends[2];
    if (pipe_in >= 0)
        return true;
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return false;
    pipe_out = fds_spare(ends[0]);
    pipe_in = fds_spare(ends[1]);
    if (pipe_out < 0 || pipe_in < 0) {
        intake_close_pipe();
        return false;
    }
    (void)fcntl(pipe_in, F_SETPIPE_SZ, SPLICE_BYTES);
    return true;
}

/* Moves up to `room` bytes of the body that have arrived from the socket to its file, without a
 * copy through this process. */
static enum conn_step splice_once(struct conn *c, uint64_t room)
{
    size_t most = room < SPLICE_BYTES ? (size_t)room : SPLICE_BYTES;
    ssize_t got = splice(c->fd, NULL, pipe_in, NULL, most, SPLICE_F_NONBLOCK);
    if (got <= 0)
        return on_nothing(c, got);
    enum http_result result = parser_splice(c->exchange->parser, pipe_out, (size_t)got);
    if (result == HTTP_REFUSED)
        intake_close_pipe(); /* drops the bytes that are still in the pipe */
    return on_result(c, result);
}

static ssize_t take_from_socket(int socket, char *out, size_t len)
{
    ssize_t n;
    do
        n = recv(socket, out, len, MSG_DONTWAIT | (out ? 0 : MSG_TRUNC)); /* discards, with TCP */
    while (n < 0 && errno == EINTR);
    return n;
}

/* The socket is reported as readable when it has so many bytes, or as many as the kernel takes. */
static bool set_least(const struct conn *c, size_t bytes)
{
    int least = bytes < INT_MAX ? (int)bytes : INT_MAX;
    return setsockopt(c->fd, SOL_SOCKET, SO_RCVLOWAT, &least, sizeof(least)) == 0;
}

static size_t arrived_bytes(const struct conn *c)
{
    int bytes = 0;
    return ioctl(c->fd, FIONREAD, &bytes) == 0 && bytes > 0 ? (size_t)bytes : 0;
}

static void end_wait(struct conn *c)
{
    struct exchange *e = c->exchange;
    body_want(&e->request.body);
    if (e->awaits_ms != 0)
        (void)set_least(c, 1);
    e->awaits_ms = 0;
}

/* True: nothing is to be read until all has come, or more than the kernel takes. */
static bool begin_wait(struct conn *c, uint64_t missing)
{
    struct exchange *e = c->exchange;
    if (e->is_slow || e->awaits_ms != 0 || !set_least(c, missing))
        return false;
    e->awaits_ms = now_ms();
    await_more(c);
    return true;
}

/* Leaves the rest of a body where it is. False: it has to be read. The queue of a unix socket is
 * short, and nothing in it can be discarded. */
static bool leave_in_kernel(struct conn *c, enum conn_step *step)
{
    struct exchange *e = c->exchange;
    uint64_t missing = parser_missing(e->parser);
    bool is_new = e->awaits_ms == 0;
    *step = CONN_WAITS;
    if (is_new && (missing < AWAITED_BYTES_MIN || !c->origin.is_tcp || e->arrived > 0 ||
                   !body_await(&e->request.body, missing)))
        return false;
    size_t arrived = arrived_bytes(c);
    if (arrived < missing && begin_wait(c, missing))
        return true;
    end_wait(c);
    if (arrived < missing) {
        e->arrived = arrived;
        return false;
    }
    *step = on_result(c, parser_leave(e->parser, take_from_socket, c->fd));
    return true;
}

void intake_end_wait(struct conn *c, uint64_t now)
{
    struct exchange *e = c->exchange;
    if (e->awaits_ms == 0 || now < e->awaits_ms + AWAITED_MS)
        return;
    e->is_slow = true;
    end_wait(c);
    conn_queue_readable(c);
}

/* Reads once. *more: the read filled the buffer, so another may bring more. */
static enum conn_step read_once(struct conn *c, bool *more)
{
    struct parser *parser = c->exchange->parser;
    const struct request *request = &c->exchange->request;
    uint64_t past = parser_splice_room(parser);
    enum conn_step step;
    *more = false;
    if (leave_in_kernel(c, &step))
        return step;
    if (past >= SPLICE_BYTES_MIN && open_pipe())
        return splice_once(c, past);
    size_t room;
    char *at = parser_room(parser, &room);
    if (!at) {
        intake_refuse(c, request->refusal_status, request->refusal_reason);
        return CONN_WAITS;
    }
    struct exchange *e = c->exchange;
    ssize_t got = recv(c->fd, at, room, 0); /* 30 ns faster than read */
    e->arrived -= got > 0 && (size_t)got < e->arrived ? (size_t)got : e->arrived;
    *more = got == (ssize_t)room;
    return got > 0 ? on_bytes(c, (size_t)got) : on_nothing(c, got);
}

enum conn_step intake_read(struct conn *c)
{
    assert_leads();
    conn_dequeue(c);
    if (c->state == CONN_LINGERING)
        return discard(c);
    if (c->state == CONN_WRITING) {
        conn_unwatch(c);
        return CONN_WAITS;
    }
    if (!c->exchange) {
        c->exchange = exchange_take(&c->table->exchanges);
        parser_expect_uwsgi(c->exchange->parser, c->origin.is_uwsgi);
    }
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
