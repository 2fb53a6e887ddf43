/* answer.c: a request's turn.
 *
 * Calls the application, and sends each piece of its answer (reply.h) before it asks for the next.
 * The GIL is taken once per request: a small send costs less than releasing the GIL around it; big
 * sends and waits release it. What a slow client does not take is left to the loop (lag.h). Owns
 * nothing beyond the request. */
#include "answer.h"

#include "base/log.h"
#include "config/settings.h"
#include "pages.h"
#include "python/heap/heap.h"
#include "reply.h"
#include "sampler.h"
#include "shared/board.h"
#include "system/forks.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#define BIG_SEND_BYTES (64 * 1024)

struct answer {
    struct turn *turn;
    struct conn *conn;
    struct exchange *exchange;
    struct output_pace pace; /* of a client that lags behind */
    bool lent;               /* the loop may send what is in the exchange's output */
};

/* ---- the seat on the board ---- */

static void copy_text(char *out, size_t room, const struct request *request, struct http_text text)
{
    size_t len = text.length < room - 1 ? text.length : room - 1;
    memcpy(out, request_at(request, text), len);
    out[len] = '\0';
}

/* The trace that the client names, or a new one. */
static void begin_trace(struct exchange *e)
{
    const struct request *request = &e->request;
    bool is_named = false;
    for (unsigned i = 0; i < request->header_count && !is_named; i++)
        is_named = request->headers[i].field == HTTP_FIELD_TRACEPARENT &&
                   trace_parse(&e->trace, request_piece(request, request->headers[i].value));
    if (!is_named)
        trace_make(&e->trace);
    e->facts.trace = &e->trace;
}

static void begin_account(struct answer *a)
{
    struct exchange *e = a->exchange;
    begin_trace(e);
    bool is_wanted = pages_are_wanted(request_piece(&e->request, e->request.path));
    e->pages_before = is_wanted ? pages_given() : 0;
    costs_begin(&a->turn->costs, &e->costs, a->turn->seat, e->started_ns);
}

static void end_account(struct answer *a, uint64_t done_ns)
{
    struct exchange *e = a->exchange;
    if (UNLIKELY(e->pages_before))
        e->pages = (uint32_t)(pages_given() - e->pages_before);
    costs_end(&a->turn->costs, done_ns);
}

static void take_seat(struct answer *a)
{
    struct exchange *e = a->exchange;
    struct board_seat *seat = a->turn->seat;
    e->started_ns = now_ns();
    copy_text(seat->method, sizeof(seat->method), &e->request, e->request.method);
    copy_text(seat->path, sizeof(seat->path), &e->request, e->request.path);
    memcpy(seat->client, e->client, sizeof(seat->client));
    atomic_store_explicit(&seat->accepted_ns, e->accepted_ns, memory_order_relaxed);
    atomic_store_explicit(&seat->parsed_ns, e->parsed_ns, memory_order_relaxed);
    atomic_store_explicit(&seat->first_byte_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&seat->status, 0, memory_order_relaxed);
    atomic_store_explicit(&seat->version_minor, e->request.version_minor, memory_order_relaxed);
    atomic_store_explicit(&seat->recorded, false, memory_order_relaxed);
    atomic_store_explicit(&seat->started_ns, e->started_ns, memory_order_relaxed);
    atomic_store_explicit(&seat->phase, BOARD_RUNNING, memory_order_release);
    if (a->conn->table->serving->ledger)
        begin_account(a);
    uint64_t limit_ns = a->conn->table->serving->config->timeout_ms * NS_PER_MS;
    turn_begin(a->turn, a->conn, limit_ns ? e->started_ns + limit_ns : 0);
}

static void clear_seat(struct board_seat *seat, uint64_t done_ns)
{
    atomic_store_explicit(&seat->done_ns, done_ns, memory_order_relaxed);
    atomic_store_explicit(&seat->phase, BOARD_IDLE, memory_order_release);
    atomic_fetch_add_explicit(&seat->requests, 1, memory_order_relaxed);
}

static void log_slow(const struct answer *a, uint64_t ran_ms)
{
    const struct board_seat *seat = a->turn->seat;
    char trace[TRACE_ID_TEXT + 1];
    trace_write_id(a->exchange->trace.id, trace);
    log_warning("slow request: %s %s ran %llu ms, client %s%s%s", seat->method, seat->path,
                (unsigned long long)ran_ms, seat->client,
                a->exchange->facts.trace ? ", trace " : "", a->exchange->facts.trace ? trace : "");
}

