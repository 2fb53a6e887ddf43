/* cut.c: requests that end with their worker.
 *
 * Owns nothing. Writes for a worker that has ended what it can no longer write, from what the board
 * tells of its requests. Does not believe the board, on which a crash may have left anything: texts
 * and numbers are bounded, and the access log escapes them. Runs in the master only. */
#include "cut.h"

#include "base/log.h"
#include "config/settings.h"
#include "http/access.h"
#include "http/request.h"
#include "master/book.h"
#include "shared/board.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The format of the worker's generation, which may have come with a reload. A worker that drains
 * while two more generations come gets the latest of them. */
static struct access_format *format_of(struct book *b, const struct slot *s)
{
    char text[BOARD_FORMAT_MAX], *wrong = NULL;
    memcpy(text, b->board->molds[s->generation % 2].access_logformat, sizeof text - 1);
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
static void restore(struct http *request, const struct board_thread *thread)
{
    bool is_old = atomic_load(&thread->version_minor) == 0;
    request->method = add_text(&request->in, thread->method, sizeof thread->method);
    buf_append(&request->in, " ", 1);
    request->path = add_text(&request->in, thread->path, sizeof thread->path);
    buf_append_str(&request->in, is_old ? " HTTP/1.0" : " HTTP/1.1");
    request->line.length = (uint32_t)request->in.len;
}

static unsigned status_of(const struct board_thread *thread)
{
    uint32_t status = atomic_load(&thread->status);
    return status / 100 < BOARD_RESPONSE_CLASSES ? status : 0;
}

static void log_access(const struct access_format *format, const struct board_thread *thread,
                       unsigned worker, pid_t pid)
{
    struct http request = {0};
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

void cut_record(struct book *b, const struct slot *s)
{
    struct board_worker *shown = book_shown(b, s);
    unsigned number = book_number(b, s);
    struct access_format *format = NULL;
    for (unsigned i = 0; i < b->board->threads; i++) {
        const struct board_thread *thread = board_thread(b->board, number - 1, i);
        if (atomic_load(&thread->phase) != BOARD_RUNNING || atomic_load(&thread->recorded))
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
