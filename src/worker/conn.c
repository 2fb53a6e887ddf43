/* conn.c: one connection, on the loop's side of its life.
 *
 * Owns: the socket, the watchers, and an exchange while part of a request is there. Ends requests,
 * sends what a slow client has not taken yet, times out, lingers, closes. Reading is intake.c's.
 * Running a request is answer.c's, whose thread gives the connection back. Runs on the leader,
 * except conn_end_request, conn_answer_for, conn_give_back and conn_spare_descriptors. */
#include "worker/conn.h"
#include "base/log.h"
#include "config/settings.h"
#include "held.h"
#include "shared/board.h"
#include "worker/intake.h"
#include "worker/pool.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINGER_MS        5000
#define DRAIN_IDLE_MS    1000
/* Files of bodies may use a quarter of the descriptors at most: slow uploads alone must not keep
 * new clients out. */
#define BODY_FILES_SHARE 4
/* Of the descriptors that descriptors.c keeps back, this many may be used for files that are sent
 * to clients and for connections that siblings give. */
#define SPARE_ABOVE_ROOM 16

/* --- states, queues and watchers ------------------------------------------------------------ */

static bool is_transferring(enum conn_state state)
{
    return state == CONN_READING || state == CONN_WRITING;
}

static struct conn_queue *list_of(const struct conn *c)
{
    return is_transferring(c->state) ? &c->shared->transferring : &c->shared->evictable;
}

/* A thread that is not the leader changes the state only within one list, and never touches the
 * lists. */
void conn_set_state(struct conn *c, enum conn_state state)
{
    bool moves = is_transferring(c->state) != is_transferring(state);
    if (moves)
        TAILQ_REMOVE(list_of(c), c, all);
    c->state = state;
    if (moves)
        TAILQ_INSERT_TAIL(list_of(c), c, all);
}

static bool waits_longer(const struct conn *c, const struct conn *other)
{
    return c->parked_ns && (!other->parked_ns || c->parked_ns < other->parked_ns);
}

/* Inserts behind the connections that wait as long or longer. One that another worker gave may have
 * waited longer than the last ones of the queue. */
static void enqueue(struct conn *c, struct conn_queue *queue)
{
    assert(!c->queue);
    c->queue = queue;
    struct conn *before = TAILQ_LAST(queue, conn_queue);
    while (before && waits_longer(c, before))
        before = TAILQ_PREV(before, conn_queue, link);
    if (before)
        TAILQ_INSERT_AFTER(queue, before, c, link);
    else
        TAILQ_INSERT_HEAD(queue, c, link);
    c->shared->waiting++;
}

void conn_dequeue(struct conn *c)
{
    if (!c->queue)
        return;
    TAILQ_REMOVE(c->queue, c, link);
    c->shared->waiting--;
    c->queue = NULL;
}

void conn_unwatch(struct conn *c)
{
    ev_io_stop(c->shared->loop, &c->reader);
    c->unwatched = true;
}

void conn_watch(struct conn *c)
{
    if (!c->unwatched)
        return;
    c->unwatched = false;
    ev_io_start(c->shared->loop, &c->reader);
}

/* Watches again, and queues the connection to be read at once, because bytes that came meanwhile
 * were not reported. */
static void rewatch(struct conn *c)
{
    if (!c->unwatched)
        return;
    conn_watch(c);
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
        conn_unwatch(c);
        return;
    }
    if (c->state == CONN_WRITING)
        conn_unwatch(c); /* the next request waits until the client has taken this answer */
    else if (!c->queue)
        enqueue(c, &c->shared->readable);
}

uint64_t conn_deadline(uint64_t limit_ms)
{
    return limit_ms ? now_ms() + limit_ms : UINT64_MAX;
}

/* --- life ----------------------------------------------------------------------------------- */

static void on_writable(struct ev_loop *loop, ev_io *watcher, int events);

