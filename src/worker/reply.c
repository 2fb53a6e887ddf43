/* reply.c: one answer. Owns nothing beyond the exchange's response and output. */
#include "reply.h"

#include "config/settings.h"
#include "record.h"
#include "shared/board.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static struct response_facts facts_of(const struct conn *c, int64_t known_bytes)
{
    const struct request *request = &c->exchange->request;
    return (struct response_facts){
        .is_head = request->is_head,
        /* nginx takes no chunks from a uwsgi server: what has no length ends with the connection */
        .version_minor = request->is_uwsgi ? 0 : request->version_minor,
        .keep_alive = request->keep_alive && c->table->serving->config->keep_alive_ms > 0 &&
                      !atomic_load_explicit(&c->table->last_requests, memory_order_relaxed),
        .known_bytes = known_bytes,
    };
}

/* "*" does not count: it is about proxies, which may send the header on to anybody. */
static bool may_see_costs(const struct conn *c)
{
    const struct exchange *e = c->exchange;
    bool is_local = c->origin.peer_trusted && c->origin.peer_port == 0 &&
                    strcmp(e->client, c->origin.peer) == 0; /* by a unix socket, without a proxy */
    return is_local || forwarded_lists(&c->table->serving->trust, e->client);
}

/* What has passed until now, in milliseconds. By the thread that runs the request. */
static void add_server_timing(struct conn *c)
{
    struct exchange *e = c->exchange;
    struct costs_clock *clock = costs_running();
    char value[256];
    if (!clock || clock->costs != &e->costs || !may_see_costs(c))
        return;
    (void)costs_switch(clock, clock->doing);
    const uint64_t *parts_ns = e->costs.parts_ns;
    uint64_t thread_ns = e->waited_ns + e->started_ns - e->parsed_ns;
    int len = snprintf(value, sizeof value,
                       "thread;dur=%.3f, gil;dur=%.3f, cpu;dur=%.3f, db;dur=%.3f;desc=\"%u "
                       "queries\", other;dur=%.3f",
                       (double)thread_ns / NS_PER_MS, (double)parts_ns[LEDGER_GIL] / NS_PER_MS,
                       (double)parts_ns[LEDGER_CPU] / NS_PER_MS,
                       (double)parts_ns[LEDGER_DATABASE] / NS_PER_MS, e->costs.queries,
                       (double)parts_ns[LEDGER_OTHER] / NS_PER_MS);
    enum response_check check =
        response_header(&e->response, "Server-Timing", strlen("Server-Timing"), value, (size_t)len);
    assert(check == RESPONSE_OK);
}

struct iovec reply_head(struct conn *c, int64_t known_bytes)
{
    struct exchange *e = c->exchange;
    if (!e->response.head_finished) {
        if (UNLIKELY(c->table->serving->config->server_timing))
            add_server_timing(c);
        struct response_facts facts = facts_of(c, known_bytes);
        response_finish_head(&e->response, &facts);
    }
    e->call.head_sent = true;
    e->first_byte_ns = now_ns();
    return (struct iovec){e->response.head.data, e->response.head.len};
}

static void add(struct reply_frame *frame, const char *data, size_t len)
{
    frame->pieces[frame->count++] = (struct iovec){(char *)(uintptr_t)data, len};
}

void reply_frame(struct conn *c, struct reply_frame *frame, const char *data, size_t len,
                 int64_t known_bytes)
{
    struct exchange *e = c->exchange;
    struct response *response = &e->response;
    frame->count = 0;
    if (!e->call.head_sent)
        frame->pieces[frame->count++] = reply_head(c, known_bytes);
    size_t admitted = response_admit(response, len);
    frame->cut = admitted < len && response->framing != RESPONSE_NO_BODY;
    if (response->framing == RESPONSE_CHUNKED) {
        add(frame, frame->room, response_chunk_head(frame->room, admitted));
        add(frame, data, admitted);
        add(frame, "\r\n", 2);
    } else if (admitted > 0) {
        add(frame, data, admitted);
    }
    frame->whole = response->framing == RESPONSE_NO_BODY ||
                   (response->framing == RESPONSE_LENGTH && response_is_complete(response));
}

void reply_frame_end(struct conn *c, struct reply_frame *frame)
{
    struct exchange *e = c->exchange;
    frame->count = 0;
    if (!e->call.head_sent)
        frame->pieces[frame->count++] = reply_head(c, 0);
    if (e->response.framing == RESPONSE_CHUNKED)
        add(frame, RESPONSE_LAST_CHUNK, strlen(RESPONSE_LAST_CHUNK));
}

void reply_make_error(struct conn *c, unsigned status, bool keep_alive)
{
    struct response_facts facts = facts_of(c, -1);
    facts.keep_alive = facts.keep_alive && keep_alive;
    facts.sentence =
        c->exchange->request.refusal_shown ? c->exchange->request.refusal_reason : NULL;
    if (!facts.keep_alive)
        facts.version_minor = 1; /* says so: the version may be what the request was refused for */
    response_error(&c->exchange->response, status, &facts);
}

enum output_result reply_send_error(struct conn *c)
{
    struct exchange *e = c->exchange;
    struct iovec page = {e->response.head.data, e->response.head.len};
    e->first_byte_ns = now_ns();
    return output_send(&e->output, c->fd, page);
}

enum conn_next reply_end(struct conn *c)
{
    const struct exchange *e = c->exchange;
    bool more = !e->aborted && !output_is_empty(&e->output);
    return more ? CONN_NEXT_WRITE : conn_end_request(c);
}

void reply_instead(struct conn *c, unsigned status, const char *why)
{
    struct exchange *e = c->exchange;
    struct response response = {0}; /* the one in the exchange belongs to who runs the request */
    struct response_facts facts = {
        .is_head = e->request.is_head, .version_minor = 1, .keep_alive = false, .known_bytes = -1};
    response_error(&response, status, &facts);
    if (send(c->fd, response.head.data, response.head.len, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
        atomic_fetch_add_explicit(&c->table->serving->board->sent_bytes, response.head.len,
                                  memory_order_relaxed);
    (void)shutdown(c->fd, SHUT_WR);
    e->instead = status;
    record_request(c->table->serving, e, c->origin.peer, &response, why);
    response_fini(&response);
}
