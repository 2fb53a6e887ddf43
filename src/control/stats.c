/* stats.c: the board as text.
 *
 * Owns the three forms: uWSGI's JSON, Prometheus's text, and the server's own JSON. Adds up the
 * slots while it writes; the workers do not wait for it, so the numbers of one document are of
 * nearly, but not exactly, the same moment.
 *
 * Opens no file and no socket. Does not trust a text on the board to be whole: a thread may be
 * writing it. Never shows more of a request than method, path and client. */
#include "stats.h"

#include "base/log.h"
#include "config/settings.h"
#include "format.h"
#include "running.h"
#include "system/backlog.h"
#include "system/usage.h"

#include <inttypes.h>

struct sums {
    uint64_t requests, exceptions, timeouts, queue_timeouts, sent_bytes;
    uint64_t responses[BOARD_RESPONSE_CLASSES];
    uint64_t latency_ns, latency[BOARD_LATENCY_BOUNDS + 1], latency_count;
    uint64_t connections, taken_over;
    struct ledger_pauses pauses[2]; /* as in board_worker */
    unsigned busy, idle;            /* threads of living workers */
};

static const char *const state_names[] = {
    [BOARD_WORKER_EMPTY] = "empty",
    [BOARD_WORKER_STARTING] = "starting",
    [BOARD_WORKER_SERVING] = "serving",
    [BOARD_WORKER_DRAINING] = "draining",
};
static const char *const class_names[BOARD_RESPONSE_CLASSES] = {"none", "1xx", "2xx",
                                                                "3xx",  "4xx", "5xx"};

/* ---- reading the board ---- */

static const struct board_seat *thread_of(const struct board *board, unsigned slot, unsigned i)
{
    return &board->seat[slot * board->seats + i];
}

/* A child may have written any number there: one that is no state counts as EMPTY. */
static unsigned state_of(const struct board_worker *worker)
{
    unsigned state = atomic_load(&worker->state);
    return state < ARRAY_LEN(state_names) ? state : BOARD_WORKER_EMPTY;
}

static bool was_used(const struct board_worker *worker)
{
    return state_of(worker) != BOARD_WORKER_EMPTY || atomic_load(&worker->spawns) > 0;
}

static void add_threads(const struct board *board, unsigned slot, struct sums *sums)
{
    bool alive = state_of(&board->worker[slot]) >= BOARD_WORKER_SERVING;
    for (unsigned i = 0; i < board->seats; i++) {
        const struct board_seat *thread = thread_of(board, slot, i);
        sums->busy += alive && running_is(thread);
        sums->idle += alive && !running_is(thread);
        sums->latency_ns += atomic_load(&thread->latency_ns);
        for (unsigned k = 0; k <= BOARD_LATENCY_BOUNDS; k++) {
            uint64_t count = atomic_load(&thread->latency[k]);
            sums->latency[k] += count;
            sums->latency_count += count;
        }
    }
}

static void add_pauses(const struct board_worker *worker, struct sums *sums)
{
    for (unsigned i = 0; i < ARRAY_LEN(sums->pauses); i++) {
        uint64_t longest_ns = atomic_load(&worker->pauses[i].longest_ns);
        sums->pauses[i].count += atomic_load(&worker->pauses[i].count);
        sums->pauses[i].total_ns += atomic_load(&worker->pauses[i].total_ns);
        if (longest_ns > sums->pauses[i].longest_ns)
            sums->pauses[i].longest_ns = longest_ns;
    }
}

static void add_worker(const struct board *board, unsigned slot, struct sums *sums)
{
    const struct board_worker *worker = &board->worker[slot];
    sums->requests += atomic_load(&worker->requests);
    sums->exceptions += atomic_load(&worker->exceptions);
    sums->timeouts += atomic_load(&worker->timeouts);
    sums->queue_timeouts += atomic_load(&worker->queue_timeouts);
    sums->sent_bytes += atomic_load(&worker->sent_bytes);
    sums->connections += atomic_load(&worker->connections);
    sums->taken_over += atomic_load(&worker->taken_over);
    for (unsigned i = 0; i < BOARD_RESPONSE_CLASSES; i++)
        sums->responses[i] += atomic_load(&worker->responses[i]);
    add_pauses(worker, sums);
    add_threads(board, slot, sums);
}

