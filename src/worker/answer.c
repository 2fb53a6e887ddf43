/* answer.c: a thread's turn with a request.
 *
 * Owns: nothing beyond the turn. Calls the application, decides how each piece of its answer is
 * sent, and sends it before going back to the loop. The GIL is taken once per request: a small send
 * costs less than releasing the GIL around it; big sends and waits release it. The part of a whole
 * answer that a slow client does not take is left to the loop. Only while the application still
 * produces pieces does the thread wait for the client, and only with more than BACKLOG_BYTES
 * unsent. */
#include "worker/answer.h"
#include "base/log.h"
#include "config/settings.h"
#include "python/heap/garbage.h"
#include "python/python.h"
#include "shared/board.h"
#include "system/forks.h"
#include "worker/client.h"
#include "worker/pool.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG_BYTES  (256 * 1024)
#define BIG_SEND_BYTES (64 * 1024)

struct turn {
    struct conn *conn;
    struct exchange *exchange;
    struct pool_thread *thread;
};

static void copy_text(char *out, size_t room, const struct http *request, struct http_text text)
{
    size_t len = text.length < room - 1 ? text.length : room - 1;
    memcpy(out, http_at(request, text), len);
    out[len] = '\0';
}

static void begin(struct turn *turn)
{
    struct exchange *e = turn->exchange;
    struct board_thread *slot = turn->thread->slot;
    e->started_ns = now_ns();
    copy_text(slot->method, sizeof(slot->method), &e->http, e->http.method);
    copy_text(slot->path, sizeof(slot->path), &e->http, e->http.path);
    memcpy(slot->client, e->client, sizeof(slot->client));
    atomic_store_explicit(&slot->accepted_ns, e->accepted_ns, memory_order_relaxed);
    atomic_store_explicit(&slot->parsed_ns, e->parsed_ns, memory_order_relaxed);
    atomic_store_explicit(&slot->first_byte_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->status, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->version_minor, e->http.version_minor, memory_order_relaxed);
    atomic_store_explicit(&slot->recorded, false, memory_order_relaxed);
    atomic_store_explicit(&slot->started_ns, e->started_ns, memory_order_relaxed);
    atomic_store_explicit(&slot->phase, BOARD_RUNNING, memory_order_release);
    uint64_t limit_ns = turn->conn->shared->config->timeout_ms * NS_PER_MS;
    watch_begin(turn->thread, turn->conn, limit_ns ? e->started_ns + limit_ns : 0);
}

static void log_slow(const struct turn *turn)
{
    const struct board_thread *slot = turn->thread->slot;
    uint64_t limit_ms = turn->conn->shared->config->log_slow_ms;
    uint64_t ran_ms = turn->thread->last_run_ns / NS_PER_MS;
    if (limit_ms > 0 && ran_ms >= limit_ms)
        log_warning("slow request: %s %s ran %llu ms, client %s", slot->method, slot->path,
                    (unsigned long long)ran_ms, slot->client);
}

static void end(struct turn *turn)
{
    struct board_thread *slot = turn->thread->slot;
    if (!watch_end(turn->thread))
        turn->exchange->aborted = true;
    uint64_t done_ns = now_ns();
    turn->thread->last_run_ns = done_ns - turn->exchange->started_ns;
    log_slow(turn);
    board_count_latency(slot, done_ns - turn->exchange->parsed_ns);
    atomic_store_explicit(&slot->done_ns, done_ns, memory_order_relaxed);
    atomic_store_explicit(&slot->phase, BOARD_IDLE, memory_order_release);
    atomic_fetch_add_explicit(&slot->requests, 1, memory_order_relaxed);
}

/* A process that the application forked may come back from the request as if it were the worker
 * (sys.exit() raises). The connection, the loop and the locks belong to its parent. */
static void leave_if_copy(const struct turn *turn)
{
    if (!forks_is_copy())
        return;
    log_error(
        "%s %s: a process that the application forked came back from its request and is ended",
        turn->thread->slot->method, turn->thread->slot->path);
    _exit(EXIT_CRASH);
}

static size_t total_bytes(const struct iovec *pieces, unsigned count)
{
    size_t bytes = 0;
    for (unsigned i = 0; i < count; i++)
        bytes += pieces[i].iov_len;
    return bytes;
}

/* Waits until the client takes more. False: it has not, for as long as send-timeout. Interrupted,
 * it waits for the rest of that time only: the application may have a timer that ticks faster. */
