/* files.c: the handler of static files.
 *
 * Each request opens its file anew, so a file that a deploy has replaced is served at once. Chooses
 * the form of the file by Accept-Encoding and the part of it by the preconditions and Range
 * (select.h); the loop sends what the client does not take at once, as with any answer. Owns
 * nothing. Waits for the disk only. */
#include "files.h"

#include "base/date.h"
#include "base/fds.h"
#include "base/log.h"
#include "client.h"
#include "config/settings.h"
#include "http/select.h"
#include "reply.h"
#include "roots.h"
#include "system/beneath.h"
#include "system/types.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Several ranges are put together in memory; with more than this, all of the file is sent. */
#define PARTS_MAX_BYTES (1024 * 1024)
#define FOREVER         "public, max-age=31536000, immutable"
/* Without a hash in its name a file may change with the next deploy. */
#define SHORTLY         "public, max-age=60"

struct file {
    char name[PATH_MAX];       /* relative to the directory, without the suffix of a coding */
    int fd;                    /* owned; -1: not open */
    enum select_coding coding; /* of what is in `fd` */
    bool varies;               /* there are other forms of it */
    struct select_file facts;
};

/* ---- finding it ---- */

/* Opens a regular file. -1 with errno, ENOENT for one of another kind. */
static int open_regular(int dir_fd, const char *name, struct stat *st)
{
    int fd = fds_spare(beneath_open(dir_fd, name));
    if (fd < 0 || (fstat(fd, st) == 0 && S_ISREG(st->st_mode)))
        return fd;
    close(fd);
    errno = ENOENT;
    return -1;
}

/* The same file has the same tag on all machines to which it came with its time. */
static void describe(struct file *file, const struct stat *st)
{
    time_t now = time(NULL);
    const char *coding =
        file->coding == CODING_IDENTITY ? "" : select_coding_suffixes[file->coding];
    uint64_t time_ns = (uint64_t)st->st_mtim.tv_sec * NS_PER_S + (uint64_t)st->st_mtim.tv_nsec;
    snprintf(file->facts.etag, sizeof(file->facts.etag), "\"%" PRIx64 "-%" PRIx64 "%s\"", time_ns,
             (uint64_t)st->st_size, coding);
    /* RFC 9110 8.8.2.1: never later than Date */
    file->facts.modified = st->st_mtim.tv_sec < now ? st->st_mtim.tv_sec : now;
    file->facts.bytes = (uint64_t)st->st_size;
}

/* Takes the form of the file that the client likes best: what build tools have compressed lies
 * beside it, under its name with a suffix. */
static void choose_coding(struct file *file, int dir_fd, struct text accepted, struct stat *st)
{
    char name[PATH_MAX + 8];
    int fds[CODING_COUNT];
    struct stat stats[CODING_COUNT];
    unsigned there = 0;
    for (unsigned i = 0; i < CODING_COUNT; i++) {
        snprintf(name, sizeof(name), "%s%s", file->name, select_coding_suffixes[i]);
        fds[i] = open_regular(dir_fd, name, &stats[i]);
        if (fds[i] >= 0)
            there |= 1u << i;
    }
    file->varies = there != 0;
    file->coding = select_coding_of(accepted, there);
    for (unsigned i = 0; i < CODING_COUNT; i++) {
        int *unused = i == file->coding ? &file->fd : &fds[i];
        if (*unused >= 0)
            close(*unused);
    }
    if (file->coding == CODING_IDENTITY)
        return;
    file->fd = fds[file->coding];
    *st = stats[file->coding];
}

static unsigned status_of(int error)
{
    switch (error) {
    case EACCES:
    case EPERM:
        return 403;
    case EAGAIN: /* another process has a lease on it */
    case EMFILE:
    case ENFILE:
    case ENOMEM:
        return 503;
    case EIO:
        return 500;
    default:
        return 404; /* also a way that leads out of the directory */
    }
}

