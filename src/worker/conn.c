/* conn.c: one connection, on the loop's side of its life.
 *
 * Owns: the socket, the watchers, and an exchange while part of a request is there. Ends requests,
 * sends what a slow client has not taken yet, lingers, closes. Reading is intake.c's.
 * Running a request is answer.c's, whose thread gives the connection back. Runs on the leader,
 * except conn_end_request, conn_give_back and conn_spare_descriptors. */
#include "conn.h"
#include "base/log.h"
#include "config/settings.h"
#include "leads.h"
#include "record.h"
#include "shared/board.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINGER_MS        5000
/* Files of bodies may use a quarter of the descriptors at most, and so may spilled answers: slow
 * clients alone must not keep new ones out. */
#define FILES_SHARE      4
/* Of the descriptors that fds_for_clients keeps back, this many may be used for files that are sent
 * to clients and for connections that siblings give. */
#define SPARE_ABOVE_ROOM 16

/* ---- states, queues and watchers ---- */

static bool is_transferring(enum conn_state state)
{
    return state == CONN_READING || state == CONN_WRITING;
}

static struct conn_queue *list_of(const struct conn *c)
{
    return is_transferring(c->state) ? &c->table->transferring : &c->table->evictable;
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

/* Inserts behind the connections that have waited since `until_ns` or longer. */
static void insert(struct conn *c, struct conn_queue *queue, uint64_t until_ns)
{
    assert(!c->queue);
    c->queue = queue;
    struct conn *before = TAILQ_LAST(queue, conn_queue);
    while (before && before->waits_since_ns > until_ns)
        before = TAILQ_PREV(before, conn_queue, link);
    if (before)
        TAILQ_INSERT_AFTER(queue, before, c, link);
    else
        TAILQ_INSERT_HEAD(queue, c, link);
    c->table->waiting++;
}

/* Behind those that wait as long or longer. One that another worker gave may have waited longer
 * than the last ones of the queue. */
static void enqueue(struct conn *c, struct conn_queue *queue)
{
    if (!c->waits_since_ns) {
        c->waits_since_ns = now_ns();
        c->after_newcomers = c->table->newcomers;
    }
    insert(c, queue, c->waits_since_ns);
}

/* libev calls back for the latest of what epoll has reported first: so each goes before those of
 * the same look. */
static void enqueue_seen(struct conn *c)
{
    struct conn_table *table = c->table;
    if (!table->seen_ns)
        table->seen_ns = now_ns();
    c->waits_since_ns = table->seen_ns;
    c->after_newcomers = table->newcomers;
    insert(c, &table->readable, table->seen_ns - 1);
}

void conn_dequeue(struct conn *c)
{
    assert_leads();
    if (!c->queue)
        return;
    TAILQ_REMOVE(c->queue, c, link);
    c->table->waiting--;
    c->queue = NULL;
}

void conn_queue_readable(struct conn *c)
{
    if (!c->queue)
        enqueue(c, &c->table->readable);
}

void conn_unwatch(struct conn *c)
{
    assert_leads();
    ev_io_stop(c->table->loop, &c->reader);
    c->unwatched = true;
}

void conn_watch(struct conn *c)
{
    assert_leads();
    if (!c->unwatched)
        return;
    c->unwatched = false;
    ev_io_start(c->table->loop, &c->reader);
}

/* Watches again, and queues the connection to be read at once, because bytes that came meanwhile
 * were not reported. */
static void rewatch(struct conn *c)
{
    if (!c->unwatched)
        return;
    conn_watch(c);
    conn_queue_readable(c);
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
        enqueue_seen(c);
}

uint64_t conn_deadline(uint64_t limit_ms)
{
    return limit_ms ? now_ms() + limit_ms : UINT64_MAX;
}

/* ---- life ---- */

static void on_writable(struct ev_loop *loop, ev_io *watcher, int events);

void conn_set_peer(struct conn *c, const struct sockaddr *peer)
{
    const void *address = NULL;
    int family = peer ? peer->sa_family : AF_UNSPEC;
    c->origin.peer_port = 0;
    c->origin.peer_trusted = !peer || forwarded_trusts(&c->table->serving->trust, peer);
    snprintf(c->origin.peer, sizeof(c->origin.peer),
             "127.0.0.1"); /* a unix socket has no address; REMOTE_ADDR is never empty */
    if (family == AF_INET) {
        const struct sockaddr_in *in = (const void *)peer;
        address = &in->sin_addr;
        c->origin.peer_port = ntohs(in->sin_port);
    } else if (family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)peer;
        address = &in6->sin6_addr;
        c->origin.peer_port = ntohs(in6->sin6_port);
        if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) { /* an IPv4 client of a socket for both */
            family = AF_INET;
            address = &in6->sin6_addr.s6_addr[12];
        }
    }
    if (address && !inet_ntop(family, address, c->origin.peer, sizeof(c->origin.peer)))
        c->origin.peer[0] = '\0';
}

