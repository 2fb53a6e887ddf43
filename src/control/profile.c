/* profile.c: the samplers' memory as JSON.
 *
 * Owns nothing. A worker that has died may have left anything in its area: every number that is
 * used as an index is bounded, and every text ends. Of a request only method and path are shown.
 *
 * /samples takes what the client has already: `epoch`, and for each table how many entries of it
 * (`functions`, `frames`, `nodes`, `views`), and from which record on (`from`; without it: those
 * that come from now on) of which ring (`kind=fast`, else the always-on one; `all=1`: also those
 * that may still grow). Where the epoch is another one by now, all is sent from the beginning. */
#include "profile.h"

#include "base/log.h"
#include "http/request.h"
#include "question.h"
#include "shared/board.h"
#include "shared/samples.h"

#include <inttypes.h>
#include <stdlib.h>

#define TRIES_MOST 5     /* of reading tables that are just being emptied */
#define READ_MOST  16384 /* records in one answer */
#define PROFILE_MS 60000 /* for which one may ask; who wants longer asks again */

/* ---- tables ---- */

static void append_string(struct buf *out, const char *text, size_t room)
{
    buf_append(out, "\"", 1);
    log_escape_json(out, text, strnlen(text, room));
    buf_append(out, "\"", 1);
}

static void append_text_at(struct buf *out, const struct samples_area *area, uint32_t at)
{
    at = at < SAMPLES_TEXT_BYTES ? at : 0;
    append_string(out, area->text + at, SAMPLES_TEXT_BYTES - at);
}

static void append_function(struct buf *out, const struct samples_area *area, uint32_t i)
{
    struct samples_function function = area->function[i];
    buf_append(out, "[", 1);
    append_text_at(out, area, function.name);
    buf_append(out, ",", 1);
    append_text_at(out, area, function.file);
    buf_printf(out, ",%" PRIu32 "]", function.first_line);
}

static void append_frame(struct buf *out, const struct samples_area *area, uint32_t i)
{
    buf_printf(out, "[%u,%" PRIu32 "]", area->frame[i].function, area->frame[i].line);
}

static void append_node(struct buf *out, const struct samples_area *area, uint32_t i)
{
    buf_printf(out, "[%u,%u]", area->node[i].parent, area->node[i].frame);
}

static void append_view(struct buf *out, const struct samples_area *area, uint32_t i)
{
    append_text_at(out, area, area->view[i]);
}

static const struct table {
    const char *name;
    size_t count; /* where the number of entries is in the area */
    uint32_t most;
    void (*append)(struct buf *out, const struct samples_area *area, uint32_t i);
} tables[] = {
    {"functions", offsetof(struct samples_area, functions), SAMPLES_FUNCTIONS, append_function},
    {"frames", offsetof(struct samples_area, frames), SAMPLES_FRAMES, append_frame},
    {"nodes", offsetof(struct samples_area, nodes), SAMPLES_NODES, append_node},
    {"views", offsetof(struct samples_area, views), SAMPLES_VIEWS, append_view},
};

static void append_table(struct buf *out, const struct samples_area *area,
                         const struct table *table, uint64_t from)
{
    const char *count_at = (const char *)area + table->count;
    uint32_t count = atomic_load_explicit((const _Atomic uint32_t *)(const void *)count_at,
                                          memory_order_acquire);
    count = count < table->most ? count : table->most;
    from = from < count ? from : count;
    buf_printf(out, ",\"%s_from\":%" PRIu64 ",\"%s\":[", table->name, from, table->name);
    for (uint32_t i = (uint32_t)from; i < count; i++) {
        if (i > from)
            buf_append(out, ",", 1);
        table->append(out, area, i);
    }
    buf_append(out, "]", 1);
}

static void append_records(struct buf *out, const struct samples_area *area, enum samples_kind kind,
                           uint64_t from, bool all)
{
    struct samples_record *records = xcalloc(READ_MOST, sizeof *records);
    uint64_t next, lost;
    size_t count = samples_read(area, kind, from, all, records, READ_MOST, &next, &lost);
    buf_printf(out, ",\"next\":%" PRIu64 ",\"lost\":%" PRIu64 ",\"samples\":[", next, lost);
    for (size_t i = 0; i < count; i++) {
        const struct samples_record *r = &records[i];
        buf_printf(out, "%s[%" PRIu32 ",%" PRIu32 ",%u,%u,%d,%u,%u,%u]", i ? "," : "", r->begin_ms,
                   r->wall_us, r->node, r->view, r->seat == SAMPLES_NO_SEAT ? -1 : (int)r->seat,
                   r->cpu, r->had_gil, r->wanted_gil);
    }
    buf_append(out, "]", 1);
    free(records);
}

