/* http.c: one HTTP/1.x request, from bytes to a table of fields and a body.
 *
 * Owns the buffer, the cutting of the head into lines, its limits, and llhttp. What the fields say
 * about the framing is compared with what llhttp finds in the same bytes. llhttp also decodes the
 * body, in the same buffer behind the head. Only when a body of known length goes to a file may all
 * of it but the end go there through a pipe, not seen by llhttp.
 *
 * Every decision depends only on the bytes and their positions, never on how they were split over
 * reads: a line that is too long is refused at the byte where the limit is exceeded, whole or not.
 *
 * Never reads a socket, never writes an answer, never keeps a pointer into the buffer. */
#include "http/request.h"
#include "http_head.h"

#include <llhttp.h>
#include <string.h>

enum stage { STAGE_START, STAGE_FIELDS, STAGE_BODY, STAGE_READY, STAGE_REFUSED };

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
/* CVE-2024-22019: llhttp sets no limit to the sizes, extensions and trailers of a chunked body.
 * This is the limit for one run of them between two pieces of payload, and for how far all of them
 * may exceed the payload: chunks of five bytes and more pass for ever. */
#define OVERHEAD_BYTES_MAX 16384

#if LLHTTP_VERSION_MAJOR < 9
_Static_assert(LLHTTP_STRICT_MODE, "llhttp 8 lets known smuggling through without it");
#endif
_Static_assert(sizeof(llhttp_t) <= sizeof(((struct http *)0)->parser), "parser is too small");

bool http_refuse(struct http *h, unsigned status, const char *reason)
{
    h->stage = STAGE_REFUSED;
    h->refusal_status = status;
    h->refusal_reason = reason;
    return false;
}

/* ---- llhttp ---- */

/* Refuses for llhttp's error, unless a callback has refused already and said why. */
static void refuse_parsed(struct http *h, llhttp_errno_t error)
{
    if (h->stage != STAGE_REFUSED) {
        http_refuse(h, 400, llhttp_errno_name(error));
    }
}

static int on_headers_complete(llhttp_t *p)
{
    struct http *h = p->data;
    bool chunked = (p->flags & F_CHUNKED) != 0;
    if (chunked != h->chunked || p->content_length != h->content_length) {
        http_refuse(h, 400, "the framing is ambiguous");
        return -1;
    }
    /* RFC 9110 7.8: a server may ignore Upgrade; llhttp would stop at the end of the message. */
    p->upgrade = 0;
    h->stage = STAGE_BODY;
    return 0;
}

static int on_chunk_header(llhttp_t *p)
{
    struct http *h = p->data;
    /* One chunk header can announce up to 2^64-1 bytes: compare before adding anything. */
    if (p->content_length > h->limits->body_bytes - h->body.length - h->payload_bytes) {
        http_refuse(h, 413, "chunked body above the limit");
        return -1;
    }
    return 0;
}

/* Refuses what llhttp 8 accepts around chunks: DEL in extensions; obs-fold (RFC 9112 5.2) and empty
 * names in trailers. */
static bool may_follow(char before, char c)
{
    return c != 0x7f && (before != '\n' || (c != ' ' && c != '\t' && c != ':'));
}

/* Trailers are dropped, but the limits of header fields apply to them. `before` counts the lines
 * that precede them: the size of the last chunk and, if there was another chunk, the end of that
 * one. */
static bool check_trailers(struct http *h, uint64_t position)
{
    unsigned before = h->gap_start > 0 ? 2 : 1;
    if (h->gap_lines < before) {
        return true;
    }
    if (position - h->gap_line_start > h->limits->field_bytes + 1) {
        return http_refuse(h, 431, "trailer too long");
    }
    return h->gap_lines - before <= h->limits->fields + 1 ||
           http_refuse(h, 431, "too many trailers");
}

/* Checks what came between two pieces of payload, or after the last: sizes, extensions, trailers.
 * `position` is where it ends, counted in bytes of the body as sent. */
