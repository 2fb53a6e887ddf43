/* parse.c: one request, from bytes to a table of fields and a body.
 *
 * Owns the buffer, the cutting of the head into lines, its limits, and llhttp. What the fields say
 * about the framing is compared with what llhttp finds in the same bytes; llhttp sees no body.
 * A body of known length that goes to a file may go there through a pipe, all but its end. Chunks
 * are decoded here: what llhttp makes of extensions and trailers changes from version to version.
 * The head of a uwsgi packet (uwsgi.h) takes the place of the lines; what follows is the same.
 *
 * Every decision depends only on the bytes and their positions, never on how they were split over
 * reads: a line that is too long is refused at the byte where the limit is exceeded, whole or not.
 *
 * Never reads a socket, never writes an answer, never keeps a pointer into the buffer. */
#include "http/parse.h"
#include "head.h"
#include "uwsgi.h"

#include <llhttp.h>
#include <stdlib.h>
#include <string.h>

enum stage { STAGE_START, STAGE_FIELDS, STAGE_BODY, STAGE_READY };
/* What comes next in a chunked body. */
enum part { PART_SIZE, PART_DATA, PART_CR, PART_LF, PART_TRAILERS };

#define FIRST_BUFFER_BYTES 8192 /* the budget counts only what is above this */
#define ROOM_BYTES         4096
#define LEAST_ROOM_BYTES   1024 /* less than this per read is not worth a system call */
#define BODY_BUFFER_BYTES  65536
#define KEPT_BUFFER_BYTES  16384

/* RFC 9112 2.2 asks servers to accept at least one empty line before the request line. */
#define EMPTY_LINES_MAX    2
/* The first byte from a client that speaks TLS, because it was given an https URL (RFC 8446
 * 5.1). */
#define TLS_HANDSHAKE      0x16
/* CVE-2024-22019: sizes, extensions and trailers of a chunked body need a limit too. This is the
 * one for one run of them between two pieces of payload, and for how far all of them may exceed the
 * payload: chunks of five bytes and more pass for ever. */
#define OVERHEAD_BYTES_MAX 16384

#if LLHTTP_VERSION_MAJOR < 9
_Static_assert(LLHTTP_STRICT_MODE, "llhttp 8 lets known smuggling through without it");
#endif
struct parser {
    struct request *request; /* borrowed, as `limits` */
    const struct http_limits *limits;
    struct head head;
    enum stage stage;
    size_t parsed;  /* of request->in: what is done with */
    size_t scanned; /* how far the bytes were searched for the end of the line */
    size_t line_start;
    size_t head_start;       /* where the request line begins, after empty lines */
    enum part part;          /* of a chunked body: what comes next */
    uint64_t chunk_left;     /* payload of the chunk that is still to come */
    uint64_t gap_bytes;      /* sizes, extensions, trailers since the last payload */
    uint64_t overhead_bytes; /* all of them */
    size_t payload_bytes;    /* payload in `in` behind the head, its pieces moved together */
    size_t counted_bytes;    /* what `in` adds to limits->bodies */
    bool past;               /* the room given last is in the body, past `in` */
    llhttp_t llhttp;
};

static bool is_refused(const struct parser *p)
{
    return p->request->refusal_status != 0;
}

/* ---- llhttp ---- */

/* Refuses for llhttp's error, unless a callback has refused already and said why. */
static void refuse_parsed(struct parser *p, llhttp_errno_t error)
{
    if (!is_refused(p))
        request_refuse(p->request, 400, llhttp_errno_name(error));
}

static int on_headers_complete(llhttp_t *ll)
{
    struct parser *p = ll->data;
    bool chunked = (ll->flags & F_CHUNKED) != 0;
    if (chunked != p->request->chunked || ll->content_length != p->request->content_length) {
        request_refuse(p->request, 400, "the framing is ambiguous");
        return -1;
    }
    /* RFC 9110 7.8: a server may ignore Upgrade; llhttp would stop at the end of the message. */
    ll->upgrade = 0;
    p->stage = STAGE_BODY;
    return 0;
}

static bool check_kept(struct parser *p, enum body_result result)
{
    switch (result) {
    case BODY_OK:
        return true;
    case BODY_FAILED:
        break;
    }
    return request_refuse(p->request, 500, "the body could not be kept in a temporary file");
}