static bool wait_for_client(const struct turn *turn)
{
    struct pollfd pollfd = {.fd = turn->conn->fd, .events = POLLOUT};
    uint64_t limit_ms = turn->conn->shared->config->send_timeout_ms;
    uint64_t due_ms = now_ms() + limit_ms;
    unsigned untaken = output_untaken(pollfd.fd);
    int ready;
    do {
        uint64_t now = now_ms();
        int rest_ms = due_ms > now ? (int)(due_ms - now) : 0;
        ready = poll(&pollfd, 1, limit_ms > 0 ? rest_ms : -1);
    } while (ready < 0 && errno == EINTR);
    return ready != 0 || output_is_taken(pollfd.fd, &untaken, limit_ms);
}

/* Sends, without the GIL, to a client that is slower than the application, until half a backlog or
 * less is unsent. */
static enum output_result send_slowly(struct turn *turn, struct iovec **pieces, unsigned *count)
{
    struct exchange *e = turn->exchange;
    enum output_result result = OUTPUT_BLOCKED;
    uint64_t paused = watch_pause(turn->thread);
    while (result == OUTPUT_BLOCKED &&
           output_pending(&e->output) + total_bytes(*pieces, *count) > BACKLOG_BYTES / 2) {
        if (!wait_for_client(turn)) {
            e->end = "send timeout";
            e->aborted = true;
            break;
        }
        result = output_try(&e->output, turn->conn->fd, pieces, count);
    }
    watch_resume(turn->thread, paused);
    return result;
}

/* Sends pieces; false when nothing more can be sent. `last`: they end the answer. Then the unsent
 * end of the last piece is borrowed instead of copied, until the connection drops tail_object. */
static bool send_pieces(struct turn *turn, struct iovec *pieces, unsigned count, bool last)
{
    struct exchange *e = turn->exchange;
    struct python_thread *python = &turn->thread->python;
    leave_if_copy(turn);
    bool released = total_bytes(pieces, count) > BIG_SEND_BYTES;
    size_t last_bytes = pieces[count - 1].iov_len;
    if (released)
        python_release(python);
    enum output_result result = output_try(&e->output, turn->conn->fd, &pieces, &count);
    size_t left = output_pending(&e->output) + total_bytes(pieces, count);
    if (result == OUTPUT_BLOCKED && !last && left > BACKLOG_BYTES) {
        if (!released)
            python_release(python);
        released = true;
        result = send_slowly(turn, &pieces, &count);
    }
    if (result == OUTPUT_BLOCKED && count > 0 && !e->aborted) {
        output_copy(&e->output, pieces, last ? count - 1 : count);
        if (last)
            output_borrow(&e->output, pieces[count - 1], last_bytes);
    }
    if (released)
        python_acquire(python);
    if (result == OUTPUT_GONE)
        exchange_break_off(e);
    return !e->aborted;
}

static struct response_facts facts_of(const struct conn *c, int64_t known_bytes)
{
    const struct http *request = &c->exchange->http;
    return (struct response_facts){
        .is_head = request->is_head,
        .version_minor = request->version_minor,
        .keep_alive = request->keep_alive && c->shared->config->keep_alive_ms > 0 &&
                      !atomic_load_explicit(&c->shared->last_requests, memory_order_relaxed),
        .known_bytes = known_bytes,
    };
}

/* To be asked before the first byte of an answer. False: the watch has answered the request. */
static bool may_answer(struct turn *turn)
{
    if (turn->exchange->call.head_sent || watch_claim(turn->thread))
        return true;
    turn->exchange->aborted = true;
    return false;
}

/* Completes the head and returns its bytes, which must be sent first. */
static struct iovec take_head(struct turn *turn, int64_t known_bytes)
{
    struct exchange *e = turn->exchange;
    if (!e->response.head_finished) {
        struct response_facts facts = facts_of(turn->conn, known_bytes);
        response_finish_head(&e->response, &facts);
    }
    e->call.head_sent = true;
    e->first_byte_ns = now_ns();
    atomic_store_explicit(&turn->thread->slot->first_byte_ns, e->first_byte_ns,
                          memory_order_relaxed);
    atomic_store_explicit(&turn->thread->slot->status, e->response.status, memory_order_relaxed);
    return (struct iovec){e->response.head.data, e->response.head.len};
}

static void warn_length(const struct turn *turn, const char *what)
{
    const struct board_thread *slot = turn->thread->slot;
    log_warning("%s %s: the application sent %s than its Content-Length of %lld", slot->method,
                slot->path, what, (long long)turn->exchange->response.content_length);
}

/* Sends one piece of the body with its framing (and the head, if it is the first). *whole: the body
 * is complete. */