static bool check_gap(struct http *h, uint64_t position)
{
    const char *window = h->in.data + h->window_start;
    uint64_t from = h->gap_start > h->window_offset ? h->gap_start : h->window_offset;
    if (!h->chunked) {
        return true;
    }
    uint64_t payload = h->body.length + h->payload_bytes;
    if (position - h->gap_start > OVERHEAD_BYTES_MAX ||
        position - payload > payload + OVERHEAD_BYTES_MAX) {
        return http_refuse(h, 400, "chunk sizes, extensions or trailers too long");
    }
    for (uint64_t i = from - h->window_offset; i < position - h->window_offset; i++) {
        if (!may_follow(i > 0 ? window[i - 1] : h->last_byte, window[i])) {
            return http_refuse(h, 400, "malformed chunk extension or trailer");
        }
        if (window[i] == '\n') {
            h->gap_lines++;
            h->gap_line_start = h->window_offset + i + 1;
        }
        if (!check_trailers(h, h->window_offset + i + 1)) {
            return false;
        }
    }
    return true;
}

static size_t window_bytes(const struct http *h, const char *up_to)
{
    return (size_t)(up_to - h->in.data) - h->window_start;
}

static bool check_kept(struct http *h, enum body_result result)
{
    switch (result) {
    case BODY_OK:
        return true;
    case BODY_FAILED:
        break;
    }
    return http_refuse(h, 500, "the body could not be kept in a temporary file");
}

/* Appends the payload of the window at once: a system call for each chunk of five bytes would make
 * a small stream expensive. */
static bool keep_payload(struct http *h)
{
    const char *payload = h->payload;
    size_t len = h->payload_bytes;
    h->payload = NULL;
    h->payload_bytes = 0;
    return !payload || check_kept(h, body_append(&h->body, payload, len));
}

static int on_body(llhttp_t *p, const char *at, size_t len)
{
    struct http *h = p->data;
    uint64_t position = h->window_offset + window_bytes(h, at);
    if (!check_gap(h, position)) {
        return -1;
    }
    if (!h->payload) {
        h->payload = (char *)(uintptr_t)at;
    } else { /* overwrites gaps that check_gap has checked */
        memmove(h->payload + h->payload_bytes, at, len);
    }
    h->payload_bytes += len;
    h->gap_start = h->gap_line_start = position + len;
    h->gap_lines = 0;
    return 0;
}