static struct sums sum_worker(const struct board *board, unsigned slot)
{
    struct sums sums = {0};
    add_worker(board, slot, &sums);
    return sums;
}

static struct sums sum_all(const struct board *board)
{
    struct sums sums = {0};
    for (unsigned slot = 0; slot < board->workers; slot++)
        add_worker(board, slot, &sums);
    return sums;
}

static uint64_t since_ns(const struct stats_facts *facts, uint64_t then_ns)
{
    return facts->now_ns > then_ns ? facts->now_ns - then_ns : 0;
}

static unsigned count_waiting(const struct stats_facts *facts)
{
    unsigned waiting = 0;
    for (size_t i = 0; i < facts->listener_count; i++)
        waiting += facts->backlog[i].waiting;
    return waiting;
}

/* How many requests run and wait for each thread that serves: 1 when all threads are busy and
 * nothing waits. A worker that drains takes nothing any more, and counts only with what waits
 * there. When no worker serves, as if there were one thread: what waits is still to be seen. */
static double saturation_of(const struct stats_facts *facts)
{
    const struct board *board = facts->board;
    unsigned threads = 0, wanted = count_waiting(facts);
    for (unsigned slot = 0; slot < board->workers; slot++) {
        const struct board_worker *worker = &board->worker[slot];
        unsigned state = state_of(worker);
        if (state >= BOARD_WORKER_SERVING)
            wanted += atomic_load(&worker->waiting);
        if (state != BOARD_WORKER_SERVING)
            continue;
        threads += board->seats;
        for (unsigned i = 0; i < board->seats; i++)
            wanted += running_is(thread_of(board, slot, i));
    }
    return (double)wanted / (threads ? threads : 1);
}

bool stats_is_ready(const struct board *board)
{
    return board_is_served(board) && !stats_is_stopping(board);
}

bool stats_is_stopping(const struct board *board)
{
    return atomic_load(&board->leaving) || atomic_load(&board->stopping);
}

/* ---- uWSGI's JSON ---- */

static void append_uwsgi_sockets(const struct stats_facts *facts, struct buf *out)
{
    bool first = true;
    buf_append_str(out, ",\"sockets\":[");
    for (size_t i = 0; i < facts->listener_count; i++) {
        const struct backlog *backlog = &facts->backlog[i];
        bool is_uwsgi = strncmp(facts->listeners[i], "uwsgi:", 6) == 0;
        json_item(out, &first);
        buf_append(out, "{", 1);
        json_text(out, "name", facts->listeners[i]);
        buf_printf(out,
                   ",\"proto\":\"%s\",\"queue\":%u,\"max_queue\":%u,\"shared\":0,"
                   "\"can_offload\":0}",
                   is_uwsgi ? "uwsgi" : "http", backlog->waiting, backlog->room);
    }
    buf_append(out, "]", 1);
}

/* uWSGI shows all variables of a request; this shows only those that hold no secret. */
static void append_uwsgi_vars(const struct running *running, struct buf *out)
{
    const char *const names[] = {"REQUEST_METHOD", "REQUEST_URI", "REMOTE_ADDR"};
    const char *const values[] = {running->method, running->path, running->client};
    for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
        buf_printf(out, "\"%s=", names[i]);
        log_escape_json(out, values[i], strlen(values[i]));
        buf_append_str(out, "\",");
    }
    buf_append_str(out, "\"\"");
}