void conn_set_peer(struct conn *c, const struct sockaddr *peer)
{
    const void *address = NULL;
    c->origin.peer_trusted = !peer || forwarded_trusts(&c->shared->trust, peer);
    snprintf(c->origin.peer, sizeof(c->origin.peer),
             "127.0.0.1"); /* a unix socket has no address; REMOTE_ADDR is never empty */
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

static struct conn *conn_new(struct conn_shared *shared, int fd, uint64_t parked_ns)
{
    struct conn *c = xcalloc(1, sizeof(*c));
    c->shared = shared;
    c->fd = fd;
    c->parked_ns = parked_ns;
    c->state = CONN_IDLE;
    c->deadline_ms = conn_deadline(shared->config->header_timeout_ms);
    ev_io_init(&c->reader, on_readable, fd, EV_READ);
    ev_io_init(&c->writer, on_writable, fd, EV_WRITE);
    c->reader.data = c->writer.data = c;
    TAILQ_INSERT_TAIL(list_of(c), c, all);
    shared->count++;
    atomic_store_explicit(&shared->board->connections, shared->count, memory_order_relaxed);
    ev_io_start(shared->loop, &c->reader);
    enqueue(c, &shared->readable);
    return c;
}

void conn_open(struct conn_shared *shared, int fd, unsigned listener, const struct sockaddr *peer)
{
    struct conn *c = conn_new(shared, fd, 0);
    c->origin.listener = listener;
    conn_set_peer(c, peer);
    c->origin.proxy_due = c->origin.peer_trusted && shared->config->proxy_protocol != 0;
}

void conn_adopt(struct conn_shared *shared, int fd, const struct conn_origin *origin,
                uint64_t parked_ns)
{
    if (!conn_make_room(shared))
        log_debug("more than %u connections, one was given by another worker", shared->limit);
    struct conn *c = conn_new(shared, fd, parked_ns);
    c->origin = *origin;
    /* The client expects the time that idle connections have. */
    if (!origin->proxy_due && shared->config->keep_alive_ms > shared->config->header_timeout_ms)
        c->deadline_ms = conn_deadline(shared->config->keep_alive_ms);
}

void conn_close(struct conn *c, const char *why)
{
    struct conn_shared *shared = c->shared;
    assert(atomic_load(&c->owner) == CONN_LOOP);
    if (log_enabled(LOG_DEBUG))
        log_debug("connection from %s closed: %s", c->origin.peer, why);
    exchange_drop(c);
    conn_dequeue(c);
    ev_io_stop(shared->loop, &c->reader);
    ev_io_stop(shared->loop, &c->writer);
    close(c->fd);
    TAILQ_REMOVE(list_of(c), c, all);
    shared->count--;
    atomic_store_explicit(&shared->board->connections, shared->count, memory_order_relaxed);
    free(c);
    exchange_note_freed(shared, 1);
}

static void become_idle(struct conn *c)
{
    if (c->exchange)
        exchange_put(c);
    conn_set_state(c, CONN_IDLE);
    c->deadline_ms = conn_deadline(c->shared->config->keep_alive_ms);
}

/* RFC 9112 9.6: closing a socket with unread bytes resets the connection, and the client may lose
 * the answer. So shut the sending side and discard what the client sends for a while. */
void conn_linger(struct conn *c)
{
    (void)shutdown(c->fd, SHUT_WR);
    exchange_drop(c);
    conn_set_state(c, CONN_LINGERING);
    c->deadline_ms = conn_deadline(LINGER_MS);
    rewatch(c);
}

/* --- the end of a request ------------------------------------------------------------------- */

static bool was_answered(const struct exchange *e)
{
    return e->response.head_finished && e->output.total_bytes > 0;
}

/* The length of the body; of an answer that was broken off, only what the kernel took. */
static uint64_t sent_body_bytes(const struct exchange *e, const struct response *response)
{
    if (response != &e->response) /* conn_answer_for's; the exchange is the thread's meanwhile */
        return response->body_bytes;
    uint64_t total = e->output.total_bytes, head = response->head.len;
    uint64_t sent = total > head ? total - head : 0;
    return e->aborted && sent < response->body_bytes ? sent : response->body_bytes;
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
        .body_bytes = response ? sent_body_bytes(e, response) : 0,
        .start = e->start_time,
        .duration_ns = now_ns() - e->accepted_ns,
        .worker = shared->worker,
        .end = end,
    };
    access_line(shared->access, &entry, &line);
    log_access_line(line.data, line.len);
    buf_fini(&line);
}