static int on_message_complete(llhttp_t *p)
{
    struct http *h = p->data;
    h->stage = STAGE_READY;
    /* The bytes that follow are another request, parsed after this one is answered. */
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_headers_complete = on_headers_complete,
    .on_chunk_header = on_chunk_header,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

static llhttp_t *parser_of(struct http *h)
{
    return (llhttp_t *)(void *)h->parser;
}

static void parse_head(struct http *h)
{
    llhttp_t *p = parser_of(h);
    llhttp_init(p, HTTP_REQUEST, &settings);
    p->data = h;
    llhttp_errno_t error =
        llhttp_execute(p, h->in.data + h->head_start, h->head_bytes - h->head_start);
    h->parsed = h->head_bytes;
    if ((error != HPE_OK || h->stage != STAGE_BODY) &&
        (error != HPE_PAUSED || h->stage != STAGE_READY)) {
        refuse_parsed(h, error);
    }
}

/* llhttp 8 and 9 accept a bare LF at the end of a chunked body. */
static bool check_last_line(struct http *h)
{
    char before = h->parsed - h->window_start >= 2 ? h->in.data[h->parsed - 2] : h->last_byte;
    return !h->chunked || before == '\r' || http_refuse(h, 400, "the body does not end in CRLF");
}

/* RFC 9110 6.5.1 forbids it. llhttp 9 refuses it where it stands, llhttp 8 does not. */
static bool check_trailer_names(struct http *h)
{
    return !h->chunked || !(parser_of(h)->flags & F_CONTENT_LENGTH) ||
           http_refuse(h, 400, "Content-Length in a trailer");
}

/* Whether check_gap has not yet seen the bytes before the error: llhttp's own errors and the 413 of
 * on_chunk_header do not call it. Split over reads differently, these bytes would have been
 * checked; the result must be the same. */
static bool may_be_malformed(const struct http *h)
{
    return h->stage != STAGE_REFUSED || h->refusal_status == 413;
}

static void parse_body(struct http *h)
{
    llhttp_t *p = parser_of(h);
    size_t len = h->in.len - h->parsed;
    h->window_start = h->parsed;
    llhttp_errno_t error = llhttp_execute(p, h->in.data + h->parsed, len);
    if (h->stage != STAGE_REFUSED && !keep_payload(h)) {
        return;
    }
    if (error == HPE_OK && h->stage == STAGE_BODY) {
        check_gap(h, h->window_offset + len);
        h->window_offset += len;
        h->last_byte = h->in.data[h->in.len - 1];
        h->in.len = h->parsed = h->head_bytes;
    } else if (error == HPE_PAUSED && h->stage == STAGE_READY) {
        size_t taken = window_bytes(h, llhttp_get_error_pos(p));
        h->parsed += taken;
        (void)(check_gap(h, h->window_offset + taken) && check_last_line(h) &&
               check_trailer_names(h));
    } else if (!may_be_malformed(h) ||
               check_gap(h, h->window_offset + window_bytes(h, llhttp_get_error_pos(p)))) {
        refuse_parsed(h, error);
    }
}

/* ---- lines ---- */

static void take_line(struct http *h, size_t lf)
{
    const char *line = h->in.data + h->line_start;
    size_t len = lf - h->line_start;
    h->line_start = h->scanned = lf + 1;
    if (len == 0 || line[len - 1] != '\r') {
        http_refuse(h, 400, "a line does not end in CRLF");
        return;
    }
    len--;
    if (h->stage == STAGE_FIELDS) {
        if (len > 0) {
            http_head_field(h, line, len);
        } else {
            h->head_bytes = h->line_start;
            if (http_head_end(h)) {
                parse_head(h);
            }
        }
    } else if (len > 0) {
        h->line_count = 0;
        if (http_head_request_line(h, line, len)) {
            h->stage = STAGE_FIELDS;
        }
    } else if (++h->line_count > EMPTY_LINES_MAX) {
        http_refuse(h, 400, "empty lines before the request line");
    } else {
        h->head_start = h->line_start;
    }
}

/* Checks the length of the line, which runs to `end`: its LF, or the end of the bytes so far. */
static bool check_line(struct http *h, size_t end)
{
    size_t len = end - h->line_start;
    size_t head_len = end - h->head_start;
    size_t head_max = h->limits->head_bytes;
    if (h->stage == STAGE_START) {
        size_t line_max = h->limits->request_line_bytes;
        char first = len > 0 ? h->in.data[h->line_start] : '\r';
        if (first != '\r' && !http_head_may_begin(first)) {
            return http_refuse(h, 400,
                               first == TLS_HANDSHAKE ? "TLS where plain HTTP is spoken"
                                                      : "malformed request line");
        }
        /* + 1: the CR may be one of the bytes. */
        return len <= (line_max < head_max ? line_max : head_max) + 1 ||
               http_refuse(h, 414, "request line too long");
    }
    if (len > h->limits->field_bytes + 1) {
        return http_refuse(h, 431, "header field too long");
    }
    return head_len < head_max || http_refuse(h, 431, "head too long");
}

static void scan_head(struct http *h)
{
    while (h->stage < STAGE_BODY) {
        size_t unscanned = h->in.len - h->scanned;
        const char *lf = unscanned ? memchr(h->in.data + h->scanned, '\n', unscanned) : NULL;
        size_t end = lf ? (size_t)(lf - h->in.data) : h->in.len;
        h->scanned = end;
        if (!check_line(h, end) || lf == NULL) {
            return;
        }
        take_line(h, end);
    }
}

/* ---- public ---- */

static void begin_request(struct http *h)
{
    const struct http_text none = {0, 0};
    h->head_bytes = h->parsed = 0;
    h->method = h->target = h->line = h->path = h->query = h->host = h->coding = none;
    h->version_minor = 1;
    h->is_head = h->keep_alive = h->expects_continue = h->has_body = h->chunked = false;
    h->content_length = 0;
    h->header_count = 0;
    h->refusal_status = 0;
    h->refusal_reason = NULL;
    h->stage = STAGE_START;
    h->scanned = h->line_start = h->head_start = h->window_start = 0;
    h->line_count = h->seen = 0;
    h->asks_close = h->asks_keep_alive = h->asks_continue = h->authority_in_target = false;
    h->window_offset = h->gap_start = h->gap_line_start = 0;
    h->gap_lines = 0;
    h->payload = NULL;
    h->payload_bytes = 0;
    h->last_byte = 0;
}

void http_init(struct http *h, const struct http_limits *limits)
{
    h->limits = limits;
    h->in = (struct buf){0};
    h->counted_bytes = 0;
    body_init(&h->body, limits->body_memory_bytes, limits->tmp_dir, limits->bodies);
    begin_request(h);
}

static void count_buffer(struct http *h)
{
    size_t cap = h->in.cap;
    body_budget_note(h->limits->bodies, &h->counted_bytes,
                     cap > FIRST_BUFFER_BYTES ? cap - FIRST_BUFFER_BYTES : 0);
}

void http_fini(struct http *h)
{
    buf_fini(&h->in);
    count_buffer(h);
    body_fini(&h->body);
}

void http_reset(struct http *h)
{
    buf_consume(&h->in, h->parsed);
    if (h->in.cap > KEPT_BUFFER_BYTES && h->in.len <= KEPT_BUFFER_BYTES) {
        h->in.data = xrealloc(h->in.data, KEPT_BUFFER_BYTES);
        h->in.cap = KEPT_BUFFER_BYTES;
        count_buffer(h);
    }
    body_reset(&h->body);
    begin_request(h);
}

/* How much room to read into while a body comes. Keeps the whole buffer within BODY_BUFFER_BYTES, a
 * power of two like the sizes of buf_reserve(). */
static size_t body_room(const struct http *h)
{
    uint64_t left = h->chunked ? UINT64_MAX : h->content_length - h->body.length;
    bool is_large =
        h->in.len + ROOM_BYTES < BODY_BUFFER_BYTES && !body_budget_ends(h->limits->bodies, 0, 1);
    size_t most = is_large ? BODY_BUFFER_BYTES - h->in.len : ROOM_BYTES;
    return left < most ? (size_t)left : most;
}

static size_t wanted_room(const struct http *h)
{
    if (h->in.cap == 0) {
        return FIRST_BUFFER_BYTES;
    }
    if (h->stage == STAGE_BODY) {
        return body_room(h);
    }
    return h->in.cap == h->in.len ? ROOM_BYTES : 0;
}

/* False: refused. If the budget lets no buffer grow, the room that is left is used, unless it is
 * less than LEAST_ROOM_BYTES. */
static bool make_room(struct http *h)
{
    size_t there = h->in.cap - h->in.len, wanted = wanted_room(h);
    if (there >= wanted) {
        return true;
    }
    if (h->in.cap > 0 && body_budget_ends(h->limits->bodies, 0, 2)) {
        return there >= LEAST_ROOM_BYTES ||
               http_refuse(h, 503, "half requests have too much memory");
    }
    buf_reserve(&h->in, wanted);
    count_buffer(h);
    return true;
}

char *http_room(struct http *h, size_t *room_bytes)
{
    bool has_room = make_room(h);
    *room_bytes = h->in.cap - h->in.len;
    return has_room ? h->in.data + h->in.len : NULL;
}

enum http_result http_feed(struct http *h, size_t received)
{
    assert(received <= h->in.cap - h->in.len);
    h->in.len += received;
    if (h->stage < STAGE_BODY) {
        scan_head(h);
    }
    if (h->stage == STAGE_BODY && h->in.len > h->parsed) {
        parse_body(h);
    }
    switch ((enum stage)h->stage) {
    case STAGE_START:
    case STAGE_FIELDS:
    case STAGE_BODY:
        return HTTP_MORE;
    case STAGE_READY:
        return HTTP_READY;
    case STAGE_REFUSED:
        break;
    }
    return HTTP_REFUSED;
}

uint64_t http_splice_room(const struct http *h)
{
    if (h->stage != STAGE_BODY || h->chunked || h->body.fd < 0) {
        return 0;
    }
    return h->content_length - h->body.length - 1;
}

enum http_result http_splice(struct http *h, int pipe_fd, size_t len)
{
    assert(len <= http_splice_room(h));
    if (!check_kept(h, body_splice(&h->body, pipe_fd, len))) {
        return HTTP_REFUSED;
    }
    parser_of(h)->content_length -= len; /* the bytes that llhttp still waits for */
    h->window_offset += len;
    return HTTP_MORE;
}

bool http_is_idle(const struct http *h)
{
    return h->stage == STAGE_START && h->in.len == h->line_start;
}

bool http_in_body(const struct http *h)
{
    return h->stage == STAGE_BODY;
}
