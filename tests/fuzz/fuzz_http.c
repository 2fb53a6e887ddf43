/* fuzz_http.c: any bytes as the requests of a connection. Whole, byte by byte, in odd pieces, split
 * at random, and with bodies that come by a pipe they must give the same requests, bodies and
 * refusals, and what is taken must be what a strict reader would take. */
#include "fuzz.h"
#include "http/parse.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const struct http_limits limits = {
    .request_line_bytes = 300,
    .field_bytes = 300,
    .head_bytes = 1000,
    .fields = 20,
    .body_bytes = 100000,
    .body_memory_bytes = 500,
    .tmp_dir = "/tmp",
};

static void require_sound(const struct request *r)
{
    unsigned hosts = 0;
    require(r->head_bytes >= 16 && r->head_bytes <= limits.head_bytes + 4);
    require(memcmp(r->in.data + r->head_bytes - 4, "\r\n\r\n", 4) == 0);
    require_line_inside(r);
    require(r->header_count <= limits.fields);
    for (unsigned i = 0; i < r->header_count; i++) {
        const struct http_header *header = &r->headers[i];
        require_inside(r, header->name);
        require_inside(r, header->value);
        require(header->name.length > 0);
        require(!memchr(request_at(r, header->name), '_', header->name.length));
        hosts += header->field == HTTP_FIELD_HOST;
    }
    require(hosts <= 1 && (hosts == 1 || r->version_minor == 0));
    require(r->body.length <= limits.body_bytes);
    require(r->chunked || r->body.length == r->content_length);
}

static void note(struct buf *events, const struct request *r, const struct http_text t)
{
    buf_append(events, request_at(r, t), t.length);
    buf_append_str(events, "\n");
}

static void note_request(struct buf *events, struct request *r)
{
    char bytes[512];
    note(events, r, r->method);
    note(events, r, r->target);
    note(events, r, r->path);
    note(events, r, r->query);
    note(events, r, r->host);
    for (unsigned i = 0; i < r->header_count; i++) {
        note(events, r, r->headers[i].name);
        note(events, r, r->headers[i].value);
    }
    buf_printf(events, "%d%d%d%d%d %llu\n", r->is_head, r->keep_alive, r->expects_continue,
               r->has_body, r->chunked, (unsigned long long)r->body.length);
    for (uint64_t offset = 0; offset < r->body.length;) {
        ssize_t n = body_read(&r->body, offset, bytes, sizeof(bytes));
        require(n > 0);
        buf_append(events, bytes, (size_t)n);
        offset += (uint64_t)n;
    }
}

#define AT_RANDOM 0

/* The same bytes are always split in the same places, or a finding could not be repeated. */
static size_t next_piece(size_t piece, uint64_t *chance)
{
    if (piece != AT_RANDOM)
        return piece;
    *chance = *chance * 6364136223846793005u + 1442695040888963407u;
    unsigned bits = (unsigned)(*chance >> 61); /* short ones as often as long ones */
    return 1 + (*chance >> 33) % (1u << bits);
}

static uint64_t hash(const uint8_t *data, size_t size)
{
    uint64_t value = 14695981039346656037u;
    for (size_t i = 0; i < size; i++)
        value = (value ^ data[i]) * 1099511628211u;
    return value;
}

static size_t least(size_t a, size_t b, size_t c)
{
    a = a < b ? a : b;
    return a < c ? a : c;
}

/* Gives at most `most` bytes: by `pipe` (NULL: none) where they may go that way. */
static enum http_result give(struct parser *p, const uint8_t *data, size_t size, size_t piece,
                             const int *pipe, size_t *given)
{
    size_t room = (size_t)parser_splice_room(p), n = least(size, piece, room);
    if (pipe && n > 0) {
        n = n < PIPE_BUF ? n : PIPE_BUF;
        require(write(pipe[1], data, n) == (ssize_t)n);
        *given += n;
        return parser_splice(p, pipe[0], n);
    }
    char *to = parser_room(p, &room);
    require(room > 0);
    n = least(size, piece, room);
    memcpy(to, data, n);
    *given += n;
    return parser_feed(p, n);
}

/* Feeds all of `data`, at most `most` bytes at a time. */
static void run(const uint8_t *data, size_t size, size_t most, const int *pipe, struct buf *events)
{
    uint64_t chance = hash(data, size);
    struct request r;
    enum http_result result = HTTP_MORE;
    size_t given = 0;
    struct parser *p = parser_new(&r, &limits);
    while (result != HTTP_REFUSED && (given < size || result == HTTP_READY)) {
        if (result == HTTP_READY) {
            require_sound(&r);
            note_request(events, &r);
            parser_reset(p);
            result = parser_feed(p, 0);
        } else {
            result = give(p, data + given, size - given, next_piece(most, &chance), pipe, &given);
        }
    }
    buf_printf(events, "end %u %d %d", r.refusal_status, parser_is_idle(p), parser_in_body(p));
    parser_free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t pieces[] = {1, 3, 61, 600, AT_RANDOM};
    static int ends[2];
    struct buf whole = {0}, parts = {0};
    require(ends[1] > 0 || pipe(ends) == 0);
    run(data, size, SIZE_MAX, NULL, &whole);
    for (size_t i = 0; i < 2 * ARRAY_LEN(pieces); i++) {
        buf_reset(&parts);
        run(data, size, pieces[i / 2], i % 2 ? ends : NULL, &parts);
        require(parts.len == whole.len && memcmp(parts.data, whole.data, whole.len) == 0);
    }
    buf_fini(&whole);
    buf_fini(&parts);
    return 0;
}