static void leave_seat(struct answer *a)
{
    struct board_seat *seat = a->turn->seat;
    if (!turn_end(a->turn))
        a->exchange->aborted = true;
    uint64_t done_ns = now_ns();
    if (a->turn->costs.costs)
        end_account(a, done_ns);
    a->exchange->done_ns = done_ns;
    if (a->exchange->call.taken) { /* how long a client stays is no latency, nor slow */
        a->turn->ran_ns = 0;
        atomic_fetch_sub(&a->conn->table->serving->board->taken_over, 1);
        clear_seat(seat, done_ns);
        return;
    }
    a->turn->ran_ns = done_ns - a->exchange->started_ns;
    uint64_t slow_ms = a->conn->table->serving->config->log_slow_ms;
    uint64_t ran_ms = a->turn->ran_ns / NS_PER_MS;
    if (slow_ms > 0 && ran_ms >= slow_ms)
        log_slow(a, ran_ms);
    sampler_note_request(seat, a->turn->ran_ns, done_ns);
    board_count_latency(seat, done_ns - a->exchange->parsed_ns);
    clear_seat(seat, done_ns);
}

/* A process that the application forked may come back from the request as if it were the worker
 * (sys.exit() raises). The connection, the loop and the locks belong to its parent. */
static void end_if_copy(const struct board_seat *seat)
{
    if (!forks_is_copy())
        return;
    log_error(
        "%s %s: a process that the application forked came back from its request and is ended",
        seat->method, seat->path);
    _exit(EXIT_CRASH);
}

static void leave_if_copy(const struct answer *a)
{
    end_if_copy(a->turn->seat);
}

/* ---- sending ---- */

/* To be asked before the first byte of an answer. False: the watch has answered the request. */
static bool may_answer(struct answer *a)
{
    if (a->exchange->call.head_sent || turn_claim(a->turn))
        return true;
    a->exchange->aborted = true;
    return false;
}

/* The first byte goes out now. */
static void show_status(const struct answer *a)
{
    struct board_seat *seat = a->turn->seat;
    atomic_store_explicit(&seat->first_byte_ns, a->exchange->first_byte_ns, memory_order_relaxed);
    atomic_store_explicit(&seat->status, a->exchange->response.status, memory_order_relaxed);
}

/* Takes back what the loop may send meanwhile. False: the client has gone. */
static bool take_back(struct answer *a)
{
    if (!a->lent)
        return true;
    leave_if_copy(a);
    a->lent = false;
    if (lag_take_back(&a->turn->lag) != OUTPUT_GONE) {
        if (output_is_empty(&a->exchange->output)) /* it has all: no longer behind */
            lag_end(&a->turn->lag, &a->pace);
        return true;
    }
    exchange_break_off(a->exchange);
    return false;
}

/* What the thread does from now on, for the account; returns what it did before. */
static enum ledger_doing begin_doing(const struct answer *a, enum ledger_doing doing)
{
    struct costs_clock *clock = &a->turn->costs;
    return clock->costs ? costs_switch(clock, doing) : LEDGER_RUNS;
}

/* The socket has not taken these pieces, and more will follow. */
static enum output_result keep_rest(struct answer *a, struct iovec *pieces, unsigned count,
                                    bool *released)
{
    struct lag *lag = &a->turn->lag;
    enum output_result result;
    if (lag_keeps_in_memory(&a->exchange->output, pieces, count)) {
        lag_end(lag, &a->pace);
        return OUTPUT_BLOCKED;
    }
    if (!*released)
        python_release(&a->turn->python);
    *released = true;
    uint64_t paused = turn_pause(a->turn);
    enum ledger_doing before = begin_doing(a, LEDGER_SENDS);
    if (!lag_keep(lag, a->conn, &a->pace, &pieces, &count, &result))
        result = lag_wait(lag, a->conn, &a->pace, &pieces, &count);
    (void)begin_doing(a, before);
    turn_resume(a->turn, paused);
    return result;
}

/* The pieces end the answer, which the loop will send: borrows the unsent end of the last one
 * instead of copying it, until the connection drops tail_object. */
static void keep_end(struct output *o, struct iovec *pieces, unsigned count, size_t last_bytes)
{
    if (count > 1)
        output_copy(o, pieces, count - 1);
    output_borrow(o, pieces[count - 1], last_bytes);
}

