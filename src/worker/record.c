/* record.c: the end of a request. Owns nothing. */
#include "record.h"

#include "base/log.h"
#include "pages.h"
#include "python/allocs.h"
#include "shared/board.h"

#include <string.h>

static bool was_answered(const struct exchange *e)
{
    return e->response.head_finished && (e->output.total_bytes > 0 || e->call.taken);
}

/* The length of the body; of an answer that was broken off, only what the kernel took. */
static uint64_t sent_body_bytes(const struct exchange *e, const struct response *response)
{
    if (response != &e->response) /* reply_instead's; the exchange is the thread's meanwhile */
        return response->body_bytes;
    uint64_t total = e->output.total_bytes, head = response->head.len;
    uint64_t sent = total > head ? total - head : 0;
    return e->aborted && sent < response->body_bytes ? sent : response->body_bytes;
}

_Static_assert((int)ACCESS_PARTS == (int)LEDGER_PARTS, "the names stand in access.c and ledger.c");

/* `account` NULL: not known. */
static void log_access(const struct serving *serving, const struct exchange *e, const char *peer,
                       const struct response *response, const struct ledger_entry *account,
                       const char *end)
{
    struct buf line = {0};
    char trace[TRACE_ID_TEXT + 1];
    struct access_costs costs;
    uint64_t begun_ns = now_ns();
    if (account) {
        trace_write_id(account->trace, trace);
        costs = (struct access_costs){.parts_ns = account->parts_ns,
                                      .view = ledger_name(serving->ledger, account->view),
                                      .trace = trace,
                                      .queries = account->queries};
    }
    struct access_entry entry = {
        .client = e->resolved ? e->client : peer,
        .request = &e->request,
        .response = response,
        .status = response ? response->status : 499,
        .body_bytes = response ? sent_body_bytes(e, response) : 0,
        .start = e->start_time,
        .duration_ns = (account ? account->ended_ns : begun_ns) - e->accepted_ns,
        .worker = serving->worker,
        .costs = account ? &costs : NULL,
        .end = end,
    };
    access_line(serving->access, &entry, &line);
    log_access_line(line.data, line.len);
    buf_fini(&line);
    atomic_fetch_add_explicit(&serving->board->access_lines, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&serving->board->access_ns, now_ns() - begun_ns,
                              memory_order_relaxed);
}

static void record(const struct serving *serving, const struct exchange *e, const char *peer,
                   const struct response *response, const struct ledger_entry *account,
                   const char *end)
{
    struct board_worker *board = serving->board;
    unsigned class = response ? response->status / 100 : 0;
    assert(class < BOARD_RESPONSE_CLASSES);
    atomic_fetch_add_explicit(&board->responses[class], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&board->requests, 1, memory_order_relaxed);
    if (serving->access &&
        !exclude_fits(serving->exclude, &e->request, response ? response->status : 499))
        log_access(serving, e, peer, response, account, end);
}

void record_request(const struct serving *serving, const struct exchange *e, const char *peer,
                    const struct response *response, const char *end)
{
    record(serving, e, peer, response, NULL, end);
}

/* ---- the account of the views ---- */

/* The view of a request that no framework has named: its method and the first part of its path.
 * What was not found is one view, as clients choose what they ask for. */
static unsigned view_of(const struct serving *serving, const struct exchange *e, unsigned status)
{
    char name[LEDGER_NAME_MAX];
    struct text method = request_piece(&e->request, e->request.method);
    struct text path = request_piece(&e->request, e->request.path);
    const char *second = path.len > 1 ? memchr(path.data + 1, '/', path.len - 1) : NULL;
    size_t len = second ? (size_t)(second - path.data) : path.len;
    if (costs_have_routes() || status == 404)
        return ledger_view_of(serving->ledger, LEDGER_NO_VIEW);
    if (method.len + 1 + len >= sizeof name)
        return LEDGER_VIEWS;
    memcpy(name, method.data, method.len);
    name[method.len] = ' ';
    memcpy(name + method.len + 1, path.data, len);
    return ledger_view(serving->ledger, name, method.len + 1 + len);
}

static uint64_t since(uint64_t then_ns, uint64_t now)
{
    return then_ns < now ? now - then_ns : 0;
}

/* A request of the application, as far as it was observed. */
static void fill_account(const struct serving *serving, const struct exchange *e, uint64_t now,
                         struct ledger_entry *entry)
{
    unsigned status = e->instead ? e->instead : was_answered(e) ? e->response.status : 0;
    *entry = (struct ledger_entry){
        .view = e->costs.view ? e->costs.view - 1 : view_of(serving, e, status),
        .status = status,
        .queries = e->costs.queries,
        .pauses = e->costs.pauses,
        .sent_bytes = e->output.total_bytes,
        .ended_ns = now,
        .worker = serving->worker,
        .method = request_piece(&e->request, e->request.method),
        .path = request_piece(&e->request, e->request.path),
    };
    memcpy(entry->parts_ns, e->costs.parts_ns, sizeof entry->parts_ns);
    entry->parts_ns[LEDGER_RECEIVE] = since(e->accepted_ns + e->waited_ns, e->parsed_ns);
    entry->parts_ns[LEDGER_THREAD] =
        e->waited_ns + since(e->parsed_ns, e->started_ns ? e->started_ns : now);
    if (e->done_ns)
        entry->parts_ns[LEDGER_SEND] += since(e->done_ns, now);
    memcpy(entry->trace, e->trace.id, sizeof entry->trace);
}

void record_answer(const struct serving *serving, const struct exchange *e, const char *peer,
                   bool by_loop)
{
    atomic_fetch_add_explicit(&serving->board->sent_bytes, e->output.total_bytes,
                              memory_order_relaxed);
    struct ledger_entry account;
    /* how long a client stays on a connection that the application has taken is no latency */
    bool is_observed = serving->ledger && (e->costs.known || e->costs.view) && !e->call.taken;
    if (is_observed) {
        fill_account(serving, e, e->done_ns && !by_loop ? e->done_ns : now_ns(), &account);
        ledger_add(serving->ledger, serving->worker - 1, &account);
        if (UNLIKELY(e->costs.blocks))
            allocs_set_view(e->costs.blocks, account.view);
        pages_note(e, account.view, account.status);
    }
    if (!e->instead)
        record(serving, e, peer, was_answered(e) ? &e->response : NULL,
               is_observed ? &account : NULL, e->end);
}