static void append_uwsgi_core(const struct stats_facts *facts, unsigned number,
                              const struct board_seat *thread, struct buf *out)
{
    struct running running;
    bool busy = running_read(facts->board, thread, &running);
    buf_printf(out,
               "{\"id\":%u,\"requests\":%" PRIu64 ",\"static_requests\":0,\"routed_requests\":0,"
               "\"offloaded_requests\":0,\"write_errors\":0,\"read_errors\":0,\"in_request\":%d,"
               "\"vars\":[",
               number, atomic_load(&thread->requests), busy);
    if (busy)
        append_uwsgi_vars(&running, out);
    buf_append_str(out, "],\"req_info\":{");
    if (busy)
        buf_printf(out, "\"request_start\":%lld",
                   (long long)facts->now_s -
                       (long long)(since_ns(facts, running.started_ns) / NS_PER_S));
    buf_append_str(out, "}}");
}

static void append_uwsgi_cores(const struct stats_facts *facts, unsigned slot, struct buf *out)
{
    bool first = true;
    buf_append_str(out, ",\"cores\":[");
    for (unsigned i = 0; i < facts->board->seats; i++) {
        json_item(out, &first);
        append_uwsgi_core(facts, i, thread_of(facts->board, slot, i), out);
    }
    buf_append(out, "]", 1);
}

static const char *uwsgi_status(const struct board_worker *worker, const struct sums *sums)
{
    if (state_of(worker) == BOARD_WORKER_EMPTY)
        return "cheap";
    return sums->busy > 0 ? "busy" : "idle";
}

static void append_uwsgi_app(const struct stats_facts *facts, const struct sums *sums,
                             struct buf *out)
{
    buf_append_str(out, ",\"apps\":[{\"id\":0,\"modifier1\":0,");
    json_text(out, "mountpoint", facts->config->script_name);
    buf_printf(out, ",\"startup_time\":0,\"requests\":%" PRIu64 ",\"exceptions\":%" PRIu64 ",",
               sums->requests, sums->exceptions);
    json_text(out, "chdir", facts->config->chdir);
    buf_append_str(out, "}]");
}

static void append_uwsgi_worker(const struct stats_facts *facts, unsigned slot, struct buf *out)
{
    const struct board_worker *worker = &facts->board->worker[slot];
    const struct usage *usage = &facts->usage[slot];
    struct sums sums = sum_worker(facts->board, slot);
    bool alive = state_of(worker) != BOARD_WORKER_EMPTY;
    uint64_t spawns = atomic_load(&worker->spawns);
    buf_printf(out, "{\"id\":%u,\"pid\":%d,\"accepting\":%d", slot + 1,
               alive ? atomic_load(&worker->pid) : 0, state_of(worker) == BOARD_WORKER_SERVING);
    buf_printf(out,
               ",\"requests\":%" PRIu64 ",\"delta_requests\":%" PRIu64 ",\"exceptions\":%" PRIu64
               ",\"harakiri_count\":%" PRIu64 ",\"signals\":0,\"signal_queue\":0,"
               "\"status\":\"%s\"",
               sums.requests, sums.requests, sums.exceptions, sums.timeouts,
               uwsgi_status(worker, &sums));
    buf_printf(out, ",\"rss\":%" PRIu64 ",\"vsz\":%" PRIu64 ",\"uss\":%" PRIu64 ",\"pss\":%" PRIu64,
               usage->resident_bytes, usage->virtual_bytes, usage->private_bytes, usage->pss_bytes);
    buf_printf(out,
               ",\"running_time\":%" PRIu64 ",\"last_spawn\":%" PRIu64 ",\"respawn_count\":%" PRIu64
               ",\"tx\":%" PRIu64 ",\"avg_rt\":%" PRIu64,
               sums.latency_ns / 1000, atomic_load(&worker->spawned_s), spawns ? spawns - 1 : 0,
               sums.sent_bytes,
               sums.latency_count ? sums.latency_ns / sums.latency_count / 1000 : 0);
    append_uwsgi_app(facts, &sums, out);
    append_uwsgi_cores(facts, slot, out);
    buf_append(out, "}", 1);
}