/* Opens the file that `path` names, and its directory. Returns 0, or with nothing open the status
 * to answer. */
static unsigned open_file(struct file *file, struct text path, struct stat *st, int *dir_fd)
{
    const struct root *root = roots_of(path);
    if (!root || !roots_name(root, path, file->name))
        return 404;
    *dir_fd = fds_spare(roots_open(root));
    if (*dir_fd < 0)
        return status_of(errno);
    file->coding = CODING_IDENTITY;
    file->fd = open_regular(*dir_fd, file->name, st);
    if (file->fd >= 0)
        return 0;
    unsigned status = status_of(errno);
    close(*dir_fd);
    return status;
}

/* Opens the form of the file that is to be sent. Returns 0, or the status to answer. */
static unsigned find(struct file *file, struct text path, struct text accepted)
{
    struct stat st;
    int dir_fd;
    unsigned status = open_file(file, path, &st, &dir_fd);
    if (status != 0)
        return status;
    choose_coding(file, dir_fd, accepted, &st);
    close(dir_fd);
    describe(file, &st);
    return 0;
}

static bool exists(struct text path)
{
    struct file file;
    struct stat st;
    int dir_fd;
    unsigned status = open_file(&file, path, &st, &dir_fd);
    if (status == 0) {
        close(file.fd);
        close(dir_fd);
    }
    return status != 404;
}

/* ---- the head ---- */

static void put(struct response *r, const char *name, const char *value)
{
    enum response_check check = response_header(r, name, strlen(name), value, strlen(value));
    assert(check == RESPONSE_OK);
    (void)check;
}

static void put_length(struct response *r, uint64_t bytes)
{
    char text[24];
    snprintf(text, sizeof(text), "%" PRIu64, bytes);
    put(r, "Content-Length", text);
}

static void begin(struct response *r, unsigned status)
{
    char text[64];
    int len = snprintf(text, sizeof(text), "%u %s", status, response_reason(status));
    enum response_check check = response_status(r, text, (size_t)len);
    assert(check == RESPONSE_OK);
    (void)check;
}

/* What a cache must know, and for 304 all that it may be told (RFC 9110 15.4.5). */
static void put_validators(struct response *r, const struct file *file)
{
    char date[DATE_HTTP_LEN + 1];
    date_write_http(date, file->facts.modified);
    put(r, "Last-Modified", date);
    put(r, "ETag", file->facts.etag);
    put(r, "Cache-Control", select_is_immutable(file->name) ? FOREVER : SHORTLY);
    if (file->varies)
        put(r, "Vary", "Accept-Encoding");
}

static void begin_file(struct response *r, unsigned status, const struct file *file,
                       const char *type)
{
    begin(r, status);
    put(r, "Content-Type", type);
    if (file->coding != CODING_IDENTITY)
        put(r, "Content-Encoding", select_coding_names[file->coding]);
    put(r, "Accept-Ranges", "bytes");
    put_validators(r, file);
}

/* ---- answers ---- */

static enum output_result answer_error(struct conn *c, unsigned status)
{
    reply_make_error(c, status, true);
    return reply_send_error(c);
}

/* The head is made, but for its end; `data` is the body. */
static enum output_result send_bytes(struct conn *c, const char *data, size_t len)
{
    struct output *o = &c->exchange->output;
    struct reply_frame frame;
    reply_frame(c, &frame, data, len, (int64_t)len);
    struct iovec *pieces = frame.pieces;
    unsigned count = frame.count;
    enum output_result result = output_try(o, c->fd, &pieces, &count);
    if (result == OUTPUT_BLOCKED)
        output_copy(o, pieces, count);
    return result;
}

static enum output_result answer_method(struct conn *c)
{
    begin(&c->exchange->response, 405);
    put(&c->exchange->response, "Allow", "GET, HEAD");
    return send_bytes(c, NULL, 0);
}