static bool send_body(struct turn *turn, const char *data, size_t len, int64_t known_bytes,
                      bool *whole)
{
    struct exchange *e = turn->exchange;
    struct response *response = &e->response;
    struct iovec pieces[OUTPUT_MAX_PIECES];
    char chunk_head[RESPONSE_CHUNK_HEAD_MAX];
    unsigned count = 0;

    if (!may_answer(turn))
        return false;
    if (!e->call.head_sent)
        pieces[count++] = take_head(turn, known_bytes);
    size_t admitted = response_admit(response, len);
    if (admitted < len && response->framing != RESPONSE_NO_BODY)
        warn_length(turn, "more");
    if (response->framing == RESPONSE_CHUNKED) {
        pieces[count++] = (struct iovec){chunk_head, response_chunk_head(chunk_head, admitted)};
        pieces[count++] = (struct iovec){(char *)(uintptr_t)data, admitted};
        pieces[count++] = (struct iovec){(char *)(uintptr_t) "\r\n", 2};
    } else if (admitted > 0) {
        pieces[count++] = (struct iovec){(char *)(uintptr_t)data, admitted};
    }
    *whole = response->framing == RESPONSE_NO_BODY ||
             (response->framing == RESPONSE_LENGTH && response_is_complete(response));
    return count == 0 || send_pieces(turn, pieces, count, *whole);
}

/* The write() callable that start_response returns. */
static bool on_write(void *context, const char *data, size_t len)
{
    struct turn *turn = context;
    bool whole;
    if (turn->exchange->aborted)
        return false;
    if (!send_body(turn, data, len, -1, &whole))
        return false;
    /* If this piece ends the body, send_pieces has borrowed `data`, which is valid only during this
     * call: copy the unsent part. */
    output_own(&turn->exchange->output);
    return true;
}

static void on_set_limit(void *context, uint64_t limit_ns)
{
    const struct turn *turn = context;
    watch_set_limit(turn->thread, limit_ns);
}

static bool on_has_ended(void *context)
{
    const struct turn *turn = context;
    return client_has_ended(turn->conn);
}

/* The application has no more pieces. */
static void end_body(struct turn *turn)
{
    struct exchange *e = turn->exchange;
    struct iovec pieces[2];
    unsigned count = 0;
    if (!may_answer(turn))
        return;
    if (!e->call.head_sent)
        pieces[count++] = take_head(turn, 0);
    if (e->response.framing == RESPONSE_CHUNKED)
        pieces[count++] =
            (struct iovec){(char *)(uintptr_t)RESPONSE_LAST_CHUNK, strlen(RESPONSE_LAST_CHUNK)};
    /* They end the answer, so the loop sends what the client does not take now. */
    if (count > 0 && !send_pieces(turn, pieces, count, true))
        return;
    if (!response_is_complete(&e->response)) {
        warn_length(turn, "less");
        e->aborted = true;
    }
}

/* Answers with an error page of the server; nothing of the application's answer has been sent. */
static void send_error(struct turn *turn, unsigned status)
{
    struct exchange *e = turn->exchange;
    if (!may_answer(turn))
        return;
    struct response_facts facts = facts_of(turn->conn, -1);
    response_error(&e->response, status, &facts);
    struct iovec head = take_head(turn, -1);
    (void)send_pieces(turn, &head, 1, false);
}

/* Too many files are being sent to slow clients; the rest of the descriptors is for the
 * application. */
static void refuse_file(struct turn *turn)
{
    struct exchange *e = turn->exchange;
    log_client(LOG_INFO,
               "refused a request from %s: 503 too many files are on their way to slow clients; "
               "raise the limit of open files (ulimit -n, LimitNOFILE)",
               e->client);
    e->end = "too many files";
    send_error(turn, 503);
}

static void send_file(struct turn *turn)
{
    struct exchange *e = turn->exchange;
    struct wsgi_file file = e->call.file;
    leave_if_copy(turn);
    if (conn_spare_descriptors(turn->conn->shared) == 0) {
        close(file.fd);
        refuse_file(turn);
        return;
    }
    if (!may_answer(turn)) {
        close(file.fd);
        return;
    }
    struct iovec head = take_head(turn, e->call.known_bytes);
    uint64_t admitted = response_admit(&e->response, (size_t)file.bytes);
    bool complete = response_is_complete(&e->response);
    python_release(&turn->thread->python);
    if (output_send_file(&e->output, turn->conn->fd, head, file.fd, file.offset, admitted) ==
        OUTPUT_GONE)
        exchange_break_off(e);
    python_acquire(&turn->thread->python);
    if (!complete) {
        warn_length(turn, "less");
        e->aborted = true;
    }
}

/* The application failed. Sends a complete 500 if nothing was sent yet; else the connection must
 * end so that the client sees that the answer is not whole. */
