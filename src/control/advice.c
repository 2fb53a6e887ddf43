/* advice.c: what the numbers say about the settings, in sentences.
 *
 * Owns the rules. Each looks at what was counted, and says nothing below its thresholds: an advice
 * that is not true costs more than one that is missing. A sentence names the number, the period,
 * and the setting that would change it. */
#include "advice.h"

#include "base/cgroup.h"
#include "config/settings.h"
#include "format.h"
#include "system/backlog.h"
#include "window.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Nothing is said about times before so many requests were seen. */
#define REQUESTS_LEAST  100
/* Waiting that is worth a word: a part of the time, and so much of it. */
#define WAITING_SHARE   0.2
#define WAITING_S       1.0
/* Threads are called unused after so many requests: a rush uses more of them. */
#define UNUSED_REQUESTS 2000
/* A statement is repeated by so many requests. */
#define REPEATED_LEAST  10
/* So many of one kind of advice, those that cost most. */
#define OF_A_KIND       5
#define SENTENCES_MAX   2048
#define PERIOD_MAX      32
#define STATEMENT_SHOWN 160
/* So many connections of each request, on average. */
#define CONNECTS_SHARE  0.5
/* What a page costs each worker, to be worth a word. */
#define PAGE_MB         1.0
#define THREADS_MOST    1024 /* the option's */

/* ---- what is looked at ---- */

struct seen {
    const struct stats_facts *facts;
    const struct board_mold *mold; /* of the workers that serve */
    struct window window;
    double threads_s;          /* what requests have spent in threads */
    unsigned workers, threads; /* the settings */
    unsigned cpus;
    char period[PERIOD_MAX]; /* "the last 12 min" */
};

static double seconds(uint64_t ns)
{
    return (double)ns / NS_PER_S;
}

static double part_s(const struct seen *seen, enum ledger_part part)
{
    return seconds(seen->window.parts_ns[part]);
}

static double share(double part, double rest)
{
    return part > 0 ? part / (part + rest) : 0;
}

static void write_period(char *out, uint64_t ns)
{
    double s = seconds(ns);
    if (s < 10)
        snprintf(out, PERIOD_MAX, "%.1f s", s);
    else if (s < 120)
        snprintf(out, PERIOD_MAX, "%.0f s", s);
    else if (s < 7200)
        snprintf(out, PERIOD_MAX, "%.0f min", s / 60);
    else
        snprintf(out, PERIOD_MAX, "%.0f h", s / 3600);
}

static void look(const struct stats_facts *facts, struct seen *seen)
{
    struct board *board = (struct board *)(uintptr_t)facts->board; /* board_mold has no const */
    *seen =
        (struct seen){.facts = facts, .threads = facts->board->seats, .cpus = cgroup_usable_cpus()};
    window_read(board, &seen->window);
    seen->mold = board_mold(board, seen->window.generation);
    seen->workers = atomic_load(&seen->mold->workers);
    for (unsigned part = LEDGER_GIL; part <= LEDGER_OTHER; part++)
        seen->threads_s += part_s(seen, part);
    write_period(seen->period, seen->window.passed_ns);
}

/* ---- saying it ---- */

struct report {
    struct buf *out;
    bool first;
    const char *rule;
};