static int on_message_complete(llhttp_t *ll)
{
    struct parser *p = ll->data;
    p->stage = STAGE_READY;
    /* The bytes that follow are another request, parsed after this one is answered. */
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_headers_complete = on_headers_complete,
    .on_message_complete = on_message_complete,
};

/* llhttp refuses the methods that its version does not know. The framing depends on none but
 * CONNECT, which never comes here, so instead of any but the commonest llhttp gets one that all
 * versions know. */
static void parse_head(struct parser *p)
{
    llhttp_t *ll = &p->llhttp;
    llhttp_init(ll, HTTP_REQUEST, &settings);
    ll->data = p;
    bool is_get = p->request->method.length == 3 &&
                  memcmp(request_at(p->request, p->request->method), "GET", 3) == 0;
    llhttp_errno_t error = is_get ? HPE_OK : llhttp_execute(ll, "POST ", 5);
    if (error == HPE_OK) {
        size_t from = is_get ? p->request->method.offset : p->request->target.offset;
        error = llhttp_execute(ll, p->request->in.data + from, p->request->head_bytes - from);
    }
    p->parsed = p->request->head_bytes;
    if ((error != HPE_OK || p->stage != STAGE_BODY) &&
        (error != HPE_PAUSED || p->stage != STAGE_READY))
        refuse_parsed(p, error);
}

/* ---- a body of known length ---- */

/* The bytes that follow it are another request, parsed after this one is answered. */
static void parse_sized_body(struct parser *p)
{
    struct request *r = p->request;
    uint64_t left = r->content_length - r->body.length;
    size_t there = r->in.len - p->parsed, len = left < there ? (size_t)left : there;
    r->body.announced = r->content_length;
    if (!check_kept(p, body_append(&r->body, r->in.data + p->parsed, len)))
        return;
    if (len == left) {
        p->parsed += len;
        p->stage = STAGE_READY;
    } else {
        r->in.len = p->parsed = r->head_bytes;
    }
}

/* ---- chunks ---- */

static void take(struct parser *p, size_t bytes)
{
    p->parsed += bytes;
    p->gap_bytes += bytes;
    p->overhead_bytes += bytes;
}

/* How long the line may be that begins now. */
static int64_t overhead_room(const struct parser *p)
{
    uint64_t payload = p->request->body.length + p->payload_bytes;
    int64_t run = OVERHEAD_BYTES_MAX - (int64_t)p->gap_bytes;
    int64_t whole = OVERHEAD_BYTES_MAX + (int64_t)payload - (int64_t)p->overhead_bytes;
    return run < whole ? run : whole;
}

/* Takes a line; its length without CRLF. NULL: it is not whole yet, or refused. */
static const char *take_body_line(struct parser *p, int64_t line_max, size_t *len)
{
    const char *line = p->request->in.data + p->parsed, *bytes = p->request->in.data;
    size_t end = p->scanned > p->parsed ? p->scanned : p->parsed;
    while (end < p->request->in.len && bytes[end] != '\r' && bytes[end] != '\n')
        end++;
    p->scanned = end;
    *len = end - p->parsed;
    int64_t room = overhead_room(p);
    if ((int64_t)*len > (room < line_max ? room : line_max)) {
        (void)(room < line_max
                   ? request_refuse(p->request, 400, "chunk sizes, extensions or trailers too long")
                   : request_refuse(p->request, 431, "trailer too long"));
        return NULL;
    }
    if (p->request->in.len - end < 2 && (end == p->request->in.len || bytes[end] == '\r'))
        return NULL;
    if (bytes[end] != '\r' || bytes[end + 1] != '\n') {
        request_refuse(p->request, 400, "a line of the body does not end in CRLF");
        return NULL;
    }
    take(p, *len + 2);
    return line;
}

static bool take_size(struct parser *p)
{
    size_t len;
    const char *line = take_body_line(p, INT64_MAX, &len);
    if (!line) {
        if (!is_refused(p))
            head_begin_chunk(&p->head, p->request->in.data + p->parsed, len);
        return false;
    }
    if (!head_chunk(&p->head, line, len, &p->chunk_left))
        return false;
    /* One line can announce up to 2^64-1 bytes: compare before adding anything. */
    if (p->chunk_left > p->limits->body_bytes - p->request->body.length - p->payload_bytes)
        return request_refuse(p->request, 413, "chunked body above the limit");
    p->part = p->chunk_left > 0 ? PART_DATA : PART_TRAILERS;
    p->head.line_count = 0;
    return true;
}