/* Tables and records of one epoch. */
static void append_area(struct buf *out, const struct samples_area *area,
                        const struct request *request, enum samples_kind kind, bool all)
{
    for (unsigned try = 0; try < TRIES_MOST; try++) {
        size_t before = out->len;
        uint32_t epoch = atomic_load(&area->epoch);
        bool goes_on = question_number(request, "epoch") == epoch;
        uint64_t now = atomic_load_explicit(&area->rings[kind].head, memory_order_acquire);
        uint64_t from = question_number(request, "from") == QUESTION_MISSING ? now
                        : goes_on ? question_number(request, "from")
                                  : 0;
        buf_printf(out, ",\"epoch\":%" PRIu32, epoch);
        append_records(out, area, kind, all ? 0 : from, all);
        for (size_t i = 0; i < ARRAY_LEN(tables); i++)
            append_table(out, area, &tables[i],
                         goes_on ? question_number_or(request, tables[i].name, 0) : 0);
        if (epoch % 2 == 0 && atomic_load(&area->epoch) == epoch)
            return;
        out->len = before;
    }
    buf_append_str(out, ",\"epoch\":1,\"samples\":[]"); /* it died while it emptied them */
}

/* ---- answers ---- */

static uint64_t ms_between(uint64_t before_ns, uint64_t after_ns)
{
    return after_ns > before_ns ? (after_ns - before_ns) / NS_PER_MS : 0;
}

static void append_sampler(struct buf *out, const struct board *board, unsigned slot)
{
    const struct board_worker *worker = &board->worker[slot];
    const struct samples_area *area = samples_area(board->samples, slot);
    buf_printf(out,
               "{\"worker\":%u,\"pid\":%d,\"generation\":%" PRIu32 ",\"sampled_pid\":%" PRId32
               ",\"hz\":%" PRIu32 ",\"slowed\":%" PRIu32 ",\"taken\":%" PRIu64
               ",\"cpu_s\":%.6f,\"age_s\":%.3f}",
               slot + 1, atomic_load(&worker->pid), atomic_load(&worker->generation),
               atomic_load(&area->pid), atomic_load(&area->hz), atomic_load(&area->slowed),
               atomic_load(&area->taken), (double)atomic_load(&area->cpu_ns) / NS_PER_S,
               (double)ms_between(atomic_load(&area->begin_ns), now_ns()) / 1000);
}

static bool serves(const struct board *board, unsigned slot)
{
    uint32_t state = atomic_load(&board->worker[slot].state);
    return state == BOARD_WORKER_SERVING || state == BOARD_WORKER_DRAINING;
}

static void write_samplers(const struct board *board, struct buf *out)
{
    bool first = true;
    buf_append_str(out, "{\"workers\":[");
    for (unsigned slot = 0; slot < board->workers; slot++) {
        if (!serves(board, slot))
            continue;
        if (!first)
            buf_append(out, ",", 1);
        first = false;
        append_sampler(out, board, slot);
    }
    buf_append_str(out, "]}\n");
}

/* The status of the answer. */
static unsigned ask_for_profile(const struct board *board, const struct request *request,
                                struct buf *out)
{
    uint64_t hz = question_number(request, "hz"), ms = question_number(request, "ms");
    if (hz < 1 || hz > SAMPLES_MOST_HZ || ms > PROFILE_MS) {
        buf_printf(out, "hz is a number from 1 to %d, and ms one up to %d.\n", SAMPLES_MOST_HZ,
                   PROFILE_MS);
        return 400;
    }
    samples_ask(board->samples, (unsigned)hz, now_ns() + ms * NS_PER_MS);
    write_samplers(board, out);
    return 200;
}

static unsigned write_samples(const struct board *board, const struct request *request,
                              struct buf *out)
{
    uint64_t worker = question_number(request, "worker");
    if (worker < 1 || worker > board->workers) {
        buf_append_str(out, "worker is the number of one.\n");
        return 404;
    }
    unsigned slot = (unsigned)worker - 1;
    const struct samples_area *area = samples_area(board->samples, slot);
    const char *query = request_at(request, request->query);
    bool fast = memmem(query, request->query.length, "kind=fast", 9) != NULL;
    buf_printf(out, "{\"now_ms\":%" PRIu64 ",\"sampler\":",
               ms_between(atomic_load(&area->begin_ns), now_ns()));
    append_sampler(out, board, slot);
    append_area(out, area, request, fast ? SAMPLES_FAST : SAMPLES_STEADY,
                question_number_or(request, "all", 0) == 1);
    buf_append_str(out, "}\n");
    return 200;
}

/* ---- deaths ---- */