void stats_uwsgi(const struct stats_facts *facts, struct buf *out)
{
    const struct board *board = facts->board;
    bool first = true;
    buf_append(out, "{", 1);
    json_text(out, "version", "myserver-" MYSERVER_VERSION);
    buf_printf(out,
               ",\"listen_queue\":%u,\"listen_queue_errors\":0,\"signal_queue\":0,\"load\":%u,"
               "\"pid\":%d,\"uid\":%u,\"gid\":%u,",
               count_waiting(facts), sum_all(board).busy, atomic_load(&board->master_pid),
               (unsigned)facts->user, (unsigned)facts->group);
    json_text(out, "cwd", facts->directory);
    buf_append_str(out, ",\"locks\":[]");
    append_uwsgi_sockets(facts, out);
    buf_append_str(out, ",\"workers\":[");
    for (unsigned slot = 0; slot < board->workers; slot++) {
        if (!was_used(&board->worker[slot]))
            continue;
        json_item(out, &first);
        append_uwsgi_worker(facts, slot, out);
    }
    buf_append_str(out, "]}\n");
}

/* ---- Prometheus ---- */

static void append_histogram(const struct sums *sums, struct buf *out)
{
    uint64_t below = 0;
    metric_begin(out, "request_duration_seconds", "histogram",
                 "Time from a whole request to the end of its answer.");
    for (unsigned i = 0; i < BOARD_LATENCY_BOUNDS; i++) {
        below += sums->latency[i];
        buf_printf(out, "myserver_request_duration_seconds_bucket{le=\"%g\"} %" PRIu64 "\n",
                   (double)board_latency_bounds_ns[i] / NS_PER_S, below);
    }
    buf_printf(out,
               "myserver_request_duration_seconds_bucket{le=\"+Inf\"} %" PRIu64 "\n"
               "myserver_request_duration_seconds_sum %.9f\n"
               "myserver_request_duration_seconds_count %" PRIu64 "\n",
               sums->latency_count, (double)sums->latency_ns / NS_PER_S, sums->latency_count);
}

static void append_requests(const struct sums *sums, struct buf *out)
{
    metric(out, "requests_total", "counter",
           "Requests that ended, however, also with their worker.", sums->requests);
    metric_begin(out, "responses_total", "counter",
                 "Answers by class of status; none: the client had gone, or the worker ended.");
    metric_counts(out, "responses_total", "class", class_names, sums->responses,
                  ARRAY_LEN(class_names));
    metric(out, "exceptions_total", "counter", "Uncaught exceptions of the application.",
           sums->exceptions);
    metric(out, "timeouts_total", "counter", "Requests that ran into the timeout.", sums->timeouts);
    metric(out, "queue_timeouts_total", "counter",
           "Requests that were refused because they had waited for too long.",
           sums->queue_timeouts);
    metric(out, "sent_bytes_total", "counter", "Bytes handed to the kernel for clients.",
           sums->sent_bytes);
    append_histogram(sums, out);
    metric_begin(out, "threads", "gauge", "Threads of the workers, by what they do.");
    buf_printf(out, "myserver_threads{state=\"busy\"} %u\nmyserver_threads{state=\"idle\"} %u\n",
               sums->busy, sums->idle);
    metric(out, "connections", "gauge", "Open connections of clients.", sums->connections);
    metric(out, "taken_over_connections", "gauge",
           "Of these, those whose socket the application has taken over (WebSocket).",
           sums->taken_over);
}

static const char *const pause_names[] = {"in_requests", "between_requests"};