/* Moves the pieces of payload together, behind the head: a system call for each chunk of five bytes
 * would make a small stream expensive. */
static bool take_data(struct parser *p)
{
    size_t there = p->request->in.len - p->parsed;
    size_t len = p->chunk_left < there ? (size_t)p->chunk_left : there;
    memmove(p->request->in.data + p->request->head_bytes + p->payload_bytes,
            p->request->in.data + p->parsed, len);
    p->payload_bytes += len;
    p->parsed += len;
    p->chunk_left -= len;
    p->gap_bytes = 0;
    if (p->chunk_left == 0)
        p->part = PART_CR;
    return true;
}

static bool take_byte(struct parser *p, char expected, enum part next)
{
    if (p->request->in.data[p->parsed] != expected)
        return request_refuse(p->request, 400, "a chunk does not end in CRLF");
    take(p, 1);
    p->part = next;
    return true;
}

/* Trailers are dropped, but the rules for header fields apply to them. */
static bool take_trailer(struct parser *p)
{
    size_t len;
    const char *line = take_body_line(p, (int64_t)p->limits->field_bytes, &len);
    if (line && len == 0)
        p->stage = STAGE_READY;
    return line && len > 0 && head_trailer(&p->head, line, len);
}

static bool take_part(struct parser *p)
{
    switch (p->part) {
    case PART_SIZE:
        return take_size(p);
    case PART_DATA:
        return take_data(p);
    case PART_CR:
        return take_byte(p, '\r', PART_LF);
    case PART_LF:
        return take_byte(p, '\n', PART_SIZE);
    case PART_TRAILERS:
        break;
    }
    return take_trailer(p);
}

static void parse_chunks(struct parser *p)
{
    p->payload_bytes = 0;
    while (p->parsed < p->request->in.len && take_part(p)) {
    }
    size_t payload_bytes = p->payload_bytes;
    p->payload_bytes = 0;
    if (is_refused(p) ||
        !check_kept(p, body_append(&p->request->body, p->request->in.data + p->request->head_bytes,
                                   payload_bytes)) ||
        p->stage == STAGE_READY)
        return;
    /* Only the beginning of a line is left. */
    size_t left = p->request->in.len - p->parsed;
    memmove(p->request->in.data + p->request->head_bytes, p->request->in.data + p->parsed, left);
    p->scanned -= p->scanned > p->parsed ? p->parsed - p->request->head_bytes : p->scanned;
    p->request->in.len = p->request->head_bytes + left;
    p->parsed = p->request->head_bytes;
}

/* ---- lines ---- */

static void take_line(struct parser *p, size_t lf)
{
    const char *line = p->request->in.data + p->line_start;
    size_t len = lf - p->line_start;
    p->line_start = p->scanned = lf + 1;
    if (len == 0 || line[len - 1] != '\r') {
        request_refuse(p->request, 400, "a line does not end in CRLF");
        return;
    }
    len--;
    if (p->stage == STAGE_FIELDS) {
        if (len > 0) {
            head_field(&p->head, line, len);
        } else {
            p->request->head_bytes = p->line_start;
            if (head_end(&p->head))
                parse_head(p);
        }
    } else if (len > 0) {
        p->head.line_count = 0;
        if (head_request_line(&p->head, line, len))
            p->stage = STAGE_FIELDS;
    } else if (++p->head.line_count > EMPTY_LINES_MAX) {
        request_refuse(p->request, 400, "empty lines before the request line");
    } else {
        p->head_start = p->line_start;
    }
}

/* What begins so is no request line, but perhaps something else that is known. */
static bool refuse_beginning(struct parser *p, char first)
{
    if (first == UWSGI_FIRST_BYTE) {
        return head_refuse_protocol(&p->head,
                                    "uwsgi where HTTP is spoken; nginx needs proxy_pass instead of "
                                    "uwsgi_pass, or bind needs uwsgi: before its address");
    }
    return request_refuse(p->request, 400,
                          first == TLS_HANDSHAKE ? "TLS where plain HTTP is spoken"
                                                 : "malformed request line");
}