/* Counts and logs a request. Without a response: its client was gone. */
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
    struct response response = {0}; /* the one in the exchange belongs to the thread */
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
    bool refused = e->end && !e->aborted; /* the rest of its body may still be arriving */
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
    return refused || e->http.in.len > 0 ? CONN_NEXT_LINGER : CONN_NEXT_CLOSE;
}

static bool has_unread(const struct conn *c)
{
    int bytes = 0;
    return ioctl(c->fd, FIONREAD, &bytes) == 0 && bytes > 0;
}

/* Resets the connection: the kernel discards what it has not sent, and the client sees an error
 * (socket(7), SO_LINGER). */
static void reset(struct conn *c)
{
    struct linger none = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
    conn_close(c, "answer torn");
}

static void give_time_to_take(struct conn *c)
{
    c->untaken = output_untaken(c->fd);
    c->deadline_ms = conn_deadline(c->shared->config->send_timeout_ms);
}

void conn_write(struct conn *c)
{
    conn_set_state(c, CONN_WRITING);
    give_time_to_take(c);
    held_begin(c);
    ev_io_start(c->shared->loop, &c->writer);
}

static void resume(struct conn *c, enum conn_next next)
{
    switch (next) {
    case CONN_NEXT_IDLE:
        become_idle(c);
        conn_watch(c); /* epoll is level-triggered: it reports bytes that came meanwhile */
        break;
    case CONN_NEXT_INPUT:
        conn_set_state(c, CONN_IDLE);
        c->has_input = true;
        rewatch(c);
        if (!c->queue)
            enqueue(c, &c->shared->readable);
        break;
    case CONN_NEXT_WRITE:
        conn_write(c);
        break;
    case CONN_NEXT_LINGER:
        conn_linger(c);
        break;
    case CONN_NEXT_CLOSE:
        if (has_unread(c))
            conn_linger(c);
        else
            conn_close(c, "request answered");
        break;
    case CONN_NEXT_RESET:
        reset(c);
        break;
    }
}

static void break_off(struct conn *c, const char *why)
{
    ev_io_stop(c->shared->loop, &c->writer);
    c->exchange->aborted = true;
    if (!c->exchange->end)
        c->exchange->end = why;
    resume(c, conn_end_request(c));
}

static void break_off_for_others(struct conn *c)
{
    break_off(c, "made room for other answers");
}

void conn_resume(struct conn *c)
{
    struct conn_shared *shared = c->shared;
    atomic_store_explicit(&c->owner, CONN_LOOP, memory_order_release);
    resume(c, c->next);
    held_make_room(shared, break_off_for_others);
}

void conn_give_back(struct conn *c, enum conn_next next)
{
    int running = CONN_THREAD;
    c->next = next;
    if (next == CONN_NEXT_IDLE) {
        /* The usual case: the reader was never stopped, so the leader has nothing to do. */
        become_idle(c);
        if (atomic_compare_exchange_strong_explicit(&c->owner, &running, CONN_LOOP,
                                                    memory_order_release, memory_order_acquire))
            return;
    }
    /* Shut now, so that the client need not wait for the leader to close; but not when this thread
     * is about to lead and close itself: close alone is a twelfth less work than shutdown and
     * close. */
    if (next == CONN_NEXT_CLOSE && !pool_leads_next(c->shared->pool))
        (void)shutdown(c->fd, SHUT_WR);
    pool_return(c->shared->pool, c);
}

/* Half a request, or an answer that the loop sends. */
static bool is_unfinished(const struct conn *c)
{
    return atomic_load_explicit(&c->owner, memory_order_acquire) == CONN_LOOP && c->exchange &&
           !c->origin.proxy_due && !http_is_idle(&c->exchange->http);
}

void conn_cut(struct conn *c, const char *why)
{
    c->exchange->aborted = true;
    if (!c->exchange->end)
        c->exchange->end = why;
    (void)conn_end_request(c);
}

void conn_record_all(struct conn_shared *shared, const char *why)
{
    struct conn *c;
    TAILQ_FOREACH(c, &shared->transferring, all)
    if (is_unfinished(c))
        conn_cut(c, why);
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
            give_time_to_take(c);
        return;
    }
    ev_io_stop(loop, &c->writer);
    if (result == OUTPUT_GONE)
        exchange_break_off(e);
    resume(c, conn_end_request(c));
}