static void append_pauses(const struct sums *sums, struct buf *out)
{
    const uint64_t counts[] = {sums->pauses[0].count, sums->pauses[1].count};
    metric_begin(out, "gc_pauses_total", "counter",
                 "Garbage collections, in requests and by the server between them.");
    metric_counts(out, "gc_pauses_total", "when", pause_names, counts, ARRAY_LEN(counts));
    metric_begin(out, "gc_pause_seconds_total", "counter", "Time of these.");
    for (unsigned i = 0; i < ARRAY_LEN(pause_names); i++)
        buf_printf(out, "myserver_gc_pause_seconds_total{when=\"%s\"} %.9f\n", pause_names[i],
                   (double)sums->pauses[i].total_ns / NS_PER_S);
    metric_begin(out, "gc_longest_pause_seconds", "gauge", "The longest of these.");
    for (unsigned i = 0; i < ARRAY_LEN(pause_names); i++)
        buf_printf(out, "myserver_gc_longest_pause_seconds{when=\"%s\"} %.9f\n", pause_names[i],
                   (double)sums->pauses[i].longest_ns / NS_PER_S);
}

static void append_saturation(const struct stats_facts *facts, struct buf *out)
{
    metric_begin(out, "saturation_ratio", "gauge",
                 "Requests that run or wait, for each thread: above 1 some wait.");
    buf_printf(out, "myserver_saturation_ratio %.4f\n", saturation_of(facts));
}

static void append_queues(const struct stats_facts *facts, struct buf *out)
{
    metric_begin(out, "listen_queue_length", "gauge", "Connections that wait to be accepted.");
    for (size_t i = 0; i < facts->listener_count; i++)
        if (facts->backlog[i].known) {
            metric_label(out, "listen_queue_length", "listener", facts->listeners[i]);
            buf_printf(out, "} %u\n", facts->backlog[i].waiting);
        }
    metric_begin(out, "listen_queue_max", "gauge", "How many may wait.");
    for (size_t i = 0; i < facts->listener_count; i++)
        if (facts->backlog[i].known) {
            metric_label(out, "listen_queue_max", "listener", facts->listeners[i]);
            buf_printf(out, "} %u\n", facts->backlog[i].room);
        }
}

static void append_workers(const struct board *board, struct buf *out)
{
    uint64_t states[ARRAY_LEN(state_names)] = {0}, ends[BOARD_END_COUNT], spawns = 0;
    for (unsigned slot = 0; slot < board->workers; slot++) {
        states[state_of(&board->worker[slot])]++;
        spawns += atomic_load(&board->worker[slot].spawns);
    }
    for (unsigned i = 0; i < BOARD_END_COUNT; i++)
        ends[i] = atomic_load(&board->ends[i]);
    metric_begin(out, "workers", "gauge", "Workers by state.");
    metric_counts(out, "workers", "state", state_names + BOARD_WORKER_STARTING,
                  states + BOARD_WORKER_STARTING, ARRAY_LEN(state_names) - 1);
    metric(out, "worker_starts_total", "counter", "Workers that were forked.", spawns);
    metric_begin(out, "worker_ends_total", "counter", "Workers that ended, by reason.");
    metric_counts(out, "worker_ends_total", "reason", board_end_names, ends, BOARD_END_COUNT);
}

static void append_memory(const struct stats_facts *facts, struct buf *out)
{
    metric_begin(out, "worker_memory_bytes", "gauge",
                 "Memory of a worker: resident, proportional (shared pages divided by those who "
                 "share them), private, and what it still shares with the mold.");
    for (unsigned slot = 0; slot < facts->board->workers; slot++) {
        const struct usage *usage = &facts->usage[slot];
        const char *const kinds[] = {"resident", "proportional", "private", "of_mold"};
        const uint64_t bytes[] = {usage->resident_bytes, usage->pss_bytes, usage->private_bytes,
                                  usage->still_shared_bytes};
        for (unsigned i = 0; i < ARRAY_LEN(kinds); i++)
            if (bytes[i])
                buf_printf(out,
                           "myserver_worker_memory_bytes{worker=\"%u\",kind=\"%s\"} %" PRIu64 "\n",
                           slot + 1, kinds[i], bytes[i]);
    }
}

