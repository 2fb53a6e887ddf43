/* conn.c: one connection, on the loop's side of its life.
 *
 * Owns: the socket, the watchers, and an exchange while there is something of a request. Reads,
 * parses, refuses, times out, flushes what a client is slow to take, lingers, closes. Never runs
 * Python: a whole request goes to a thread (answer.c), which gives the connection back. Runs on
 * the thread that leads the loop, except conn_end_request and conn_give_back. */
#include "conn.h"
#include "board.h"
#include "config.h"
#include "log.h"
#include "pool.h"
#include "proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINGER_MS        5000
#define DRAIN_IDLE_MS    1000
#define READ_ROUNDS      16 /* reads in a row before others get a turn */

/* A body must come at this rate, on average over body-timeout: a bad line does, who only holds
 * a connection does not. */
#define BODY_BYTES_PER_S 500
/* More than a worker has in use at once but in a flood, whose memory is given back. */
#define EXCHANGES_KEPT   64
#define FLOOD_CONNS      256

/* --- exchanges ------------------------------------------------------------------------------ */

static struct exchange *exchange_take(struct conn_shared *shared)
{
    pthread_mutex_lock(&shared->free_lock);
    struct exchange *e = shared->free_exchanges;
    if (e) {
        shared->free_exchanges = e->next_free;
        shared->free_count--;
    }
    pthread_mutex_unlock(&shared->free_lock);
    if (e)
        return e;
    e = xcalloc(1, sizeof(*e));
    http_init(&e->http, &shared->limits);
    output_init(&e->output);
    return e;
}

static void exchange_free(struct conn_shared *shared, struct exchange *e)
{
    if (e->call.start_response)
        pool_discard(shared->pool, e->call.start_response);
    if (e->call.writer)
        pool_discard(shared->pool, e->call.writer);
    http_fini(&e->http);
    response_fini(&e->response);
    output_fini(&e->output);
    free(e);
}

/* Last-in first-out, so that few of them are warm in the cache and used by all. */
static void exchange_put(struct conn *c)
{
    struct conn_shared *shared = c->shared;
    struct exchange *e = c->exchange;
    c->exchange = NULL;
    pthread_mutex_lock(&shared->free_lock);
    bool keep = shared->free_count < EXCHANGES_KEPT;
    if (keep) {
        e->next_free = shared->free_exchanges;
        shared->free_exchanges = e;
        shared->free_count++;
    } else {
        shared->given_back++;
    }
    pthread_mutex_unlock(&shared->free_lock);
    if (!keep)
        exchange_free(shared, e);
}

/* Forgets the request; what is pipelined behind it stays. */
static void exchange_reset(struct conn *c)
{
    struct exchange *e = c->exchange;
    if (e->tail_object)
        pool_discard(c->shared->pool, e->tail_object);
    e->tail_object = NULL;
    http_reset(&e->http);
    response_reset(&e->response);
    output_reset(&e->output);
    e->resolved = e->continued = e->aborted = e->answered = e->paced = false;
    e->end = NULL;
    e->accepted_ns = e->parsed_ns = e->started_ns = e->first_byte_ns = 0;
}

static void exchange_drop(struct conn *c)
{
    if (!c->exchange)
        return;
    exchange_reset(c);
    buf_reset(&c->exchange->http.in); /* pipelined bytes that nobody will answer */
    http_reset(&c->exchange->http);   /* and their memory */
    exchange_put(c);
}

/* --- queues and watchers -------------------------------------------------------------------- */

static void enqueue(struct conn *c, struct conn_queue *queue)
{
    assert(!c->queue);
    c->queue = queue;
    TAILQ_INSERT_TAIL(queue, c, link);
}

static void dequeue(struct conn *c)
{
    if (c->queue)
        TAILQ_REMOVE(c->queue, c, link);
    c->queue = NULL;
}

static void unwatch(struct conn *c)
{
    ev_io_stop(c->shared->loop, &c->reader);
    c->unwatched = true;
}