/* Sends pieces; false when nothing more can be sent. `last`: they end the answer, and stay valid
 * until it is sent. */
static bool send_pieces(struct answer *a, struct iovec *pieces, unsigned count, bool last)
{
    struct exchange *e = a->exchange;
    leave_if_copy(a);
    if (!take_back(a))
        return false;
    bool released = pieces_bytes(pieces, count) > BIG_SEND_BYTES;
    size_t last_bytes = pieces[count - 1].iov_len;
    if (released)
        python_release(&a->turn->python);
    enum output_result result = output_try(&e->output, a->conn->fd, &pieces, &count);
    if (result == OUTPUT_BLOCKED && !last)
        result = keep_rest(a, pieces, count, &released);
    else if (result == OUTPUT_BLOCKED && count > 0)
        keep_end(&e->output, pieces, count, last_bytes);
    if (released)
        python_acquire(&a->turn->python);
    if (result == OUTPUT_GONE)
        exchange_break_off(e);
    if (a->pace.since_ms && result == OUTPUT_DONE)
        lag_end(&a->turn->lag, &a->pace);
    a->lent = result == OUTPUT_BLOCKED && !last && !e->aborted;
    if (a->lent)
        lag_lend(&a->turn->lag, &e->output, a->conn->fd);
    return !e->aborted;
}

static void warn_length(const struct answer *a, const char *what)
{
    const struct board_seat *seat = a->turn->seat;
    log_warning("%s %s: the application sent %s than its Content-Length of %lld", seat->method,
                seat->path, what, (long long)a->exchange->response.content_length);
}

/* Sends one piece of the body (and the head, if it is the first). `lasts`: `data` stays valid until
 * it is sent, if it ends the body. *whole: the body is complete. */
static bool send_body(struct answer *a, const char *data, size_t len, int64_t known_bytes,
                      bool lasts, bool *whole)
{
    struct reply_frame frame;
    if (!may_answer(a))
        return false;
    bool is_first = !a->exchange->call.head_sent;
    reply_frame(a->conn, &frame, data, len, known_bytes);
    if (is_first)
        show_status(a);
    if (frame.cut)
        warn_length(a, "more");
    *whole = frame.whole;
    return frame.count == 0 || send_pieces(a, frame.pieces, frame.count, lasts && frame.whole);
}

/* The application has no more pieces. */
static void end_body(struct answer *a)
{
    struct exchange *e = a->exchange;
    struct reply_frame frame;
    if (!may_answer(a))
        return;
    bool is_first = !e->call.head_sent;
    reply_frame_end(a->conn, &frame);
    if (is_first)
        show_status(a);
    /* They end the answer, so the loop sends what the client does not take now. */
    if (frame.count > 0 && !send_pieces(a, frame.pieces, frame.count, true))
        return;
    if (!response_is_complete(&e->response)) {
        warn_length(a, "less");
        e->aborted = true;
    }
}

/* Answers with an error page of the server; nothing of the application's answer has been sent. */
static void send_error(struct answer *a, unsigned status)
{
    if (!may_answer(a))
        return;
    reply_make_error(a->conn, status, true);
    struct iovec page = reply_head(a->conn, -1);
    show_status(a);
    (void)send_pieces(a, &page, 1, true);
}

static void send_file(struct answer *a)
{
    struct exchange *e = a->exchange;
    struct wsgi_file file = e->call.file;
    leave_if_copy(a);
    if (!may_answer(a)) {
        close(file.fd);
        return;
    }
    /* the rest of the descriptors is for the application */
    if (conn_spare_descriptors(a->conn->table) == 0) {
        close(file.fd);
        log_client(LOG_INFO,
                   "refused a request from %s: 503 too many files are on their way to slow "
                   "clients; raise the limit of open files (ulimit -n, LimitNOFILE)",
                   e->client);
        e->end = "too many files";
        send_error(a, 503);
        return;
    }
    struct iovec head = reply_head(a->conn, e->call.known_bytes);
    show_status(a);
    uint64_t admitted = response_admit(&e->response, (size_t)file.bytes);
    bool complete = response_is_complete(&e->response);
    enum ledger_doing before = begin_doing(a, LEDGER_SENDS);
    python_release(&a->turn->python);
    if (output_send_file(&e->output, a->conn->fd, head, file.fd, file.offset, admitted) ==
        OUTPUT_GONE)
        exchange_break_off(e);
    python_acquire(&a->turn->python);
    (void)begin_doing(a, before);
    if (!complete) {
        warn_length(a, "less");
        e->aborted = true;
    }
}