/* `number`: what the advice goes by. */
PRINTF_LIKE(4, 5)
static void say(struct report *report, const char *setting, double number, const char *format, ...)
{
    char sentences[SENTENCES_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(sentences, sizeof sentences, format, args);
    va_end(args);
    json_item(report->out, &report->first);
    buf_append(report->out, "{", 1);
    json_text(report->out, "advice", report->rule);
    buf_append(report->out, ",", 1);
    json_text(report->out, "setting", setting);
    buf_printf(report->out, ",\"number\":%.6g,", number);
    json_text(report->out, "text", sentences);
    buf_append(report->out, "}", 1);
}

/* ---- processes and threads ---- */

/* More workers, where there are CPUs for them. */
static void say_workers(struct report *report, const struct seen *seen, double number,
                        const char *what)
{
    if (seen->workers < seen->cpus)
        say(report, "workers", number,
            "%s Each process has an interpreter of its own: raise workers, which is %u, up to the "
            "number of CPUs, which is %u.",
            what, seen->workers, seen->cpus);
    else
        say(report, "", number,
            "%s There are as many workers (%u) as CPUs (%u), so no setting gives them more: only "
            "more CPUs, or less to compute (myserver profile).",
            what, seen->workers, seen->cpus);
}

/* Threads of one worker compute at the same time, and only one of them can. */
static void judge_gil(struct report *report, const struct seen *seen)
{
    char what[SENTENCES_MAX / 2];
    double gil_s = part_s(seen, LEDGER_GIL), part = share(gil_s, seen->threads_s - gil_s);
    if (seen->window.requests < REQUESTS_LEAST || part < WAITING_SHARE || gil_s < WAITING_S)
        return;
    snprintf(what, sizeof what,
             "Requests that had a thread waited %.0f %% of their time (%.1f s, in %" PRIu64
             " requests of the last %s) for the interpreter, which another thread of their worker "
             "had.",
             100 * part, gil_s, seen->window.requests, seen->period);
    if (seen->threads > 1)
        say_workers(report, seen, part, what);
    else
        say(report, "", part,
            "%s A worker runs one request at a time, so those are threads that the application has "
            "started: myserver profile shows what they do.",
            what);
}

/* How many threads there would have to be, so that what has waited runs instead: by Little's law
 * the time of all requests in a second is how many there are at once. */
static unsigned threads_needed(const struct seen *seen, double waited_s)
{
    double needed = seen->threads * (waited_s + seen->threads_s) / seen->threads_s;
    return needed < THREADS_MOST ? (unsigned)(needed + 0.5) : THREADS_MOST;
}

/* How long requests with a thread waited for something that needs no CPU. Of a request of less than
 * 10 ms it is not known how long it wanted one, and that is in its other waiting. */
static double idle_s(const struct seen *seen)
{
    double other_s = part_s(seen, LEDGER_OTHER);
    double delay_s = seconds(seen->window.delay_ns) - part_s(seen, LEDGER_RUNQUEUE);
    other_s -= delay_s < 0 ? 0 : delay_s < other_s ? delay_s : other_s;
    return part_s(seen, LEDGER_DATABASE) + other_s;
}

/* Requests wait for a thread: what do those do that have one? */
static void judge_threads(struct report *report, const struct seen *seen, bool computing)
{
    char what[SENTENCES_MAX / 2];
    double waited_s = part_s(seen, LEDGER_THREAD), part = share(waited_s, seen->threads_s);
    double idle = share(idle_s(seen), seen->threads_s - idle_s(seen));
    if (seen->window.requests < REQUESTS_LEAST || part < WAITING_SHARE || waited_s < WAITING_S ||
        (idle < 0.5) != computing)
        return;
    snprintf(
        what, sizeof what,
        "Requests waited %.0f %% of their time (%.1f s, in %" PRIu64
        " requests of the last %s) for a thread, while those that had one %s for %.0f %% of it.",
        100 * part, waited_s, seen->window.requests, seen->period,
        computing ? "computed" : "waited for a database or something else",
        100 * (computing ? 1 - idle : idle));
    if (computing)
        say_workers(report, seen, part, what);
    else
        say(report, "threads", part,
            "%s Raise threads, which is %u: %u would have had room for all of them.", what,
            seen->threads, threads_needed(seen, waited_s));
}

static void judge_waiting(struct report *report, const struct seen *seen)
{
    judge_threads(report, seen, false);
}

static void judge_computing(struct report *report, const struct seen *seen)
{
    judge_threads(report, seen, true);
}

/* Free threads are used last-in first-out, so seats that were never used are threads that were
 * never needed. */
static void judge_unused(struct report *report, const struct seen *seen)
{
    const struct board *board = seen->facts->board;
    char period[PERIOD_MAX];
    unsigned most = 0;
    uint64_t requests = 0;
    for (unsigned slot = 0; slot < board->workers; slot++) {
        unsigned used = 0;
        for (unsigned i = 0; i < board->seats; i++) {
            uint64_t count = atomic_load(&board->seat[slot * board->seats + i].requests);
            requests += count;
            used += count > 0;
        }
        most = used > most ? used : most;
    }
    if (requests < UNUSED_REQUESTS || most >= board->seats)
        return;
    write_period(period, seen->facts->now_ns - board->started_ns);
    say(report, "threads", most,
        "Of the %u threads of a worker at most %u ever ran a request, in %" PRIu64
        " requests since the start %s ago: threads = %u would do.",
        board->seats, most, requests, period, most);
}

static void judge_cpus(struct report *report, const struct seen *seen)
{
    double delay_s = seconds(seen->window.delay_ns), cpu_s = seconds(seen->window.cpu_ns);
    double part = share(delay_s, cpu_s);
    char what[SENTENCES_MAX / 2];
    if (seen->window.requests < REQUESTS_LEAST || part < WAITING_SHARE || delay_s < WAITING_S)
        return;
    snprintf(what, sizeof what,
             "The threads of the workers were ready to run for %.1f s of the last %s, and had no "
             "CPU in %.0f %% of it (%.1f s).",
             delay_s + cpu_s, seen->period, 100 * part, delay_s);
    if (seen->workers > seen->cpus)
        say(report, "workers", part, "%s %u workers are too many for %u CPUs: lower workers to %u.",
            what, seen->workers, seen->cpus, seen->cpus);
    else
        say(report, "", part,
            "%s There are not more workers (%u) than CPUs (%u), so what has the CPUs is another "
            "program, or threads of the application that compute without the interpreter.",
            what, seen->workers, seen->cpus);
}

/* ---- the kernel ---- */

static unsigned read_somaxconn(void)
{
    unsigned most = 0;
    FILE *file = fopen("/proc/sys/net/core/somaxconn", "re");
    if (file && fscanf(file, "%u", &most) != 1)
        most = 0;
    if (file)
        fclose(file);
    return most;
}

static void judge_backlog(struct report *report, const struct seen *seen)
{
    const struct stats_facts *facts = seen->facts;
    unsigned wanted = facts->config->backlog, most = read_somaxconn(), cut = 0;
    for (size_t i = 0; i < facts->listener_count; i++) /* others, of systemd, have one of theirs */
        cut += facts->backlog[i].known && facts->backlog[i].room == most;
    if (cut == 0 || most >= wanted)
        return;
    say(report, "net.core.somaxconn", most,
        "backlog is %u, and the kernel lets only %u connections wait: sysctl -w "
        "net.core.somaxconn=%u, and restart.",
        wanted, most, wanted);
}

/* ---- the application ---- */

static void judge_debug(struct report *report, const struct seen *seen)
{
    if (!atomic_load(&seen->mold->hints.debugs))
        return;
    say(report, "DEBUG", (double)seen->window.queries,
        "DEBUG is on in Django's settings: it keeps each statement of a request (%" PRIu64
        " in the last %s), and shows its clients settings and source when something fails. Set "
        "DEBUG = False.",
        seen->window.queries, seen->period);
}

/* The text of a statement, as far as it is shown. */
static void write_statement(const struct statements *all, uint64_t hash, char *out)
{
    char text[STATEMENTS_TEXT_MAX + 1];
    uint32_t place = statements_place(all, hash);
    if (place == STATEMENTS_NONE || !statements_text(all, place, text))
        text[0] = '\0';
    bool is_long = strlen(text) > STATEMENT_SHOWN;
    snprintf(out, STATEMENT_SHOWN + 4, "%.*s%s", STATEMENT_SHOWN, text, is_long ? "..." : "");
}

static void say_repeat(struct report *report, const struct seen *seen, unsigned number)
{
    const struct board *board = seen->facts->board;
    const struct statement_repeat *repeat = &board->statements->repeats[number];
    const struct window_repeat *counted = &seen->window.repeats[number];
    char origin[STATEMENTS_ORIGIN_MAX] = "", statement[STATEMENT_SHOWN + 4];
    const char *view = repeat->view ? ledger_name(board->ledger, repeat->view - 1) : NULL;
    double times = (double)counted->queries / (double)counted->requests;
    double ms = 1000 * seconds(counted->time_ns) / (double)counted->requests;
    if (atomic_load_explicit(&repeat->whole, memory_order_acquire))
        memcpy(origin, repeat->origin, sizeof origin - 1);
    write_statement(board->statements, repeat->hash, statement);
    say(report, "", times,
        "A request of %s makes the same statement %.0f times, which takes %.1f ms (in %" PRIu64
        " requests of the last %s)%s%s: %s. One statement for all of them would do: with Django, "
        "select_related or prefetch_related.",
        view ? view : LEDGER_NO_VIEW, times, ms, counted->requests, seen->period,
        origin[0] ? ", at " : "", origin, statement);
}

/* The repeats that have made most statements, and were not said yet: of those with fewer than the
 * last one. */
static void judge_repeats(struct report *report, const struct seen *seen)
{
    bool said[STATEMENTS_REPEATS] = {false};
    for (unsigned count = 0; count < OF_A_KIND; count++) {
        unsigned most = STATEMENTS_REPEATS;
        for (unsigned i = 0; i < STATEMENTS_REPEATS; i++) {
            const struct window_repeat *repeat = &seen->window.repeats[i];
            if (!said[i] && repeat->requests >= REPEATED_LEAST &&
                (most == STATEMENTS_REPEATS ||
                 repeat->queries > seen->window.repeats[most].queries))
                most = i;
        }
        if (most == STATEMENTS_REPEATS)
            return;
        said[most] = true;
        say_repeat(report, seen, most);
    }
}

static void judge_lost_threads(struct report *report, const struct seen *seen)
{
    const struct hints *hints = &seen->mold->hints;
    char text[HINTS_THREAD_MAX] = "";
    unsigned count = atomic_load(&hints->lost_threads);
    if (count == 0)
        return;
    memcpy(text, hints->lost_thread, sizeof text - 1);
    say(report, "preload", count,
        "Of the threads that the application has started at import %u %s not in the workers, as a "
        "fork has only one thread: %s. Start it in a function decorated with @myserver.postfork, "
        "or set preload = false.",
        count, count == 1 ? "is" : "are", text);
}

/* ---- prewarm ---- */

static double page_mb(const struct hints_page *page)
{
    uint32_t workers = atomic_load(&page->workers);
    return workers ? (double)atomic_load(&page->bytes) / workers / 1e6 : 0;
}

static void say_page(struct report *report, const struct seen *seen, const struct hints_page *page)
{
    char path[HINTS_PATH_MAX];
    uint32_t workers = atomic_load(&page->workers);
    const char *view = ledger_name(seen->facts->board->ledger, atomic_load(&page->view) - 1);
    memcpy(path, page->path, sizeof path - 1);
    path[sizeof path - 1] = '\0';
    say(report, "prewarm", page_mb(page),
        "The first request of %s in a worker takes %.1f MB of memory of its own, and %.0f ms, "
        "more than the second (measured in %u of them). With prewarm = %s%s it is made before the "
        "fork, and the %u workers share what it loads.",
        view ? view : LEDGER_NO_VIEW, page_mb(page),
        (double)atomic_load(&page->us) / workers / 1000, workers, path,
        page->has_login ? " (where it needs a login: | Cookie: ... of a user made for it)" : "",
        seen->workers);
}

/* What was not said yet, the largest first. */
static void judge_pages(struct report *report, const struct seen *seen)
{
    const struct hints_page *all = seen->mold->hints.pages;
    bool said[HINTS_PAGES] = {false};
    for (unsigned count = 0; count < OF_A_KIND; count++) {
        unsigned most = HINTS_PAGES;
        for (unsigned i = 0; i < HINTS_PAGES; i++)
            if (!said[i] && atomic_load(&all[i].is_whole) && page_mb(&all[i]) >= PAGE_MB &&
                (most == HINTS_PAGES || page_mb(&all[i]) > page_mb(&all[most])))
                most = i;
        if (most == HINTS_PAGES)
            return;
        said[most] = true;
        say_page(report, seen, &all[most]);
    }
}

/* ---- connections to databases ---- */

/* How many connections requests have to the database at most, where all threads use it. */
static unsigned most_connections(const struct seen *seen, const struct hints_database *database)
{
    if (atomic_load(&database->opened) + atomic_load(&database->failed) == 0)
        return 0;
    return seen->workers * (database->pool_max ? database->pool_max : seen->threads);
}

static void write_alias(const struct hints_database *database, char *out)
{
    memcpy(out, database->alias, HINTS_ALIAS_MAX - 1);
    out[HINTS_ALIAS_MAX - 1] = '\0';
}

/* All databases of one server share its limit. */
static unsigned most_of_server(const struct seen *seen, unsigned count, uint64_t server)
{
    unsigned most = 0;
    for (unsigned i = 0; i < count; i++)
        if (seen->mold->hints.databases[i].server == server)
            most += most_connections(seen, &seen->mold->hints.databases[i]);
    return most;
}

static void say_connections(struct report *report, const struct seen *seen,
                            const struct hints_database *database, unsigned most, uint64_t refused)
{
    char alias[HINTS_ALIAS_MAX], limit[48] = "", refusals[128] = "";
    unsigned allowed = atomic_load(&database->allowed);
    write_alias(database, alias);
    if (allowed)
        snprintf(limit, sizeof limit, ", and it allows %u", allowed);
    if (refused)
        snprintf(refusals, sizeof refusals,
                 ". It has refused %" PRIu64 " in the last %s, as it had too many", refused,
                 seen->period);
    say(report, "threads", most,
        "Requests can have up to %u connections to the server of the database %s (workers = %u, "
        "%s = %u)%s%s. Those of other programs count, too, and those closed a moment ago. Lower "
        "workers or threads, raise its limit (max_connections), or put a pool in between.",
        most, alias, seen->workers, database->pool_max ? "pool" : "threads",
        database->pool_max ? database->pool_max : seen->threads, limit, refusals);
}

static void judge_connections(struct report *report, const struct seen *seen)
{
    const struct hints *hints = &seen->mold->hints;
    unsigned count = atomic_load(&hints->database_count);
    count = count < HINTS_DATABASES ? count : HINTS_DATABASES;
    for (unsigned i = 0; i < count; i++) {
        const struct hints_database *database = &hints->databases[i];
        unsigned most = most_of_server(seen, count, database->server);
        unsigned allowed = atomic_load(&database->allowed);
        uint64_t refused = seen->window.databases[i].refused;
        if (refused > 0 || (allowed > 0 && most > allowed))
            say_connections(report, seen, database, most, refused);
    }
}

/* A connection for each request: what that takes. */
static void judge_connecting(struct report *report, const struct seen *seen)
{
    const struct hints *hints = &seen->mold->hints;
    unsigned count = atomic_load(&hints->database_count);
    for (unsigned i = 0; i < count && i < HINTS_DATABASES; i++) {
        const struct hints_database *database = &hints->databases[i];
        const struct window_database *counted = &seen->window.databases[i];
        double each = (double)counted->opened / (double)(seen->window.requests + 1);
        char alias[HINTS_ALIAS_MAX];
        if (database->keeps || database->pool_max || !database->is_network ||
            seen->window.requests < REQUESTS_LEAST || each < CONNECTS_SHARE)
            continue;
        write_alias(database, alias);
        say(report, "CONN_MAX_AGE", each,
            "CONN_MAX_AGE of the database %s is 0, so that each request opens a connection: %.2f a "
            "request, %.1f ms each (%" PRIu64 " of %" PRIu64
            " requests of the last %s). Set CONN_MAX_AGE = 60 and CONN_HEALTH_CHECKS = True.",
            alias, each, 1000 * seconds(counted->opening_ns) / (double)counted->opened,
            counted->opened, seen->window.requests, seen->period);
    }
}

/* ---- logs ---- */

static void judge_access_log(struct report *report, const struct seen *seen)
{
    double log_s = seconds(seen->window.access_ns), part = share(log_s, seen->threads_s);
    uint64_t lines = seen->window.access_lines;
    if (lines < REQUESTS_LEAST || part < WAITING_SHARE || log_s < WAITING_S)
        return;
    say(report, "access-logfile", part,
        "Writing the access log takes %.2f ms a line, %.0f %% of the time of threads (%.1f s for "
        "%" PRIu64
        " lines of the last %s), and other requests wait meanwhile. Write it where that does not "
        "block (a file on another disk, syslog), leave requests out (access-log-exclude), or let "
        "the proxy write it.",
        1000 * log_s / (double)lines, 100 * part, log_s, lines, seen->period);
}

/* ---- all of them ---- */

static const struct rule {
    const char *name;
    void (*judge)(struct report *report, const struct seen *seen);
} rules[] = {
    {"gil", judge_gil},                   /* threads wait for the interpreter: workers */
    {"computing", judge_computing},       /* threads are taken, and compute: workers */
    {"waiting", judge_waiting},           /* threads are taken, and wait: threads */
    {"unused", judge_unused},             /* threads that were never used: threads */
    {"cpus", judge_cpus},                 /* more wants to run than there are CPUs: workers */
    {"n+1", judge_repeats},               /* one request repeats a statement */
    {"debug", judge_debug},               /* DEBUG of Django */
    {"lost-threads", judge_lost_threads}, /* of the import */
    {"prewarm", judge_pages},             /* pages that cost each worker memory */
    {"connections", judge_connections},   /* more than a database allows: workers, threads */
    {"connecting", judge_connecting},     /* a connection for each request: CONN_MAX_AGE */
    {"access-log", judge_access_log},     /* writing it blocks */
    {"backlog", judge_backlog},           /* net.core.somaxconn */
};

void advice_json(const struct stats_facts *facts, struct buf *out)
{
    struct seen *seen = xmalloc(sizeof *seen);
    struct report report = {.out = out, .first = true};
    look(facts, seen);
    buf_printf(out, "{\"observed\":%s,\"period\":%.3f,\"requests\":%" PRIu64 ",\"advice\":[",
               facts->config->observe ? "true" : "false", seconds(seen->window.passed_ns),
               seen->window.requests);
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        report.rule = rules[i].name;
        rules[i].judge(&report, seen);
    }
    buf_append_str(out, "]}\n");
    free(seen);
}