void conn_park(struct conn *c)
{
    conn_dequeue(c);
    if (!c->unwatched)
        conn_unwatch(c);
    if (!c->parked_ns)
        c->parked_ns = now_ns();
    enqueue(c, &c->shared->parked);
}

void conn_unpark_all(struct conn_shared *shared)
{
    struct conn *c;
    while ((c = TAILQ_FIRST(&shared->parked))) {
        conn_dequeue(c);
        enqueue(c, &shared->readable);
    }
}

/* The first connection in `state` that no thread or queue has and whose client has sent nothing
 * since. */
static struct conn *find_quiet(struct conn_shared *shared, enum conn_state state)
{
    struct conn *c;
    TAILQ_FOREACH(c, &shared->evictable, all)
    if (atomic_load_explicit(&c->owner, memory_order_acquire) == CONN_LOOP && c->state == state &&
        !c->queue && !c->exchange && !has_unread(c))
        return c;
    return NULL;
}

static unsigned count_descriptors(const struct conn_shared *shared)
{
    return atomic_load_explicit(&shared->board->connections, memory_order_relaxed) +
           atomic_load_explicit(&shared->bodies.files, memory_order_relaxed) +
           atomic_load_explicit(&shared->sent_files, memory_order_relaxed);
}

static bool close_quiet(struct conn_shared *shared)
{
    struct conn *c = find_quiet(shared, CONN_IDLE);
    if (!c)
        /* answered, and the client had some time to read */
        c = find_quiet(shared, CONN_LINGERING);
    if (c)
        conn_close(c, "made room");
    return c != NULL;
}

bool conn_make_room(struct conn_shared *shared)
{
    return (shared->count < shared->limit && count_descriptors(shared) < shared->room) ||
           close_quiet(shared);
}

bool conn_make_room_for_file(struct conn_shared *shared)
{
    unsigned files = atomic_load_explicit(&shared->bodies.files, memory_order_relaxed);
    if (files > shared->room / BODY_FILES_SHARE)
        return false;
    return count_descriptors(shared) <= shared->room || close_quiet(shared);
}

unsigned conn_spare_descriptors(const struct conn_shared *shared)
{
    unsigned used = count_descriptors(shared), most = shared->room + SPARE_ABOVE_ROOM;
    return used < most ? most - used : 0;
}

/* Ends a connection whose deadline has passed. If bytes are there, this process was late (stopped,
 * or short of CPU), not the client: they are read first. */
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
            intake_refuse(c, 408,
                          http_in_body(&c->exchange->http) ? "body timeout" : "header timeout");
        break;
    case CONN_WRITING:
        if (output_is_taken(c->fd, &c->untaken, c->shared->config->send_timeout_ms))
            give_time_to_take(c);
        else
            break_off(c, "send timeout");
        break;
    case CONN_LINGERING:
        conn_close(c, "lingered");
        break;
    case CONN_RUNNING:
        break;
    }
}

static void expire_list(struct conn_shared *shared, struct conn_queue *list, uint64_t now)
{
    struct conn *c, *next;
    for (c = TAILQ_FIRST(list); c; c = next) {
        next = TAILQ_NEXT(c, all);
        if (c->queue || atomic_load_explicit(&c->owner, memory_order_acquire) != CONN_LOOP)
            continue;
        if (shared->draining && c->state == CONN_IDLE && c->deadline_ms > now + DRAIN_IDLE_MS)
            c->deadline_ms = now + DRAIN_IDLE_MS;
        if (held_is_too_slow(c, now))
            break_off_for_others(c);
        else if (c->deadline_ms <= now)
            expire(c);
    }
}

void conn_expire_all(struct conn_shared *shared, uint64_t now)
{
    held_ask_for_rate(shared, now);
    expire_list(shared, &shared->transferring, now);
    expire_list(shared, &shared->evictable, now);
    while (count_descriptors(shared) > shared->room && close_quiet(shared))
        continue;
    exchange_trim(shared);
}
