/* views.c: the account of the views, as text.
 *
 * Owns nothing. Adds the shards of the ledger up when somebody asks. Does not trust what stands on
 * the board to be whole: a crashed worker may have left anything, so numbers are bounded and texts
 * end. */
#include "views.h"

#include "config/settings.h"
#include "exemplars.h"
#include "format.h"
#include "http/trace.h"
#include "observe.h"
#include "running.h"
#include "shared/ledger.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *const class_names[LEDGER_CLASSES] = {"none", "1xx", "2xx", "3xx", "4xx", "5xx"};

/* What one view has cost, in all shards. */
struct view {
    unsigned number;
    const char *name;
    uint64_t requests, wall_ns, queries, sent_bytes;
    struct ledger_pauses pauses;
    uint64_t classes[LEDGER_CLASSES], parts_ns[LEDGER_PARTS], buckets[LEDGER_BUCKETS];
};

static void add_row(struct view *view, const struct ledger_row *row)
{
    for (unsigned i = 0; i < LEDGER_BUCKETS; i++) {
        uint64_t count = atomic_load_explicit(&row->buckets[i], memory_order_acquire);
        view->buckets[i] += count;
        view->requests += count;
    }
    view->queries += atomic_load_explicit(&row->queries, memory_order_relaxed);
    view->sent_bytes += atomic_load_explicit(&row->sent_bytes, memory_order_relaxed);
    uint64_t longest_ns =
        atomic_load_explicit(&row->longest_pause_us, memory_order_relaxed) * NS_PER_US;
    view->pauses.count += atomic_load_explicit(&row->pauses, memory_order_relaxed);
    view->pauses.total_ns += atomic_load_explicit(&row->pauses_ns, memory_order_relaxed);
    if (longest_ns > view->pauses.longest_ns)
        view->pauses.longest_ns = longest_ns;
    for (unsigned i = 0; i < LEDGER_CLASSES; i++)
        view->classes[i] += atomic_load_explicit(&row->classes[i], memory_order_relaxed);
    for (unsigned i = 0; i < LEDGER_PARTS; i++) {
        uint64_t ns = atomic_load_explicit(&row->parts_ns[i], memory_order_relaxed);
        view->parts_ns[i] += ns;
        view->wall_ns += ns;
    }
}

/* False: nobody has asked for that view. */
static bool read_view(const struct ledger *ledger, unsigned number, struct view *view)
{
    *view = (struct view){.number = number, .name = ledger_name(ledger, number)};
    for (unsigned i = 0; view->name && i < ledger->shards; i++)
        add_row(view, &ledger->shard[i].rows[number]);
    return view->requests > 0;
}

static double seconds(uint64_t ns)
{
    return (double)ns / NS_PER_S;
}

/* The time that so many permille of the requests have not exceeded: within its bucket, whose width
 * is a quarter of its bound at most, requests are taken to lie evenly. */
static double quantile_s(const struct view *view, unsigned permille)
{
    double wanted = (double)view->requests * permille / 1000, below = 0;
    for (unsigned i = 0; i < LEDGER_BUCKETS; i++) {
        double count = (double)view->buckets[i];
        uint64_t from_ns = i ? ledger_bound_ns(i - 1) : 0, to_ns = ledger_bound_ns(i);
        if (count == 0 || below + count < wanted) {
            below += count;
            continue;
        }
        if (to_ns == UINT64_MAX)
            return seconds(from_ns);
        return seconds(from_ns) + seconds(to_ns - from_ns) * (wanted - below) / count;
    }
    return 0;
}

static void append_parts(struct buf *out, const uint64_t *parts_ns)
{
    buf_append_str(out, ",\"parts\":{");
    for (unsigned i = 0; i < LEDGER_PARTS; i++)
        buf_printf(out, "%s\"%s\":%.9f", i ? "," : "", ledger_part_names[i], seconds(parts_ns[i]));
    buf_append(out, "}", 1);
}

static void append_view(const struct view *view, struct buf *out)
{
    static const unsigned permilles[] = {500, 900, 950, 990};
    buf_append(out, "{", 1);
    json_text(out, "view", view->name);
    buf_printf(out, ",\"requests\":%" PRIu64 ",\"wall\":%.9f", view->requests,
               seconds(view->wall_ns));
    append_parts(out, view->parts_ns);
    for (unsigned i = 0; i < ARRAY_LEN(permilles); i++)
        buf_printf(out, ",\"p%u\":%.6f", permilles[i] / 10, quantile_s(view, permilles[i]));
    buf_printf(out, ",\"queries\":%" PRIu64 ",\"sent_bytes\":%" PRIu64, view->queries,
               view->sent_bytes);
    buf_printf(out, ",\"gc\":{\"pauses\":%" PRIu64 ",\"time\":%.9f,\"longest\":%.9f}",
               view->pauses.count, seconds(view->pauses.total_ns),
               seconds(view->pauses.longest_ns));
    json_members(out, "responses", class_names, view->classes, LEDGER_CLASSES);
    buf_append(out, "}", 1);
}