/* Watches again, and looks at once: what came meanwhile was not reported. */
static void rewatch(struct conn *c)
{
    if (!c->unwatched)
        return;
    c->unwatched = false;
    ev_io_start(c->shared->loop, &c->reader);
    if (!c->queue)
        enqueue(c, &c->shared->readable);
}

static void on_readable(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)loop;
    (void)events;
    struct conn *c = watcher->data;
    int running = CONN_THREAD;
    if (atomic_load_explicit(&c->owner, memory_order_acquire) != CONN_LOOP &&
        atomic_compare_exchange_strong(&c->owner, &running, CONN_NOTED)) {
        unwatch(c);
        return;
    }
    if (c->state == CONN_WRITING)
        unwatch(c); /* the next request waits until this one's answer is taken */
    else if (!c->queue)
        enqueue(c, &c->shared->readable);
}

static uint64_t deadline(uint64_t limit_ms)
{
    return limit_ms ? now_ms() + limit_ms : UINT64_MAX;
}

/* --- life ----------------------------------------------------------------------------------- */

static void on_writable(struct ev_loop *loop, ev_io *watcher, int events);

static void set_peer(struct conn *c, const struct sockaddr *peer)
{
    const void *address = NULL;
    c->origin.peer_trusted = !peer || forwarded_trusts(&c->shared->trust, peer);
    snprintf(c->origin.peer, sizeof(c->origin.peer),
             "127.0.0.1"); /* unix sockets: never empty (features §2) */
    if (peer && peer->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)peer;
        address = &in->sin_addr;
        c->origin.peer_port = ntohs(in->sin_port);
    } else if (peer && peer->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)peer;
        address = &in6->sin6_addr;
        c->origin.peer_port = ntohs(in6->sin6_port);
    }
    if (address && !inet_ntop(peer->sa_family, address, c->origin.peer, sizeof(c->origin.peer)))
        c->origin.peer[0] = '\0';
}

static struct conn *conn_new(struct conn_shared *shared, int fd)
{
    struct conn *c = xcalloc(1, sizeof(*c));
    c->shared = shared;
    c->fd = fd;
    c->state = CONN_IDLE;
    c->deadline_ms = deadline(shared->config->header_timeout_ms);
    ev_io_init(&c->reader, on_readable, fd, EV_READ);
    ev_io_init(&c->writer, on_writable, fd, EV_WRITE);
    c->reader.data = c->writer.data = c;
    TAILQ_INSERT_TAIL(&shared->all, c, all);
    shared->count++;
    atomic_store_explicit(&shared->board->connections, shared->count, memory_order_relaxed);
    ev_io_start(shared->loop, &c->reader);
    enqueue(c, &shared->readable);
    return c;
}

