/* obituary.c: requests that end with their worker, in the logs.
 *
 * Owns nothing. Writes for a worker that has ended what it can no longer write, from what the board
 * tells of its requests. Does not believe the board, on which a crash may have left anything: texts
 * and numbers are bounded, and the access log escapes them. Runs in the master only. */
#include "obituary.h"

#include "base/log.h"
#include "book.h"
#include "config/settings.h"
#include "http/access.h"
#include "http/request.h"
#include "shared/board.h"
#include "shared/report.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The format of the worker's generation, which may have come with a reload. A worker that drains
 * while two more generations come gets the latest of them. */
static struct access_format *format_of(struct book *b, const struct slot *s)
{
    char text[BOARD_FORMAT_MAX], *wrong = NULL;
    memcpy(text, board_mold(b->board, s->generation)->access_logformat, sizeof text - 1);
    text[sizeof text - 1] = '\0';
    struct access_format *format = access_compile(text, &wrong);
    free(wrong);
    return format ? format : access_compile(b->config->access_logformat, &wrong);
}

static struct http_text add_text(struct buf *out, const char *text, size_t room)
{
    struct http_text added = {(uint32_t)out->len, (uint32_t)strnlen(text, room)};
    buf_append(out, text, added.length);
    return added;
}

/* A request as the parser would have left it, without the query and the headers, which are not on
 * the board. The caller frees `in`. */
static void restore(struct request *request, const struct board_seat *thread)
{
    bool is_old = atomic_load(&thread->version_minor) == 0;
    request->method = add_text(&request->in, thread->method, sizeof thread->method);
    buf_append(&request->in, " ", 1);
    request->path = add_text(&request->in, thread->path, sizeof thread->path);
    buf_append_str(&request->in, is_old ? " HTTP/1.0" : " HTTP/1.1");
    request->line.length = (uint32_t)request->in.len;
}

static unsigned status_of(const struct board_seat *thread)
{
    uint32_t status = atomic_load(&thread->status);
    return status / 100 < BOARD_RESPONSE_CLASSES ? status : 0;
}

static void log_access(const struct access_format *format, const struct board_seat *thread,
                       unsigned worker, pid_t pid)
{
    struct request request = {0};
    struct buf line = {0};
    char client[BOARD_CLIENT_MAX];
    uint64_t now = now_ns(), begin_ns = atomic_load(&thread->accepted_ns);
    uint64_t passed_ns = begin_ns < now ? now - begin_ns : 0;
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    uint64_t start_ns = (uint64_t)wall.tv_sec * NS_PER_S + (uint64_t)wall.tv_nsec - passed_ns;
    restore(&request, thread);
    memcpy(client, thread->client, sizeof client - 1);
    client[sizeof client - 1] = '\0';
    struct access_entry entry = {
        .client = client,
        .request = &request,
        .status = status_of(thread),
        .start = {(time_t)(start_ns / NS_PER_S), (long)(start_ns % NS_PER_S)},
        .duration_ns = passed_ns,
        .worker = worker,
        .pid = pid,
        .end = "worker ended"};
    access_line(format, &entry, &line);
    log_access_line(line.data, line.len);
    buf_fini(&line);
    buf_fini(&request.in);
}

static struct text text_of(const char *text, size_t room)
{
    return (struct text){text, strnlen(text, room)};
}

/* To the account of its view: of its thread only what it did last is known, so all of its time was
 * that. One that the watch has answered is not counted by its thread any more. */
static void account(struct book *b, const struct board_seat *thread, unsigned worker)
{
    uint64_t now = now_ns(), accepted_ns = atomic_load(&thread->accepted_ns),
             started_ns = atomic_load(&thread->started_ns);
    uint32_t view = atomic_load(&thread->view), doing = atomic_load(&thread->doing);
    bool was_answered = atomic_load(&thread->recorded);
    bool is_close = was_answered && thread->client[0] == '\0'; /* no request: answer_close */
    bool is_observed = b->config->observe && observed_is_on(b->board->observed, OBSERVED_VIEWS);
    if (!is_observed || is_close || started_ns > now || accepted_ns > started_ns)
        return;
    struct ledger_entry entry = {
        .view = view > 0 && view <= LEDGER_VIEWS + 1
                    ? view - 1
                    : ledger_view_of(b->board->ledger, LEDGER_NO_VIEW),
        .status = was_answered ? 504 : status_of(thread),
        .ended_ns = now,
        .worker = worker,
        .method = text_of(thread->method, sizeof thread->method),
        .path = text_of(thread->path, sizeof thread->path),
    };
    entry.parts_ns[LEDGER_THREAD] = started_ns - accepted_ns;
    entry.parts_ns[doing == LEDGER_QUERIES ? LEDGER_DATABASE
                   : doing == LEDGER_SENDS ? LEDGER_SEND
                                           : LEDGER_OTHER] = now - started_ns;
    ledger_add(b->board->ledger, worker - 1, &entry);
}

void obituary_write(struct book *b, const struct slot *s)
{
    struct board_worker *shown = book_shown(b, s);
    unsigned number = book_number(b, s);
    struct access_format *format = NULL;
    for (unsigned i = 0; i < b->board->seats; i++) {
        const struct board_seat *thread = board_seat(b->board, number - 1, i);
        if (atomic_load(&thread->phase) != BOARD_RUNNING)
            continue;
        account(b, thread, number);
        if (atomic_load(&thread->recorded))
            continue;
        atomic_fetch_add(&shown->requests, 1);
        atomic_fetch_add(&shown->responses[status_of(thread) / 100], 1);
        if (!format && b->config->access_logfile)
            format = format_of(b, s);
        if (format)
            log_access(format, thread, number, s->pid);
    }
    access_free(format);
}

void obituary_log(struct book *b, const struct slot *s, enum log_level level, const char *format,
                  ...)
{
    struct buf running = {0};
    char what[160];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    report_running(&running, b->board, book_number(b, s) - 1, REPORT_ALL, 0);
    if (running.len > 0 && level < LOG_WARNING)
        level = LOG_WARNING;
    log_block(level, running.data, running.len, "worker %u (pid %d) %s%s", book_number(b, s),
              s->pid, what, running.len > 0 ? "; it was running" : "");
    buf_fini(&running);
}