static struct conn *conn_new(struct conn_table *table, int fd, uint64_t waits_since_ns,
                             uint64_t after_newcomers)
{
    struct conn *c = xcalloc(1, sizeof(*c));
    c->table = table;
    c->fd = fd;
    c->waits_since_ns = waits_since_ns;
    c->after_newcomers = after_newcomers;
    c->state = CONN_IDLE;
    c->deadline_ms = conn_deadline(table->serving->config->header_timeout_ms);
    ev_io_init(&c->reader, on_readable, fd, EV_READ);
    ev_io_init(&c->writer, on_writable, fd, EV_WRITE);
    c->reader.data = c->writer.data = c;
    TAILQ_INSERT_TAIL(list_of(c), c, all);
    table->count++;
    atomic_store_explicit(&table->serving->board->connections, table->count, memory_order_relaxed);
    ev_io_start(table->loop, &c->reader);
    enqueue(c, &table->readable);
    return c;
}

struct conn *conn_open(struct conn_table *table, int fd, unsigned listener, bool is_uwsgi,
                       const struct sockaddr *peer)
{
    struct conn *c = conn_new(table, fd, 0, 0);
    assert_leads();
    c->origin.listener = listener;
    c->origin.is_tcp = peer != NULL;
    c->origin.is_uwsgi = is_uwsgi;
    conn_set_peer(c, peer);
    c->origin.proxy_due =
        c->origin.peer_trusted && !is_uwsgi && table->serving->config->proxy_protocol != 0;
    return c;
}

void conn_adopt(struct conn_table *table, int fd, const struct conn_origin *origin,
                uint64_t waits_since_ns, uint64_t after_newcomers)
{
    assert_leads();
    if (!conn_make_room(table))
        log_debug("more than %u connections, one was given by another worker", table->limit);
    struct conn *c = conn_new(table, fd, waits_since_ns, after_newcomers);
    c->origin = *origin;
    /* The client expects the time that idle connections have. */
    if (!origin->proxy_due &&
        table->serving->config->keep_alive_ms > table->serving->config->header_timeout_ms)
        c->deadline_ms = conn_deadline(table->serving->config->keep_alive_ms);
}

static void drop_exchange(struct conn *c)
{
    struct conn_table *table = c->table;
    if (!c->exchange)
        return;
    held_end(&table->held, &table->exchanges, c->exchange);
    exchange_drop(&table->exchanges, c->exchange);
    c->exchange = NULL;
}

void conn_close(struct conn *c, const char *why)
{
    struct conn_table *table = c->table;
    assert_leads();
    assert(atomic_load(&c->owner) == CONN_LOOP);
    if (log_enabled(LOG_DEBUG))
        log_debug("connection from %s closed: %s", c->origin.peer, why);
    drop_exchange(c);
    conn_dequeue(c);
    ev_io_stop(table->loop, &c->reader);
    ev_io_stop(table->loop, &c->writer);
    if (c->taken) /* so that a thread of the application that still reads its copy sees the end */
        (void)shutdown(c->fd, SHUT_RDWR);
    close(c->fd);
    TAILQ_REMOVE(list_of(c), c, all);
    table->count--;
    atomic_store_explicit(&table->serving->board->connections, table->count, memory_order_relaxed);
    free(c);
    exchange_note_freed(&table->exchanges, 1);
}