/* ---- what the application may ask for ---- */

/* The write() callable that start_response returns. */
static bool on_write(void *context, const char *data, size_t len)
{
    struct answer *a = context;
    bool whole;
    return !a->exchange->aborted && send_body(a, data, len, -1, false, &whole);
}

static void on_set_limit(void *context, uint64_t limit_ns)
{
    const struct answer *a = context;
    turn_set_limit(a->turn, limit_ns);
}

static bool on_has_ended(void *context)
{
    const struct answer *a = context;
    return client_has_ended(a->conn);
}

static void say_if_all_taken(const struct serving *serving)
{
    static atomic_flag said = ATOMIC_FLAG_INIT;
    unsigned threads = serving->config->threads;
    if (atomic_fetch_add(&serving->board->taken_over, 1) + 1 == threads &&
        !atomic_flag_test_and_set(&said))
        log_warning(
            "the application has taken over as many sockets as this worker has threads (%u), "
            "and each of them holds one: other requests wait; raise threads",
            threads);
}

/* The copy that the application gets shares its flags with the server's descriptor, and the
 * application makes it block: from here on the server uses only calls that do not wait anyway. */
static int on_take(void *context, struct text *ahead, const char **why)
{
    struct answer *a = context;
    struct exchange *e = a->exchange;
    const struct buf *in = &e->request.in;
    int fd = fcntl(a->conn->fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    *why = fd < 0                 ? "no descriptor is left"
           : e->call.head_sent    ? "the answer has begun"
           : !turn_claim(a->turn) ? "the request has passed its timeout, and is answered"
                                  : NULL;
    if (*why) {
        if (fd >= 0)
            close(fd);
        return -1;
    }
    a->conn->taken = true;
    *ahead = (struct text){in->data + e->request.head_bytes, in->len - e->request.head_bytes};
    response_switch(&e->response);
    e->first_byte_ns = now_ns();
    show_status(a);
    say_if_all_taken(a->conn->table->serving);
    turn_take(a->turn);
    return fd;
}

/* ---- the turn ---- */

/* The application has taken the socket over: what it still returns is not sent. */
static void run_out(struct answer *a, enum wsgi_result result)
{
    struct exchange *e = a->exchange;
    while (result == WSGI_CHUNK || result == WSGI_EMPTY)
        result = wsgi_next(&e->call);
    if (result == WSGI_FAILED)
        e->end = "application failed";
}

/* Sends what the application returns, piece by piece, to its end. A single empty piece is the whole
 * body of a redirect: no system call is made for that; after a second one, only a look at the
 * socket tells that the client has gone. */
static void respond(struct answer *a, enum wsgi_result result)
{
    struct exchange *e = a->exchange;
    bool whole = false, was_empty = false;
    while ((result == WSGI_CHUNK || result == WSGI_EMPTY) && !whole && !e->aborted) {
        if (UNLIKELY(e->call.taken))
            break;
        if (result == WSGI_CHUNK)
            (void)send_body(a, e->call.data, e->call.len, e->call.known_bytes, true, &whole);
        else if (was_empty && client_is_gone(a->conn) && take_back(a))
            exchange_break_off(e);
        was_empty = result == WSGI_EMPTY;
        if (!whole && !e->aborted)
            result = wsgi_next(&e->call);
    }
    if (UNLIKELY(e->call.taken)) {
        run_out(a, result);
        return;
    }
    (void)take_back(a); /* sets e->aborted if the client has gone */
    if (e->aborted && result == WSGI_FILE)
        close(e->call.file.fd);
    if (whole || e->aborted)
        return;
    if (result == WSGI_FILE) {
        send_file(a);
    } else if (result != WSGI_FAILED) {
        end_body(a);
    } else if (e->call.head_sent) { /* the client must see that the answer is not whole */
        e->aborted = true;
        e->end = "application failed";
    } else {
        send_error(a, 500);
    }
}

/* What must stay as it is until the client has the answer: the last piece, and the response whose
 * file the loop sends (its close() may unlock, change or remove that file). */
static void finish(struct answer *a)
{
    struct exchange *e = a->exchange;
    const struct board_seat *seat = a->turn->seat;
    if (e->output.file_fd >= 0 && !output_is_spilled(&e->output) && !e->aborted) {
        struct wsgi_unclosed *unclosed = wsgi_keep_open(&e->call);
        unclosed->seat = a->turn->number;
        memcpy(unclosed->method, seat->method, sizeof(unclosed->method));
        memcpy(unclosed->path, seat->path, sizeof(unclosed->path));
        e->unclosed = unclosed; /* the application has the file open, too */
        atomic_fetch_add_explicit(&a->conn->table->exchanges.sent_descriptors, 1,
                                  memory_order_relaxed);
    }
    wsgi_finish(&e->call, e->output.tail_len > 0 ? &e->tail_object : NULL);
}

/* Under the GIL. */
static void call_application(struct answer *a)
{
    struct exchange *e = a->exchange;
    struct board_worker *board = a->conn->table->serving->board;
    struct wsgi_client client = {.send = on_write,
                                 .set_limit = on_set_limit,
                                 .has_ended = on_has_ended,
                                 .take = on_take,
                                 .context = a};
    python_begin_request(&a->turn->python, a->turn->request);
    respond(a, wsgi_start(&e->call, &e->facts, &e->response, &client));
    if (a->pace.since_ms)
        lag_end(&a->turn->lag, &a->pace);
    assert(!a->lent);
    leave_if_copy(a);
    finish(a);
    leave_if_copy(a);
    python_end_request(&a->turn->python);
    python_report_imports(e->facts.request, a->turn->seat->method, a->turn->seat->path,
                          e->response.status);
    heap_tidy();
    if (e->call.exceptions > 0)
        atomic_fetch_add_explicit(&board->exceptions, e->call.exceptions, memory_order_relaxed);
}

enum conn_next answer_run(struct conn *c, struct turn *turn, struct trash *trash)
{
    struct answer a = {.turn = turn, .conn = c, .exchange = c->exchange};
    enum client_verdict verdict = client_judge(c);
    turn->ran_ns = 0;
    if (verdict != CLIENT_WAITS)
        return answer_turn_away(c, verdict);
    take_seat(&a);
    python_acquire(&turn->python);
    trash_drop(trash);
    if (!turn_is_answered(turn)) /* while this thread waited for the GIL */
        call_application(&a);
    python_release(&turn->python);
    leave_seat(&a);
    return reply_end(c);
}

enum conn_next answer_turn_away(struct conn *c, enum client_verdict verdict)
{
    struct exchange *e = c->exchange;
    struct ledger *ledger = c->table->serving->ledger;
    if (ledger && costs_observe(OBSERVED_VIEWS, 0))
        e->costs.view = ledger_view_of(ledger, LEDGER_NOT_RUN) + 1;
    if (verdict == CLIENT_GONE) {
        e->aborted = true;
        e->end = "client closed while it waited";
        return reply_end(c);
    }
    e->end = "queue timeout";
    atomic_fetch_add_explicit(&c->table->serving->board->queue_timeouts, 1, memory_order_relaxed);
    reply_make_error(c, 503, true);
    if (reply_send_error(c) == OUTPUT_GONE)
        exchange_break_off(e);
    return reply_end(c);
}

void answer_close(struct wsgi_unclosed *unclosed, struct turn *turn, const struct serving *serving,
                  struct trash *trash)
{
    struct board_seat *seat = turn->seat;
    uint64_t limit_ns = serving->config->timeout_ms * NS_PER_MS, now = now_ns();
    memcpy(seat->method, unclosed->method, sizeof(seat->method));
    memcpy(seat->path, unclosed->path, sizeof(seat->path));
    seat->client[0] = '\0';
    atomic_store_explicit(&seat->recorded, true, memory_order_relaxed);
    atomic_store_explicit(&seat->started_ns, now, memory_order_relaxed);
    atomic_store_explicit(&seat->phase, BOARD_RUNNING, memory_order_release);
    turn->ran_ns = 0; /* the policy is about requests */
    turn_begin_close(turn, limit_ns ? now + limit_ns : 0);
    python_acquire(&turn->python);
    trash_drop(trash);
    python_begin_request(&turn->python, turn->request);
    unsigned failed = wsgi_close(unclosed);
    end_if_copy(seat);
    atomic_fetch_add_explicit(&serving->board->exceptions, failed, memory_order_relaxed);
    python_end_request(&turn->python);
    python_release(&turn->python);
    bool unanswered = turn_end(turn);
    assert(unanswered); /* the watch only interrupts */
    (void)unanswered;
    atomic_store_explicit(&seat->phase, BOARD_IDLE, memory_order_release);
}