void views_json(const struct stats_facts *facts, struct buf *out)
{
    bool first = true;
    struct view view;
    buf_printf(out, "{\"observed\":%s,\"uptime\":%.3f", facts->config->observe ? "true" : "false",
               seconds(facts->now_ns - facts->board->started_ns));
    observe_append_off(facts->board, out);
    buf_append_str(out, ",\"views\":[");
    for (unsigned i = 0; i <= LEDGER_VIEWS; i++)
        if (read_view(facts->board->ledger, i, &view)) {
            json_item(out, &first);
            append_view(&view, out);
        }
    buf_append_str(out, "]}\n");
}

/* ---- requests ---- */

static double since_s(const struct stats_facts *facts, uint64_t then_ns)
{
    return facts->now_ns > then_ns ? seconds(facts->now_ns - then_ns) : 0;
}

static void append_request(struct buf *out, const char *method, const char *path, const char *view)
{
    json_text(out, "method", method);
    buf_append(out, ",", 1);
    json_text(out, "path", path);
    if (view) {
        buf_append(out, ",", 1);
        json_text(out, "view", view);
    }
}

/* What the request waits for in the database. */
static void append_its_statement(const struct stats_facts *facts, uint32_t place, struct buf *out)
{
    char text[STATEMENTS_TEXT_MAX + 1];
    if (place == STATEMENTS_NONE || !statements_text(facts->board->statements, place, text))
        return;
    buf_append(out, ",", 1);
    json_text(out, "statement", text);
}

static void append_running(const struct stats_facts *facts, unsigned slot, unsigned thread,
                           const struct running *running, struct buf *out)
{
    buf_printf(out, "{\"worker\":%u,\"pid\":%d,\"thread\":%u,", slot + 1,
               atomic_load(&facts->board->worker[slot].pid), thread + 1);
    append_request(out, running->method, running->path, running->view);
    buf_append(out, ",", 1);
    json_text(out, "client", running->client);
    buf_append(out, ",", 1);
    json_text(out, "doing", running->doing);
    buf_printf(out, ",\"doing_for\":%.6f,\"elapsed\":%.6f,\"waited\":%.6f",
               since_s(facts, running->doing_since_ns), since_s(facts, running->started_ns),
               running->started_ns > running->accepted_ns
                   ? seconds(running->started_ns - running->accepted_ns)
                   : 0);
    append_its_statement(facts, running->statement, out);
    buf_append(out, "}", 1);
}

static void append_all_running(const struct stats_facts *facts, struct buf *out)
{
    const struct board *board = facts->board;
    struct running running;
    bool first = true;
    for (unsigned slot = 0; slot < board->workers; slot++)
        for (unsigned i = 0; i < board->seats; i++)
            if (running_read(board, &board->seat[slot * board->seats + i], &running)) {
                json_item(out, &first);
                append_running(facts, slot, i, &running, out);
            }
}

static int by_time(const void *a, const void *b)
{
    const struct ledger_slow *left = a, *right = b;
    uint64_t left_ns = atomic_load(&left->wall_ns), right_ns = atomic_load(&right->wall_ns);
    return (left_ns < right_ns) - (left_ns > right_ns);
}

/* Copies of those that are recent, the slowest first; the caller frees them. */
struct slow_list {
    struct ledger_slow *items;
    size_t count;
};

static struct slow_list read_slow(const struct stats_facts *facts)
{
    const struct ledger *ledger = facts->board->ledger;
    struct slow_list list = {xcalloc(ledger->shards * LEDGER_SLOW, sizeof *list.items), 0};
    for (unsigned i = 0; i < ledger->shards; i++)
        for (unsigned k = 0; k < LEDGER_SLOW; k++) {
            struct ledger_slow *slow = &list.items[list.count];
            memcpy(slow, &ledger->shard[i].slow[k], sizeof *slow);
            slow->method[sizeof slow->method - 1] = '\0';
            slow->path[sizeof slow->path - 1] = '\0';
            list.count += atomic_load(&slow->wall_ns) > 0 &&
                          facts->now_ns - slow->ended_ns < LEDGER_RECENT_NS;
        }
    qsort(list.items, list.count, sizeof *list.items, by_time);
    return list;
}

static void append_slow(const struct stats_facts *facts, const struct ledger_slow *slow,
                        struct buf *out)
{
    char trace[TRACE_ID_TEXT + 1];
    buf_append(out, "{", 1);
    append_request(out, slow->method, slow->path, ledger_name(facts->board->ledger, slow->view));
    buf_printf(out, ",\"status\":%u,\"worker\":%u,\"queries\":%u,\"wall\":%.9f,\"ended\":%.3f",
               slow->status, slow->worker, slow->queries, seconds(atomic_load(&slow->wall_ns)),
               (double)facts->now_s - since_s(facts, slow->ended_ns));
    append_parts(out, slow->parts_ns);
    buf_printf(out, ",\"gc\":%.9f", seconds(slow->pauses_ns));
    trace_write_id(slow->trace, trace);
    buf_printf(out, ",\"trace\":\"%s\"}", trace);
}