void conn_open(struct conn_shared *shared, int fd, unsigned listener, const struct sockaddr *peer)
{
    struct conn *c = conn_new(shared, fd);
    int on = 1;
    c->origin.listener = listener;
    set_peer(c, peer);
    c->origin.proxy_due = c->origin.peer_trusted && shared->config->proxy_protocol != 0;
    if (peer)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

void conn_adopt(struct conn_shared *shared, int fd, const struct conn_origin *origin)
{
    if (!conn_make_room(shared))
        log_debug("more than %u connections, one was given by another worker", shared->limit);
    struct conn *c = conn_new(shared, fd);
    c->origin = *origin;
    /* Its client counts on the time that idle connections have. */
    if (!origin->proxy_due && shared->config->keep_alive_ms > shared->config->header_timeout_ms)
        c->deadline_ms = deadline(shared->config->keep_alive_ms);
}

void conn_close(struct conn *c, const char *why)
{
    struct conn_shared *shared = c->shared;
    assert(atomic_load(&c->owner) == CONN_LOOP);
    if (log_enabled(LOG_DEBUG))
        log_debug("connection from %s closed: %s", c->origin.peer, why);
    exchange_drop(c);
    dequeue(c);
    ev_io_stop(shared->loop, &c->reader);
    ev_io_stop(shared->loop, &c->writer);
    close(c->fd);
    TAILQ_REMOVE(&shared->all, c, all);
    shared->count--;
    atomic_store_explicit(&shared->board->connections, shared->count, memory_order_relaxed);
    free(c);
    pthread_mutex_lock(&shared->free_lock);
    shared->given_back++;
    pthread_mutex_unlock(&shared->free_lock);
}

static void become_idle(struct conn *c)
{
    if (c->exchange)
        exchange_put(c);
    c->state = CONN_IDLE;
    c->deadline_ms = deadline(c->shared->config->keep_alive_ms);
}

/* RFC 9112 9.6: closing with unread bytes resets the connection, and the client may lose the
 * answer; so shut our side and discard theirs for a while. */
static void linger(struct conn *c)
{
    (void)shutdown(c->fd, SHUT_WR);
    exchange_drop(c);
    c->state = CONN_LINGERING;
    c->deadline_ms = deadline(LINGER_MS);
    rewatch(c);
}

/* --- the end of a request ------------------------------------------------------------------- */

static bool was_answered(const struct exchange *e)
{
    return e->response.head_finished && e->output.total_bytes > 0;
}

static void log_access(struct conn *c, const struct response *response, const char *end)
{
    struct conn_shared *shared = c->shared;
    struct exchange *e = c->exchange;
    struct buf line = {0};
    struct access_entry entry = {
        .client = e->resolved ? e->client : c->origin.peer,
        .request = &e->http,
        .response = response,
        .status = response ? response->status : 499,
        .body_bytes = response ? response->body_bytes : 0,
        .start = e->start_time,
        .duration_ns = now_ns() - e->accepted_ns,
        .worker = shared->worker,
        .end = end,
    };
    access_line(shared->access, &entry, &line);
    log_access_line(line.data, line.len);
    buf_fini(&line);
}

/* Counts and logs a request; without a response its client had gone. */
static void record(struct conn *c, const struct response *response, const char *end)
{
    struct board_worker *board = c->shared->board;
    unsigned class = response ? response->status / 100 : 0;
    assert(class < BOARD_RESPONSE_CLASSES);
    atomic_fetch_add_explicit(&board->responses[class], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&board->requests, 1, memory_order_relaxed);
    if (c->shared->access)
        log_access(c, response, end);
}

void conn_answer_for(struct conn *c, unsigned status, const char *why)
{
    struct exchange *e = c->exchange;
    struct response response = {0}; /* the exchange's is the thread's */
    struct response_facts facts = {
        .is_head = e->http.is_head, .version_minor = 1, .keep_alive = false, .known_bytes = -1};
    response_error(&response, status, &facts);
    if (send(c->fd, response.head.data, response.head.len, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
        atomic_fetch_add_explicit(&c->shared->board->sent_bytes, response.head.len,
                                  memory_order_relaxed);
    (void)shutdown(c->fd, SHUT_WR);
    e->answered = true;
    record(c, &response, why);
    response_fini(&response);
}

enum conn_next conn_end_request(struct conn *c)
{
    struct exchange *e = c->exchange;
    struct board_worker *board = c->shared->board;
    bool answered = e->answered;
    bool keep = e->response.keep_alive && !e->aborted;
    bool torn = e->aborted && e->response.framing == RESPONSE_TO_CLOSE;
    c->requests++;
    atomic_fetch_add_explicit(&board->sent_bytes, e->output.total_bytes, memory_order_relaxed);
    if (!answered)
        record(c, was_answered(e) ? &e->response : NULL, e->end);
    exchange_reset(c);
    if (answered)
        return CONN_NEXT_CLOSE;
    if (keep)
        return e->http.in.len > 0 ? CONN_NEXT_INPUT : CONN_NEXT_IDLE;
    if (torn)
        return CONN_NEXT_RESET;
    return e->http.in.len > 0 ? CONN_NEXT_LINGER : CONN_NEXT_CLOSE;
}

static bool has_unread(const struct conn *c)
{
    int bytes = 0;
    return ioctl(c->fd, FIONREAD, &bytes) == 0 && bytes > 0;
}

/* Discards what the kernel still has and tells the client (socket(7), SO_LINGER). */
static void reset(struct conn *c)
{
    struct linger none = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
    conn_close(c, "answer torn");
}

static void resume(struct conn *c, enum conn_next next)
{
    switch (next) {
    case CONN_NEXT_IDLE:
        become_idle(c);
        rewatch(c);
        break;
    case CONN_NEXT_INPUT:
        c->state = CONN_IDLE;
        c->has_input = true;
        rewatch(c);
        if (!c->queue)
            enqueue(c, &c->shared->readable);
        break;
    case CONN_NEXT_WRITE:
        c->state = CONN_WRITING;
        c->deadline_ms = deadline(c->shared->config->send_timeout_ms);
        ev_io_start(c->shared->loop, &c->writer);
        break;
    case CONN_NEXT_LINGER:
        linger(c);
        break;
    case CONN_NEXT_CLOSE:
        if (has_unread(c))
            linger(c);
        else
            conn_close(c, "request answered");
        break;
    case CONN_NEXT_RESET:
        reset(c);
        break;
    }
}

void conn_resume(struct conn *c)
{
    atomic_store_explicit(&c->owner, CONN_LOOP, memory_order_release);
    resume(c, c->next);
}

void conn_give_back(struct conn *c, enum conn_next next)
{
    int running = CONN_THREAD;
    c->next = next;
    if (next == CONN_NEXT_IDLE) {
        /* The common end: nothing for the leader to do, the reader is still being watched. */
        become_idle(c);
        if (atomic_compare_exchange_strong_explicit(&c->owner, &running, CONN_LOOP,
                                                    memory_order_release, memory_order_acquire))
            return;
    }
    if (next == CONN_NEXT_CLOSE)
        (void)shutdown(c->fd, SHUT_WR); /* the client need not wait for the leader */
    pool_return(c->shared->pool, c);
}

/* --- requests ------------------------------------------------------------------------------- */

/* The server's own answer, whole; then the end of the connection, gently: what was not read may be
 * a body on its way. */
static void answer_error(struct conn *c, unsigned status)
{
    struct exchange *e = c->exchange;
    struct response_facts facts = {
        .is_head = e->http.is_head, .version_minor = 1, .keep_alive = false, .known_bytes = -1};
    response_error(&e->response, status, &facts);
    struct iovec page = {e->response.head.data, e->response.head.len};
    e->first_byte_ns = now_ns();
    if (output_send(&e->output, c->fd, &page, 1) == OUTPUT_GONE)
        e->aborted = true;
    conn_end_request(c);
    linger(c);
}

static void refuse(struct conn *c, unsigned status, const char *reason)
{
    struct exchange *e = c->exchange;
    e->end = reason;
    if (e->http.body.error)
        log_error("%s: %s in %s", reason, strerror(e->http.body.error), c->shared->config->tmp_dir);
    log_info("refused a request from %s: %u %s", e->resolved ? e->client : c->origin.peer, status,
             reason);
    answer_error(c, status);
}

/* Who the client is and how it came, by the words of trusted proxies. */
static bool resolve(struct conn *c)
{
    struct exchange *e = c->exchange;
    struct forwarded_view view;
    if (!forwarded_resolve(&c->shared->trust, c->origin.peer_trusted, c->origin.peer, &e->http,
                           &view)) {
        refuse(c, 400, "proxy headers disagree on the scheme");
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

/* The application lives below script-name: other paths are not its. */
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
    c->state = CONN_RUNNING;
    c->deadline_ms = UINT64_MAX;
    atomic_store_explicit(&c->owner, CONN_THREAD, memory_order_release);
    return CONN_RUNS;
}

/* RFC 9110 10.1.1: sent when the body will be read; all limits have been checked by then. */
static void send_continue(struct conn *c)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    c->exchange->continued = true;
    /* No room for 25 bytes, or only for some of them: nothing can follow those. */
    if (send(c->fd, text, sizeof(text) - 1, MSG_NOSIGNAL) != (ssize_t)sizeof(text) - 1)
        (void)shutdown(c->fd, SHUT_RDWR);
}

/* A body that drips, a byte at a time, does not win time by each byte. */
static void pace_body(struct conn *c)
{
    struct exchange *e = c->exchange;
    uint64_t limit_ms = c->shared->config->body_timeout_ms;
    uint64_t wanted = limit_ms * BODY_BYTES_PER_S / 1000;
    if (e->paced && e->http.body.length - e->paced_bytes < wanted)
        return;
    e->paced = true;
    e->paced_bytes = e->http.body.length;
    c->deadline_ms = deadline(limit_ms);
}

static void await_more(struct conn *c)
{
    struct exchange *e = c->exchange;
    if (http_is_idle(&e->http) && e->http.in.len == 0) {
        exchange_put(c);
        c->state = CONN_IDLE;
        return;
    }
    if (http_in_body(&e->http)) {
        pace_body(c);
        if (e->http.expects_continue && !e->continued && e->http.body.length == 0)
            send_continue(c);
    } else if (c->state == CONN_IDLE) {
        c->deadline_ms = deadline(c->shared->config->header_timeout_ms); /* for the whole head */
    }
    c->state = CONN_READING;
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
        refuse(c, c->exchange->http.refusal_status, c->exchange->http.refusal_reason);
        return CONN_WAITS;
    }
    assert(!"an http_result");
    return CONN_WAITS;
}

/* The client sends no more. Half a request is nobody's; its line in the access log is. */
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

static void discard(struct conn *c)
{
    char bytes[16 * 1024];
    ssize_t got = read(c->fd, bytes, sizeof(bytes));
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
        conn_close(c, "lingered");
}

static void stamp_first_byte(struct conn *c)
{
    struct exchange *e = c->exchange;
    e->accepted_ns = now_ns();
    if (c->shared->access)
        clock_gettime(CLOCK_REALTIME, &e->start_time);
}

/* What comes before the first request of a connection from a balancer. */
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
        log_info("closed a connection from %s: no PROXY header", c->origin.peer);
        conn_close(c, "no PROXY header");
        return CONN_GONE;
    case PROXY_DONE:
        break;
    }
    c->origin.proxy_due = false;
    if (header.has_client)
        set_peer(c, &header.client.any); /* trusted to speak of others only if it is a proxy */
    buf_consume(in, header.bytes);
    if (in->len > 0)
        stamp_first_byte(c);
    return on_result(c, http_feed(&c->exchange->http, 0));
}