static void append_server(const struct stats_facts *facts, struct buf *out)
{
    uint64_t uptime_s = since_ns(facts, facts->board->started_ns) / NS_PER_S;
    metric_begin(out, "info", "gauge", "What serves; the value is 1.");
    metric_label(out, "info", "app", facts->config->app);
    buf_append_str(out, ",version=\"" MYSERVER_VERSION "\",python=\"" MYSERVER_PYTHON "\"} 1\n");
    metric(out, "start_time_seconds", "gauge", "When the server was started (Unix time).",
           facts->board->started_s);
    metric(out, "uptime_seconds", "gauge", "How long ago that is.", uptime_s);
    metric(out, "ready", "gauge", "1 when a worker serves and the server does not stop.",
           stats_is_ready(facts->board));
}

void stats_metrics(const struct stats_facts *facts, struct buf *out)
{
    struct sums sums = sum_all(facts->board);
    append_server(facts, out);
    append_requests(&sums, out);
    append_pauses(&sums, out);
    append_saturation(facts, out);
    append_queues(facts, out);
    append_workers(facts->board, out);
    append_memory(facts, out);
}

/* ---- the server's own JSON ---- */

static void append_sums(const struct sums *sums, struct buf *out)
{
    buf_printf(out,
               "\"requests\":%" PRIu64 ",\"exceptions\":%" PRIu64 ",\"timeouts\":%" PRIu64
               ",\"queue_timeouts\":%" PRIu64 ",\"sent_bytes\":%" PRIu64 ",\"connections\":%" PRIu64
               ",\"threads\":{\"busy\":%u,\"idle\":%u}",
               sums->requests, sums->exceptions, sums->timeouts, sums->queue_timeouts,
               sums->sent_bytes, sums->connections, sums->busy, sums->idle);
    json_members(out, "responses", class_names, sums->responses, BOARD_RESPONSE_CLASSES);
    buf_append_str(out, ",\"gc\":{");
    for (unsigned i = 0; i < ARRAY_LEN(pause_names); i++)
        buf_printf(out, "%s\"%s\":{\"pauses\":%" PRIu64 ",\"time_s\":%.9f,\"longest_s\":%.9f}",
                   i ? "," : "", pause_names[i], sums->pauses[i].count,
                   (double)sums->pauses[i].total_ns / NS_PER_S,
                   (double)sums->pauses[i].longest_ns / NS_PER_S);
    buf_append(out, "}", 1);
    buf_printf(out, ",\"duration\":{\"count\":%" PRIu64 ",\"sum_s\":%.9f,\"buckets\":[",
               sums->latency_count, (double)sums->latency_ns / NS_PER_S);
    for (unsigned i = 0; i <= BOARD_LATENCY_BOUNDS; i++)
        if (i < BOARD_LATENCY_BOUNDS)
            buf_printf(out, "{\"to_s\":%g,\"count\":%" PRIu64 "},",
                       (double)board_latency_bounds_ns[i] / NS_PER_S, sums->latency[i]);
        else
            buf_printf(out, "{\"to_s\":null,\"count\":%" PRIu64 "}]}", sums->latency[i]);
}

static void append_running(const struct stats_facts *facts, unsigned slot, struct buf *out)
{
    bool first = true;
    buf_append_str(out, ",\"running\":[");
    for (unsigned i = 0; i < facts->board->seats; i++) {
        struct running running;
        if (!running_read(facts->board, thread_of(facts->board, slot, i), &running))
            continue;
        json_item(out, &first);
        buf_printf(out, "{\"thread\":%u,", i + 1);
        json_text(out, "method", running.method);
        buf_append(out, ",", 1);
        json_text(out, "path", running.path);
        buf_append(out, ",", 1);
        json_text(out, "client", running.client);
        buf_printf(out, ",\"elapsed_s\":%.3f}",
                   (double)since_ns(facts, running.started_ns) / NS_PER_S);
    }
    buf_append(out, "]", 1);
}