void conn_put_exchange(struct conn *c)
{
    if (c->exchange)
        exchange_put(&c->table->exchanges, c->exchange);
    c->exchange = NULL;
}

static void become_idle(struct conn *c)
{
    conn_put_exchange(c);
    conn_set_state(c, CONN_IDLE);
    c->deadline_ms = conn_deadline(c->table->serving->config->keep_alive_ms);
}

/* RFC 9112 9.6: closing a socket with unread bytes resets the connection, and the client may lose
 * the answer. So shut the sending side and discard what the client sends for a while. */
void conn_linger(struct conn *c)
{
    assert_leads();
    (void)shutdown(c->fd, SHUT_WR);
    drop_exchange(c);
    conn_set_state(c, CONN_LINGERING);
    c->deadline_ms = conn_deadline(LINGER_MS);
    rewatch(c);
}

/* ---- the end of a request ---- */

enum conn_next conn_end_request(struct conn *c)
{
    struct conn_table *table = c->table;
    struct exchange *e = c->exchange;
    bool answered = e->instead != 0;
    bool keep = e->response.keep_alive && !e->aborted;
    bool torn = e->aborted && e->response.framing == RESPONSE_TO_CLOSE;
    bool refused = e->end && !e->aborted; /* the rest of its body may still be arriving */
    c->requests++;
    record_answer(table->serving, e, c->origin.peer, c->state == CONN_WRITING);
    held_end(&table->held, &table->exchanges, e);
    exchange_reset(&table->exchanges, e);
    if (c->taken)
        return CONN_NEXT_LINGER;
    if (answered)
        return CONN_NEXT_CLOSE;
    if (keep)
        return e->request.in.len > 0 ? CONN_NEXT_INPUT : CONN_NEXT_IDLE;
    if (torn)
        return CONN_NEXT_RESET;
    return refused || e->request.in.len > 0 ? CONN_NEXT_LINGER : CONN_NEXT_CLOSE;
}

bool conn_has_unread(const struct conn *c)
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

void conn_give_time_to_take(struct conn *c)
{
    c->untaken = output_untaken(c->fd);
    c->deadline_ms = conn_deadline(c->table->serving->config->send_timeout_ms);
}

void conn_write(struct conn *c)
{
    assert_leads();
    conn_set_state(c, CONN_WRITING);
    conn_give_time_to_take(c);
    held_begin(&c->table->held, c->exchange);
    c->writing_ms = now_ms();
    c->writing_total = c->exchange->output.total_bytes;
    c->writing_untaken = c->untaken;
    ev_io_start(c->table->loop, &c->writer);
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
        conn_queue_readable(c);
        break;
    case CONN_NEXT_WRITE:
        conn_write(c);
        break;
    case CONN_NEXT_LINGER:
        conn_linger(c);
        break;
    case CONN_NEXT_CLOSE:
        if (conn_has_unread(c))
            conn_linger(c);
        else
            conn_close(c, "request answered");
        break;
    case CONN_NEXT_RESET:
        reset(c);
        break;
    }
}

void conn_break_off(struct conn *c, const char *why)
{
    assert_leads();
    ev_io_stop(c->table->loop, &c->writer);
    c->exchange->aborted = true;
    if (!c->exchange->end)
        c->exchange->end = why;
    resume(c, conn_end_request(c));
}

void conn_resume(struct conn *c)
{
    assert_leads();
    atomic_store_explicit(&c->owner, CONN_LOOP, memory_order_release);
    resume(c, c->next);
}

bool conn_give_back(struct conn *c, enum conn_next next)
{
    int running = CONN_THREAD;
    c->next = next;
    if (next != CONN_NEXT_IDLE)
        return false;
    /* The usual case: the reader was never stopped, so the leader has nothing to do. */
    become_idle(c);
    return atomic_compare_exchange_strong_explicit(&c->owner, &running, CONN_LOOP,
                                                   memory_order_release, memory_order_acquire);
}

/* Half a request, or an answer that the loop sends. */
static bool is_unfinished(const struct conn *c)
{
    return atomic_load_explicit(&c->owner, memory_order_acquire) == CONN_LOOP && c->exchange &&
           !c->origin.proxy_due && !parser_is_idle(c->exchange->parser);
}