/* One read; *more says that another may bring something. */
static enum conn_step read_once(struct conn *c, bool *more)
{
    struct exchange *e = c->exchange;
    size_t room;
    char *at = http_room(&e->http, &room);
    ssize_t got = read(c->fd, at, room);
    *more = got == (ssize_t)room;
    if (got > 0 && c->origin.proxy_due)
        return read_proxy_header(c, (size_t)got);
    if (got > 0) {
        if (!e->accepted_ns)
            stamp_first_byte(c);
        return on_result(c, http_feed(&e->http, (size_t)got));
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        await_more(c);
        return CONN_WAITS;
    }
    on_end(c, "client closed");
    return CONN_GONE;
}

enum conn_step conn_read(struct conn *c)
{
    dequeue(c);
    if (c->state == CONN_LINGERING) {
        discard(c);
        return CONN_WAITS;
    }
    if (c->state == CONN_WRITING) {
        unwatch(c);
        return CONN_WAITS;
    }
    if (!c->exchange)
        c->exchange = exchange_take(c->shared);
    if (c->has_input) {
        c->has_input = false;
        stamp_first_byte(c); /* pipelined: it is here already */
        return on_result(c, http_feed(&c->exchange->http, 0));
    }
    bool more = true;
    enum conn_step step = CONN_WAITS;
    for (unsigned i = 0; i < READ_ROUNDS && more; i++) {
        step = read_once(c, &more);
        if (step != CONN_WAITS || c->state != CONN_READING)
            return step;
    }
    return step; /* if there is more, epoll says so after the others had their turn */
}