static void append_worker(const struct stats_facts *facts, unsigned slot, struct buf *out)
{
    const struct board_worker *worker = &facts->board->worker[slot];
    const struct usage *usage = &facts->usage[slot];
    struct sums sums = sum_worker(facts->board, slot);
    unsigned state = state_of(worker);
    buf_printf(out, "{\"worker\":%u,\"pid\":%d,\"state\":\"%s\",\"generation\":%u", slot + 1,
               state == BOARD_WORKER_EMPTY ? 0 : atomic_load(&worker->pid), state_names[state],
               atomic_load(&worker->generation));
    buf_printf(out, ",\"starts\":%" PRIu64 ",\"started_at\":%" PRIu64 ",",
               atomic_load(&worker->spawns), atomic_load(&worker->spawned_s));
    append_sums(&sums, out);
    const struct board_beginning *beginning = &worker->beginning;
    buf_printf(out,
               ",\"memory\":{\"resident_bytes\":%" PRIu64 ",\"proportional_bytes\":%" PRIu64
               ",\"private_bytes\":%" PRIu64 ",\"of_mold_bytes\":%" PRIu64,
               usage->resident_bytes, usage->pss_bytes, usage->private_bytes,
               usage->still_shared_bytes);
    buf_printf(out,
               ",\"at_start\":{\"requests\":%" PRIu64 ",\"private_bytes\":%" PRIu64
               ",\"of_mold_bytes\":%" PRIu64 "}}",
               atomic_load(&beginning->requests), atomic_load(&beginning->private_bytes),
               atomic_load(&beginning->of_mold_bytes));
    append_running(facts, slot, out);
    buf_append(out, "}", 1);
}

static void append_listeners(const struct stats_facts *facts, struct buf *out)
{
    bool first = true;
    buf_append_str(out, ",\"listeners\":[");
    for (size_t i = 0; i < facts->listener_count; i++) {
        json_item(out, &first);
        buf_append(out, "{", 1);
        json_text(out, "name", facts->listeners[i]);
        if (facts->backlog[i].known)
            buf_printf(out, ",\"waiting\":%u,\"room\":%u", facts->backlog[i].waiting,
                       facts->backlog[i].room);
        buf_append(out, "}", 1);
    }
    buf_append(out, "]", 1);
}

static void append_head(const struct stats_facts *facts, struct buf *out)
{
    const struct board *board = facts->board;
    json_text(out, "app", facts->config->app);
    buf_printf(
        out,
        ",\"version\":\"" MYSERVER_VERSION "\",\"python\":\"" MYSERVER_PYTHON
        "\",\"pid\":%d,\"uptime_s\":%.3f,\"ready\":%s,\"stopping\":%s",
        atomic_load(&board->master_pid), (double)since_ns(facts, board->started_ns) / NS_PER_S,
        stats_is_ready(board) ? "true" : "false", stats_is_stopping(board) ? "true" : "false");
}

void stats_json(const struct stats_facts *facts, struct buf *out)
{
    const struct board *board = facts->board;
    struct sums sums = sum_all(board);
    uint64_t ends[BOARD_END_COUNT];
    bool first = true;
    for (unsigned i = 0; i < BOARD_END_COUNT; i++)
        ends[i] = atomic_load(&board->ends[i]);
    buf_append(out, "{", 1);
    append_head(facts, out);
    append_listeners(facts, out);
    json_members(out, "worker_ends", board_end_names, ends, BOARD_END_COUNT);
    buf_append_str(out, ",\"total\":{");
    append_sums(&sums, out);
    buf_printf(out, "},\"saturation\":%.4f,\"workers\":[", saturation_of(facts));
    for (unsigned slot = 0; slot < board->workers; slot++) {
        if (!was_used(&board->worker[slot]))
            continue;
        json_item(out, &first);
        append_worker(facts, slot, out);
    }
    buf_append_str(out, "]}\n");
}