static enum output_result answer_unsatisfiable(struct conn *c, const struct file *file)
{
    char text[48];
    begin(&c->exchange->response, 416);
    snprintf(text, sizeof(text), "bytes */%" PRIu64, file->facts.bytes);
    put(&c->exchange->response, "Content-Range", text);
    return send_bytes(c, NULL, 0);
}

static enum output_result answer_not_modified(struct conn *c, const struct file *file)
{
    begin(&c->exchange->response, 304);
    put_validators(&c->exchange->response, file);
    return send_bytes(c, NULL, 0);
}

/* The head is made, but for its end. Takes the descriptor of the file. */
static enum output_result send_part(struct conn *c, struct file *file, uint64_t offset,
                                    uint64_t bytes)
{
    struct exchange *e = c->exchange;
    put_length(&e->response, bytes);
    struct iovec head = reply_head(c, (int64_t)bytes);
    uint64_t admitted = response_admit(&e->response, (size_t)bytes);
    if (admitted == 0)
        return output_send(&e->output, c->fd, head);
    int fd = file->fd;
    file->fd = -1;
    return output_send_file(&e->output, c->fd, head, fd, offset, admitted);
}

static enum output_result answer_whole(struct conn *c, struct file *file)
{
    begin_file(&c->exchange->response, 200, file, types_of(file->name));
    return send_part(c, file, 0, file->facts.bytes);
}

static void write_range(char text[80], const struct file *file, struct select_range range)
{
    snprintf(text, 80, "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, range.offset,
             range.offset + range.bytes - 1, file->facts.bytes);
}

static enum output_result answer_range(struct conn *c, struct file *file, struct select_range range)
{
    char text[80];
    begin_file(&c->exchange->response, 206, file, types_of(file->name));
    write_range(text, file, range);
    put(&c->exchange->response, "Content-Range", text);
    return send_part(c, file, range.offset, range.bytes);
}