/* --- the loop's own work -------------------------------------------------------------------- */

static void on_writable(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)events;
    struct conn *c = watcher->data;
    struct exchange *e = c->exchange;
    uint64_t before = e->output.total_bytes;
    enum output_result result = output_flush(&e->output, c->fd);
    if (result == OUTPUT_BLOCKED) {
        if (e->output.total_bytes > before)
            c->deadline_ms = deadline(c->shared->config->send_timeout_ms);
        return;
    }
    ev_io_stop(loop, &c->writer);
    if (result == OUTPUT_GONE) {
        e->aborted = true;
        e->end = "client closed";
    }
    resume(c, conn_end_request(c));
}

void conn_park(struct conn *c)
{
    dequeue(c);
    if (!c->unwatched)
        unwatch(c);
    enqueue(c, &c->shared->parked);
    if (!c->parked_ns)
        c->parked_ns = now_ns();
}

void conn_unpark_all(struct conn_shared *shared)
{
    struct conn *c;
    while ((c = TAILQ_FIRST(&shared->parked))) {
        dequeue(c);
        rewatch(c);
    }
}

/* The first of a state that nobody uses and whose client has sent nothing since. */
static struct conn *find_quiet(struct conn_shared *shared, enum conn_state state)
{
    struct conn *c;
    TAILQ_FOREACH(c, &shared->all, all)
    if (atomic_load_explicit(&c->owner, memory_order_acquire) == CONN_LOOP && c->state == state &&
        !c->queue && !c->exchange && !has_unread(c))
        return c;
    return NULL;
}