static void send_failure(struct turn *turn)
{
    struct exchange *e = turn->exchange;
    if (e->call.head_sent) {
        e->aborted = true;
        e->end = "application failed";
        return;
    }
    send_error(turn, 500);
}

/* An empty piece sends nothing, so only a look at the socket tells that the client has gone. */
static void look_at_client(struct turn *turn)
{
    if (client_is_gone(turn->conn))
        exchange_break_off(turn->exchange);
}

/* Sends pieces until wsgi_next returns another result, the body is whole, or the answer is broken
 * off. A single empty piece is the whole body of a redirect: no system call is made for that. */
static enum wsgi_result send_all(struct turn *turn, enum wsgi_result result, bool *whole)
{
    struct exchange *e = turn->exchange;
    bool was_empty = false;
    while ((result == WSGI_CHUNK || result == WSGI_EMPTY) && !*whole && !e->aborted) {
        if (result == WSGI_CHUNK)
            (void)send_body(turn, e->call.data, e->call.len, e->call.known_bytes, whole);
        else if (was_empty)
            look_at_client(turn);
        was_empty = result == WSGI_EMPTY;
        if (!*whole && !e->aborted)
            result = wsgi_next(&e->call);
    }
    return result;
}

static void respond(struct turn *turn, enum wsgi_result result)
{
    struct exchange *e = turn->exchange;
    bool whole = false;
    result = send_all(turn, result, &whole);
    if (e->aborted && result == WSGI_FILE)
        close(e->call.file.fd);
    if (whole || e->aborted)
        return;
    switch (result) {
    case WSGI_CHUNK:
    case WSGI_EMPTY:
    case WSGI_END:
        end_body(turn);
        break;
    case WSGI_FILE:
        send_file(turn);
        break;
    case WSGI_FAILED:
        send_failure(turn);
        break;
    }
}

static void call_application(struct turn *turn)
{
    struct exchange *e = turn->exchange;
    struct wsgi_client client = {
        .send = on_write, .set_limit = on_set_limit, .has_ended = on_has_ended, .context = turn};
    python_begin_request(&turn->thread->python, turn->thread->turn.number);
    respond(turn, wsgi_start(&e->call, &e->facts, &e->response, &client));
    wsgi_finish(&e->call, e->output.tail_len > 0 ? &e->tail_object : NULL);
    leave_if_copy(turn);
    python_end_request(&turn->thread->python);
    python_report_imports(turn->thread->slot->method, turn->thread->slot->path, e->response.status);
    garbage_collect();
    if (e->call.exceptions > 0)
        atomic_fetch_add_explicit(&turn->conn->shared->board->exceptions, e->call.exceptions,
                                  memory_order_relaxed);
}

/* Runs the application under the GIL, unless the watch has answered while this thread waited for
 * the GIL. */
static void run_application(struct turn *turn)
{
    python_acquire(&turn->thread->python);
    pool_drop_garbage(turn->thread->pool);
    if (!watch_has_answered(turn->thread))
        call_application(turn);
    python_release(&turn->thread->python);
}

static void refuse_late(struct conn *c)
{
    struct exchange *e = c->exchange;
    struct response_facts facts = facts_of(c, -1);
    response_error(&e->response, 503, &facts);
    struct iovec page = {e->response.head.data, e->response.head.len};
    e->end = "queue timeout";
    atomic_fetch_add_explicit(&c->shared->board->queue_timeouts, 1, memory_order_relaxed);
    if (output_send(&e->output, c->fd, page) == OUTPUT_GONE)
        exchange_break_off(e);
}

/* What must be done with the connection when its answer is made. */
static enum conn_next next_step(struct conn *c)
{
    const struct exchange *e = c->exchange;
    bool more = !e->aborted && !output_is_empty(&e->output);
    return more ? CONN_NEXT_WRITE : conn_end_request(c);
}

enum conn_next answer_turn_away(struct conn *c, enum client_verdict verdict)
{
    if (verdict == CLIENT_GONE) {
        c->exchange->aborted = true;
        c->exchange->end = "client closed while it waited";
    } else {
        refuse_late(c);
    }
    return next_step(c);
}

static void run(struct conn *c, struct pool_thread *thread)
{
    struct turn turn = {.conn = c, .exchange = c->exchange, .thread = thread};
    begin(&turn);
    run_application(&turn);
    end(&turn);
}

void answer_run(struct conn *c, struct pool_thread *thread)
{
    enum client_verdict verdict = client_judge(c);
    thread->last_run_ns = 0;
    if (verdict != CLIENT_WAITS) {
        conn_give_back(c, answer_turn_away(c, verdict));
        return;
    }
    run(c, thread);
    conn_give_back(c, next_step(c));
}