static bool read_range(const struct file *file, struct select_range range, struct buf *out)
{
    buf_reserve(out, range.bytes);
    while (range.bytes > 0) {
        ssize_t got = pread(file->fd, out->data + out->len, range.bytes, (off_t)range.offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        out->len += (size_t)got;
        range.offset += (uint64_t)got;
        range.bytes -= (uint64_t)got;
    }
    return true;
}

/* RFC 9110 14.6. False: the file could not be read, or has become shorter. */
static bool read_parts(const struct file *file, const struct select_ranges *ranges,
                       const char *boundary, struct buf *out)
{
    char range[80];
    for (unsigned i = 0; i < ranges->count; i++) {
        write_range(range, file, ranges->items[i]);
        buf_printf(out, "\r\n--%s\r\nContent-Type: %s\r\nContent-Range: %s\r\n\r\n", boundary,
                   types_of(file->name), range);
        if (!read_range(file, ranges->items[i], out))
            return false;
    }
    buf_printf(out, "\r\n--%s--\r\n", boundary);
    return true;
}

static enum output_result answer_parts(struct conn *c, const struct file *file,
                                       const struct select_ranges *ranges)
{
    uint64_t random[2] = {(uintptr_t)c, now_ns()}; /* stays so where no randomness is ready */
    char boundary[33], type[80];
    struct buf parts = {0};
    enum output_result result;
    (void)!getrandom(random, sizeof(random), GRND_NONBLOCK);
    snprintf(boundary, sizeof(boundary), "%016" PRIx64 "%016" PRIx64, random[0], random[1]);
    snprintf(type, sizeof(type), "multipart/byteranges; boundary=%s", boundary);
    if (read_parts(file, ranges, boundary, &parts)) {
        begin_file(&c->exchange->response, 206, file, type);
        result = send_bytes(c, parts.data, parts.len);
    } else {
        struct text path = request_piece(&c->exchange->request, c->exchange->request.path);
        log_error("%.*s: the file cannot be read, or has become shorter", (int)path.len, path.data);
        result = answer_error(c, 500);
    }
    buf_fini(&parts);
    return result;
}

static enum output_result answer_ranges(struct conn *c, struct file *file,
                                        const struct select_ranges *ranges)
{
    uint64_t bytes = 0;
    if (ranges->count == 1)
        return answer_range(c, file, ranges->items[0]);
    for (unsigned i = 0; i < ranges->count; i++)
        bytes += ranges->items[i].bytes;
    return bytes <= PARTS_MAX_BYTES ? answer_parts(c, file, ranges) : answer_whole(c, file);
}

/* A field that is no list and stands twice is malformed as one, and so of no effect. */
static enum select_verdict choose_part(const struct request *request, const struct file *file,
                                       struct select_ranges *ranges)
{
    static const char *const names[] = {"if-match",          "if-none-match",
                                        "if-modified-since", "if-unmodified-since",
                                        "if-range",          "range"};
    struct text values[ARRAY_LEN(names)];
    struct buf rooms[ARRAY_LEN(names)] = {{0}};
    for (unsigned i = 0; i < ARRAY_LEN(names); i++)
        values[i] = request_list(request, HTTP_FIELD_OTHER, names[i], &rooms[i]);
    const struct select_request wanted = {values[0], values[1], values[2],
                                          values[3], values[4], values[5]};
    enum select_verdict verdict = select_part(&wanted, !request->is_head, &file->facts, ranges);
    for (unsigned i = 0; i < ARRAY_LEN(names); i++)
        buf_fini(&rooms[i]);
    return verdict;
}

static enum output_result answer_file(struct conn *c, struct file *file)
{
    struct select_ranges ranges;
    switch (choose_part(&c->exchange->request, file, &ranges)) {
    case SELECT_WHOLE:
        return answer_whole(c, file);
    case SELECT_RANGES:
        return answer_ranges(c, file, &ranges);
    case SELECT_NOT_MODIFIED:
        return answer_not_modified(c, file);
    case SELECT_FAILED:
        return answer_error(c, 412);
    case SELECT_UNSATISFIABLE:
        return answer_unsatisfiable(c, file);
    }
    assert(!"a verdict");
    return OUTPUT_GONE;
}

/* ---- the handler ---- */

static bool is_read(struct text method)
{
    return text_is(method, "GET") || text_is(method, "HEAD");
}

static bool takes(const struct serving *serving, struct text method, struct text path)
{
    if (!roots_any() || !roots_of(path))
        return false;
    return !serving->config->static_fallthrough || (is_read(method) && exists(path));
}

static enum output_result answer_no_place(struct conn *c)
{
    struct exchange *e = c->exchange;
    log_client(LOG_INFO,
               "refused a request from %s: 503 too many files are on their way to slow clients; "
               "raise the limit of open files (ulimit -n, LimitNOFILE)",
               e->client);
    e->end = "too many files";
    return answer_error(c, 503);
}

static enum output_result answer(struct conn *c, struct text path)
{
    const struct request *request = &c->exchange->request;
    struct text method = request_piece(request, request->method);
    struct file file;
    if (!is_read(method))
        return answer_method(c);
    if (conn_spare_descriptors(c->table) == 0) /* the rest of them is for the application */
        return answer_no_place(c);
    struct buf room = {0};
    unsigned status =
        find(&file, path, request_list(request, HTTP_FIELD_OTHER, "accept-encoding", &room));
    buf_fini(&room);
    if (status != 0)
        return answer_error(c, status);
    enum output_result result = answer_file(c, &file);
    if (file.fd >= 0)
        close(file.fd);
    return result;
}

static enum conn_step start(struct conn *c, struct text path)
{
    client_note_wait(c);
    if (answer(c, path) == OUTPUT_GONE)
        exchange_break_off(c->exchange);
    c->next = reply_end(c);
    conn_resume(c);
    return CONN_ANSWERED;
}

const struct handler files_handler = {.needs_thread = false, .takes = takes, .start = start};