bool conn_make_room(struct conn_shared *shared)
{
    if (shared->count < shared->limit)
        return true;
    struct conn *c = find_quiet(shared, CONN_IDLE);
    if (!c)
        c = find_quiet(shared, CONN_LINGERING); /* answered, and the client had a moment */
    if (c)
        conn_close(c, "made room");
    return c != NULL;
}

/* A connection whose deadline has passed. Where bytes are there, we are late and not the client
 * (this process was stopped, or short of CPU): they are read first. */
static void expire(struct conn *c)
{
    if ((c->state == CONN_IDLE || c->state == CONN_READING) && has_unread(c))
        return;
    switch (c->state) {
    case CONN_IDLE:
        conn_close(c, "idle");
        break;
    case CONN_READING:
        if (c->origin.proxy_due || http_is_idle(&c->exchange->http))
            conn_close(c, "nothing of a request came");
        else
            refuse(c, 408, http_in_body(&c->exchange->http) ? "body timeout" : "header timeout");
        break;
    case CONN_WRITING:
        ev_io_stop(c->shared->loop, &c->writer);
        c->exchange->aborted = true;
        c->exchange->end = "send timeout";
        resume(c, conn_end_request(c));
        break;
    case CONN_LINGERING:
        conn_close(c, "lingered");
        break;
    case CONN_RUNNING:
        break;
    }
}

/* When a flood is over. malloc keeps what was freed below anything that is still in use: 5,000
 * half heads left 50 MB behind. */
static void trim_memory(struct conn_shared *shared)
{
    pthread_mutex_lock(&shared->free_lock);
    bool over =
        shared->given_back >= FLOOD_CONNS && shared->given_back == shared->given_back_before;
    if (over)
        shared->given_back = 0;
    shared->given_back_before = shared->given_back;
    pthread_mutex_unlock(&shared->free_lock);
    if (over)
        malloc_trim(0);
}

void conn_expire_all(struct conn_shared *shared, uint64_t now)
{
    struct conn *c, *next;
    for (c = TAILQ_FIRST(&shared->all); c; c = next) {
        next = TAILQ_NEXT(c, all);
        if (c->queue || atomic_load_explicit(&c->owner, memory_order_acquire) != CONN_LOOP)
            continue;
        if (shared->draining && c->state == CONN_IDLE && c->deadline_ms > now + DRAIN_IDLE_MS)
            c->deadline_ms = now + DRAIN_IDLE_MS;
        if (c->deadline_ms <= now)
            expire(c);
    }
    trim_memory(shared);
}