/* Checks the length of the line, which runs to `end`: its LF, or the end of the bytes so far. */
static bool check_line(struct parser *p, size_t end)
{
    size_t len = end - p->line_start;
    size_t head_len = end - p->head_start;
    size_t head_max = p->limits->head_bytes;
    if (p->stage == STAGE_START) {
        size_t line_max = p->limits->request_line_bytes;
        char first = len > 0 ? p->request->in.data[p->line_start] : '\r';
        if (first != '\r' && !head_may_begin(first))
            return refuse_beginning(p, first);
        /* + 1: the CR may be one of the bytes. */
        return len <= (line_max < head_max ? line_max : head_max) + 1 ||
               request_refuse(p->request, 414, "request line too long");
    }
    if (len > p->limits->field_bytes + 1)
        return request_refuse(p->request, 431, "header field too long");
    return head_len < head_max || request_refuse(p->request, 431, "head too long");
}

static void scan_head(struct parser *p)
{
    while (p->stage < STAGE_BODY && !is_refused(p)) {
        size_t unscanned = p->request->in.len - p->scanned;
        const char *lf =
            unscanned ? memchr(p->request->in.data + p->scanned, '\n', unscanned) : NULL;
        size_t end = lf ? (size_t)(lf - p->request->in.data) : p->request->in.len;
        p->scanned = end;
        if (!check_line(p, end) || !lf)
            return;
        take_line(p, end);
    }
}

/* ---- a uwsgi packet ---- */

static void count_buffer(struct parser *p);

static void scan_packet(struct parser *p)
{
    struct request *r = p->request;
    size_t bytes = 0;
    if (!uwsgi_begin(&p->head, &bytes) || bytes == 0 || r->in.len < bytes)
        return;
    bool is_taken = uwsgi_head(&p->head, bytes);
    count_buffer(p);
    p->parsed = r->head_bytes;
    if (is_taken)
        p->stage = r->content_length > 0 ? STAGE_BODY : STAGE_READY;
}

/* ---- public ---- */

static void begin_request(struct parser *p)
{
    request_forget(p->request);
    p->head = (struct head){.request = p->request, .limits = p->limits};
    p->stage = STAGE_START;
    p->parsed = p->scanned = p->line_start = p->head_start = 0;
    p->part = PART_SIZE;
    p->chunk_left = p->gap_bytes = p->overhead_bytes = 0;
    p->payload_bytes = 0;
    p->past = false;
}

struct parser *parser_new(struct request *request, const struct http_limits *limits)
{
    struct parser *p = xcalloc(1, sizeof(*p));
    p->request = request;
    p->limits = limits;
    request->in = (struct buf){0};
    request->is_uwsgi = false;
    body_init(&request->body, limits->body_memory_bytes, limits->tmp_dir, limits->bodies);
    begin_request(p);
    return p;
}

static void count_buffer(struct parser *p)
{
    size_t cap = p->request->in.cap;
    body_budget_note(p->limits->bodies, &p->counted_bytes,
                     cap > FIRST_BUFFER_BYTES ? cap - FIRST_BUFFER_BYTES : 0);
}

void parser_free(struct parser *p)
{
    buf_fini(&p->request->in);
    count_buffer(p);
    body_fini(&p->request->body);
    free(p);
}

void parser_expect_uwsgi(struct parser *p, bool uwsgi)
{
    p->request->is_uwsgi = uwsgi;
}

void parser_reset(struct parser *p)
{
    buf_consume(&p->request->in, p->parsed);
    if (p->request->in.cap > KEPT_BUFFER_BYTES && p->request->in.len <= KEPT_BUFFER_BYTES) {
        p->request->in.data = xrealloc(p->request->in.data, KEPT_BUFFER_BYTES);
        p->request->in.cap = KEPT_BUFFER_BYTES;
        count_buffer(p);
    }
    body_reset(&p->request->body);
    begin_request(p);
}

/* How much room to read into while a body comes. Keeps the whole buffer within BODY_BUFFER_BYTES, a
 * power of two like the sizes of buf_reserve(). */