void views_requests(const struct stats_facts *facts, struct buf *out)
{
    struct slow_list slow = read_slow(facts);
    bool first = true;
    buf_append_str(out, "{\"running\":[");
    append_all_running(facts, out);
    buf_append_str(out, "],\"slowest\":[");
    for (size_t i = 0; i < slow.count; i++) {
        json_item(out, &first);
        append_slow(facts, &slow.items[i], out);
    }
    buf_append_str(out, "]}\n");
    free(slow.items);
}

/* ---- Prometheus ---- */

/* The line of a bucket from its bound on. */
static void metric_bucket(const struct stats_facts *facts, const struct view *view, unsigned bucket,
                          uint64_t count, struct buf *out)
{
    metric_label(out, "view_duration_seconds_bucket", "view", view->name);
    if (bucket < EXEMPLARS_BUCKETS - 1)
        buf_printf(out, ",le=\"%g\"} %" PRIu64, seconds(exemplars_bound_ns(bucket)), count);
    else
        buf_printf(out, ",le=\"+Inf\"} %" PRIu64, count);
    if (facts->has_exemplars)
        exemplars_append(facts, view->number, bucket, out);
    buf_append(out, "\n", 1);
}

static void metric_duration(const struct stats_facts *facts, const struct view *view,
                            struct buf *out)
{
    uint64_t below = 0;
    unsigned next = 0;
    for (unsigned i = 0; i < LEDGER_BUCKETS - 1; i++) {
        below += view->buckets[i];
        if (next < EXEMPLARS_BUCKETS - 1 && ledger_bound_ns(i) == exemplars_bound_ns(next))
            metric_bucket(facts, view, next++, below, out);
    }
    metric_bucket(facts, view, EXEMPLARS_BUCKETS - 1, view->requests, out);
    metric_label(out, "view_duration_seconds_sum", "view", view->name);
    buf_printf(out, "} %.9f\n", seconds(view->wall_ns));
    metric_label(out, "view_duration_seconds_count", "view", view->name);
    buf_printf(out, "} %" PRIu64 "\n", view->requests);
}

static void note_exemplars(const struct stats_facts *facts)
{
    struct slow_list slow = read_slow(facts);
    for (size_t i = 0; i < slow.count; i++)
        exemplars_note(&slow.items[i]);
    free(slow.items);
}

static void metric_durations(const struct stats_facts *facts, struct buf *out)
{
    struct view view;
    if (facts->has_exemplars)
        note_exemplars(facts);
    metric_begin(out, "view_duration_seconds", "histogram",
                 "Time of requests by view, from the first byte to the end of the answer.");
    for (unsigned i = 0; i <= LEDGER_VIEWS; i++)
        if (read_view(facts->board->ledger, i, &view))
            metric_duration(facts, &view, out);
}

static void metric_parts(const struct view *view, struct buf *out)
{
    for (unsigned i = 0; i < LEDGER_PARTS; i++) {
        metric_label(out, "view_seconds_total", "view", view->name);
        buf_printf(out, ",part=\"%s\"} %.9f\n", ledger_part_names[i], seconds(view->parts_ns[i]));
    }
}

static void metric_classes(const struct view *view, struct buf *out)
{
    for (unsigned i = 0; i < LEDGER_CLASSES; i++)
        if (view->classes[i]) {
            metric_label(out, "view_responses_total", "view", view->name);
            buf_printf(out, ",class=\"%s\"} %" PRIu64 "\n", class_names[i], view->classes[i]);
        }
}

static void metric_queries(const struct view *view, struct buf *out)
{
    metric_label(out, "view_queries_total", "view", view->name);
    buf_printf(out, "} %" PRIu64 "\n", view->queries);
}

static void metric_pauses(const struct view *view, struct buf *out)
{
    metric_label(out, "view_gc_pauses_total", "view", view->name);
    buf_printf(out, "} %" PRIu64 "\n", view->pauses.count);
}

static void metric_pauses_time(const struct view *view, struct buf *out)
{
    metric_label(out, "view_gc_pause_seconds_total", "view", view->name);
    buf_printf(out, "} %.9f\n", seconds(view->pauses.total_ns));
}

static void for_all(const struct stats_facts *facts, struct buf *out,
                    void (*write)(const struct view *view, struct buf *out))
{
    struct view view;
    for (unsigned i = 0; i <= LEDGER_VIEWS; i++)
        if (read_view(facts->board->ledger, i, &view))
            write(&view, out);
}

void views_metrics(const struct stats_facts *facts, struct buf *out)
{
    metric_durations(facts, out);
    metric_begin(out, "view_seconds_total", "counter", "The same time by its parts.");
    for_all(facts, out, metric_parts);
    metric_begin(out, "view_responses_total", "counter", "Answers by view and class of status.");
    for_all(facts, out, metric_classes);
    metric_begin(out, "view_queries_total", "counter", "Statements to databases by view.");
    for_all(facts, out, metric_queries);
    metric_begin(out, "view_gc_pauses_total", "counter",
                 "Garbage collections in requests, by view.");
    for_all(facts, out, metric_pauses);
    metric_begin(out, "view_gc_pause_seconds_total", "counter", "Time of these.");
    for_all(facts, out, metric_pauses_time);
}