void conn_cut(struct conn *c, const char *why)
{
    c->exchange->aborted = true;
    if (!c->exchange->end)
        c->exchange->end = why;
    (void)conn_end_request(c);
}

void conn_record_all(struct conn_table *table, const char *why)
{
    struct conn *c;
    assert_leads();
    TAILQ_FOREACH(c, &table->transferring, all)
    if (is_unfinished(c))
        conn_cut(c, why);
}

/* ---- the loop's own work ---- */

static void on_writable(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)events;
    struct conn *c = watcher->data;
    struct exchange *e = c->exchange;
    uint64_t before = e->output.total_bytes;
    enum output_result result = output_flush(&e->output, c->fd);
    if (result == OUTPUT_BLOCKED) {
        if (e->output.total_bytes > before)
            conn_give_time_to_take(c);
        return;
    }
    ev_io_stop(loop, &c->writer);
    if (result == OUTPUT_GONE)
        exchange_break_off(e);
    resume(c, conn_end_request(c));
}

void conn_park(struct conn *c)
{
    assert_leads();
    conn_dequeue(c);
    if (!c->unwatched)
        conn_unwatch(c);
    enqueue(c, &c->table->parked);
}

void conn_unpark_all(struct conn_table *table)
{
    struct conn *c;
    assert_leads();
    while ((c = TAILQ_FIRST(&table->parked))) {
        conn_dequeue(c);
        enqueue(c, &table->readable);
    }
}

/* The first connection in `state` that no thread or queue has and whose client has sent nothing
 * since. */
static struct conn *find_quiet(struct conn_table *table, enum conn_state state)
{
    struct conn *c;
    TAILQ_FOREACH(c, &table->evictable, all)
    if (atomic_load_explicit(&c->owner, memory_order_acquire) == CONN_LOOP && c->state == state &&
        !c->queue && !c->exchange && !conn_has_unread(c))
        return c;
    return NULL;
}

unsigned conn_count_descriptors(const struct conn_table *table)
{
    return atomic_load_explicit(&table->serving->board->connections, memory_order_relaxed) +
           atomic_load_explicit(&table->bodies.files, memory_order_relaxed) +
           atomic_load_explicit(&table->exchanges.sent_descriptors, memory_order_relaxed);
}

struct conn *conn_find_idle(struct conn_table *table)
{
    assert_leads();
    return find_quiet(table, CONN_IDLE);
}

bool conn_close_quiet(struct conn_table *table)
{
    struct conn *c = conn_find_idle(table);
    if (!c)
        /* answered, and the client had some time to read */
        c = find_quiet(table, CONN_LINGERING);
    if (c)
        conn_close(c, "made room");
    return c != NULL;
}

bool conn_has_room(const struct conn_table *table)
{
    assert_leads();
    return table->count < table->limit && conn_count_descriptors(table) < table->room;
}

bool conn_make_room(struct conn_table *table)
{
    return conn_has_room(table) || conn_close_quiet(table);
}

bool conn_make_room_for_file(struct conn_table *table)
{
    unsigned files = atomic_load_explicit(&table->bodies.files, memory_order_relaxed);
    assert_leads();
    if (files > table->room / FILES_SHARE)
        return false;
    return conn_count_descriptors(table) <= table->room || conn_close_quiet(table);
}

bool conn_may_unload(const struct conn_table *table)
{
    unsigned files = atomic_load_explicit(&table->bodies.files, memory_order_relaxed);
    return table->serving->limits.tmp_dir && files < table->room / FILES_SHARE &&
           conn_count_descriptors(table) < table->room;
}

unsigned conn_spare_descriptors(const struct conn_table *table)
{
    unsigned used = conn_count_descriptors(table), most = table->room + SPARE_ABOVE_ROOM;
    return used < most ? most - used : 0;
}

bool conn_may_spill(const struct conn_table *table)
{
    unsigned files = atomic_load_explicit(&table->exchanges.spills.files, memory_order_relaxed);
    return files < table->room / FILES_SHARE && conn_spare_descriptors(table) > 0;
}