static size_t room_for_body(const struct parser *p)
{
    uint64_t left =
        p->request->chunked ? UINT64_MAX : p->request->content_length - p->request->body.length;
    bool is_large = p->request->in.len + ROOM_BYTES < BODY_BUFFER_BYTES &&
                    !body_budget_ends(p->limits->bodies, 0, 1);
    size_t most = is_large ? BODY_BUFFER_BYTES - p->request->in.len : ROOM_BYTES;
    return left < most ? (size_t)left : most;
}

static size_t wanted_room(const struct parser *p)
{
    if (p->request->in.cap == 0)
        return FIRST_BUFFER_BYTES;
    if (p->stage == STAGE_BODY)
        return room_for_body(p);
    return p->request->in.cap == p->request->in.len ? ROOM_BYTES : 0;
}

/* False: refused. If the budget lets no buffer grow, the room that is left is used, unless it is
 * less than LEAST_ROOM_BYTES. */
static bool make_room(struct parser *p)
{
    size_t there = p->request->in.cap - p->request->in.len, wanted = wanted_room(p);
    if (there >= wanted)
        return true;
    if (p->request->in.cap > 0 && body_budget_ends(p->limits->bodies, 0, 2)) {
        return there >= LEAST_ROOM_BYTES ||
               request_refuse(p->request, 503, "half requests have too much memory");
    }
    buf_reserve(&p->request->in, wanted);
    count_buffer(p);
    return true;
}

char *parser_room(struct parser *p, size_t *room_bytes)
{
    char *past = p->stage == STAGE_BODY ? body_room(&p->request->body, room_bytes) : NULL;
    p->past = past != NULL;
    if (past)
        return past;
    bool has_room = make_room(p);
    *room_bytes = p->request->in.cap - p->request->in.len;
    return has_room ? p->request->in.data + p->request->in.len : NULL;
}

/* The body has got bytes, and `in` none. */
static enum http_result feed_past(struct parser *p, size_t received)
{
    struct request *r = p->request;
    p->past = false;
    body_took(&r->body, received);
    if (r->body.length == r->content_length)
        p->stage = STAGE_READY;
    return p->stage == STAGE_READY ? HTTP_READY : HTTP_MORE;
}

enum http_result parser_feed(struct parser *p, size_t received)
{
    if (p->past)
        return feed_past(p, received);
    assert(received <= p->request->in.cap - p->request->in.len);
    p->request->in.len += received;
    if (p->stage < STAGE_BODY) {
        if (UNLIKELY(p->request->is_uwsgi))
            scan_packet(p);
        else
            scan_head(p);
    }
    if (p->stage == STAGE_BODY && !is_refused(p) && p->request->in.len > p->parsed) {
        if (p->request->chunked)
            parse_chunks(p);
        else
            parse_sized_body(p);
    }
    if (is_refused(p))
        return HTTP_REFUSED;
    return p->stage == STAGE_READY ? HTTP_READY : HTTP_MORE;
}

uint64_t parser_splice_room(const struct parser *p)
{
    if (p->stage != STAGE_BODY || p->request->chunked || p->request->body.fd < 0)
        return 0;
    return p->request->content_length - p->request->body.length - 1;
}

enum http_result parser_splice(struct parser *p, int pipe_fd, size_t len)
{
    assert(len <= parser_splice_room(p));
    if (!check_kept(p, body_splice(&p->request->body, pipe_fd, len)))
        return HTTP_REFUSED;
    return HTTP_MORE;
}

uint64_t parser_missing(const struct parser *p)
{
    const struct request *r = p->request;
    if (p->stage != STAGE_BODY || r->chunked || r->body.fd >= 0 || is_refused(p))
        return 0;
    return r->content_length - r->body.length;
}

enum http_result parser_leave(struct parser *p, body_source *source, int socket)
{
    body_leave(&p->request->body, source, socket, parser_missing(p));
    p->stage = STAGE_READY;
    return HTTP_READY;
}

bool parser_is_idle(const struct parser *p)
{
    return p->stage == STAGE_START && !is_refused(p) && p->request->in.len == p->line_start;
}

bool parser_in_body(const struct parser *p)
{
    return p->stage == STAGE_BODY && !is_refused(p);
}