static void append_death(struct buf *out, const struct samples *samples,
                         const struct samples_death *death, uint32_t number)
{
    const struct samples_area *area =
        samples_area_at((struct samples *)(uintptr_t)samples, death->area);
    buf_printf(out,
               "{\"number\":%" PRIu32 ",\"worker\":%" PRIu32 ",\"pid\":%" PRId32
               ",\"died_at\":%" PRIu64 ",\"died_ms\":%" PRIu64 ",\"how\":",
               number, death->worker, atomic_load(&area->pid), death->died_s,
               ms_between(atomic_load(&area->begin_ns), death->died_ns));
    append_string(out, death->how, sizeof death->how);
    buf_append_str(out, ",\"running\":");
    append_string(out, death->running, sizeof death->running);
    buf_append(out, "}", 1);
}

static void write_deaths(const struct samples *samples, struct buf *out)
{
    uint32_t last = atomic_load(&samples->deaths);
    bool first = true;
    buf_append_str(out, "{\"deaths\":[");
    for (unsigned i = SAMPLES_KEPT; i-- > 0;) {
        uint32_t number = last - i;
        const struct samples_death *death = &samples->death[number % SAMPLES_KEPT];
        if (last <= i || atomic_load(&death->number) != number)
            continue;
        if (!first)
            buf_append(out, ",", 1);
        first = false;
        append_death(out, samples, death, number);
    }
    buf_append_str(out, "]}\n");
}

static void append_past(struct buf *out, const struct samples_area *area, uint64_t died_ns)
{
    uint32_t head = atomic_load(&area->past_head);
    uint32_t count = head < SAMPLES_PAST ? head : SAMPLES_PAST;
    buf_append_str(out, ",\"requests\":[");
    for (uint32_t i = 0; i < count; i++) {
        const struct samples_past *past = &area->past[(head - count + i) % SAMPLES_PAST];
        buf_printf(out, "%s[%" PRIu64 ",%" PRIu64 ",%" PRIu32 ",", i ? "," : "",
                   ms_between(atomic_load(&past->ended_ns), died_ns), past->wall_ns / 1000,
                   past->status);
        append_string(out, past->method, sizeof past->method);
        buf_append(out, ",", 1);
        append_string(out, past->path, sizeof past->path);
        buf_append(out, "]", 1);
    }
    buf_append(out, "]", 1);
}

static void append_log(struct buf *out, const struct samples_area *area)
{
    uint64_t head = atomic_load(&area->log_head);
    size_t at = head % SAMPLES_LOG_BYTES, first = head > SAMPLES_LOG_BYTES ? at : SAMPLES_LOG_BYTES;
    struct buf text = {0};
    if (head > SAMPLES_LOG_BYTES)
        buf_append(&text, area->log + first, SAMPLES_LOG_BYTES - first);
    buf_append(&text, area->log, at);
    buf_append_str(out, ",\"log\":\"");
    log_escape_json(out, text.data ? text.data : "", text.len);
    buf_append(out, "\"", 1);
    buf_fini(&text);
}

static unsigned write_death(const struct board *board, const struct request *request,
                            struct buf *out)
{
    uint32_t number = (uint32_t)question_number_or(request, "number", 0);
    const struct samples_death *death = &board->samples->death[number % SAMPLES_KEPT];
    const struct samples_area *area = samples_area_at(board->samples, death->area);
    size_t before = out->len;
    buf_append_str(out, "{\"death\":");
    append_death(out, board->samples, death, number);
    append_past(out, area, death->died_ns);
    append_log(out, area);
    append_area(out, area, request, SAMPLES_STEADY, true);
    buf_append_str(out, "}\n");
    if (number > 0 && atomic_load(&death->number) == number)
        return 200;
    out->len = before; /* or another one has taken its place meanwhile */
    buf_append_str(out, "No death of that number is kept; /crashes lists them.\n");
    return 404;
}

/* ---- */

bool profile_answer(const struct board *board, const struct request *request, struct buf *body,
                    unsigned *status)
{
    const char *const paths[] = {"/profile", "/samples", "/crashes", "/crash"};
    bool is_post = question_is(request, request->method, "POST"), is_ours = false;
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        is_ours = is_ours || question_is(request, request->path, paths[i]);
    if (!is_ours || (is_post && !question_is(request, request->path, "/profile")))
        return false;
    *status = 200;
    if (!board->samples) {
        *status = 503;
        buf_append_str(body, "Nothing is sampled; the log of the server says why.\n");
    } else if (is_post) {
        *status = ask_for_profile(board, request, body);
    } else if (question_is(request, request->path, "/profile")) {
        write_samplers(board, body);
    } else if (question_is(request, request->path, "/samples")) {
        *status = write_samples(board, request, body);
    } else if (question_is(request, request->path, "/crashes")) {
        write_deaths(board->samples, body);
    } else {
        *status = write_death(board, request, body);
    }
    return true;
}
