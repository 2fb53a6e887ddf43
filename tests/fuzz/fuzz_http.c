/* fuzz_http.c: any bytes as the requests of a connection. Whole, byte by byte, in odd pieces, split
 * at random, and with bodies that come by a pipe they must give the same requests, bodies and
 * refusals, and what is taken must be what a strict reader would take. */
#include "http/request.h"

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

static void require(bool truth)
{
    if (!truth) {
        abort();
    }
}

static void require_inside(const struct http *h, struct http_text t)
{
    require(t.offset <= h->head_bytes && t.length <= h->head_bytes - t.offset);
    for (size_t i = 0; i < t.length; i++) {
        unsigned char c = (unsigned char)http_at(h, t)[i];
        require(c == '\t' || (c >= 0x20 && c != 0x7f));
    }
}

static void require_sound(const struct http *h)
{
    unsigned hosts = 0;
    require(h->head_bytes >= 18 && h->head_bytes <= limits.head_bytes + 4);
    require(memcmp(h->in.data + h->head_bytes - 4, "\r\n\r\n", 4) == 0);
    require_inside(h, h->method);
    require_inside(h, h->target);
    require_inside(h, h->path);
    require_inside(h, h->query);
    require_inside(h, h->host);
    require(h->version_minor <= 1 && h->header_count <= limits.fields);
    require(h->path.length == 0 || http_at(h, h->path)[0] == '/');
    for (unsigned i = 0; i < h->header_count; i++) {
        const struct http_header *header = &h->headers[i];
        require_inside(h, header->name);
        require_inside(h, header->value);
        require(header->name.length > 0);
        require(!memchr(http_at(h, header->name), '_', header->name.length));
        hosts += header->field == HTTP_FIELD_HOST;
    }
    require(hosts <= 1 && (hosts == 1 || h->version_minor == 0));
    require(h->body.length <= limits.body_bytes);
    require(h->chunked || h->body.length == h->content_length);
}

static void note(struct buf *events, const struct http *h, const struct http_text t)
{
    buf_append(events, http_at(h, t), t.length);
    buf_append_str(events, "\n");
}

static void note_request(struct buf *events, const struct http *h)
{
    char bytes[512];
    note(events, h, h->method);
    note(events, h, h->target);
    note(events, h, h->path);
    note(events, h, h->query);
    note(events, h, h->host);
    for (unsigned i = 0; i < h->header_count; i++) {
        note(events, h, h->headers[i].name);
        note(events, h, h->headers[i].value);
    }
    buf_printf(events, "%d%d%d%d%d %llu\n", h->is_head, h->keep_alive, h->expects_continue,
               h->has_body, h->chunked, (unsigned long long)h->body.length);
    for (uint64_t offset = 0; offset < h->body.length;) {
        ssize_t n = body_read(&h->body, offset, bytes, sizeof(bytes));
        require(n > 0);
        buf_append(events, bytes, (size_t)n);
        offset += (uint64_t)n;
    }
}

#define AT_RANDOM 0

/* The same bytes are always split in the same places, or a finding could not be repeated. */
static size_t next_piece(size_t piece, uint64_t *chance)
{
    if (piece != AT_RANDOM) {
        return piece;
    }
    *chance = *chance * 6364136223846793005u + 1442695040888963407u;
    unsigned bits = (unsigned)(*chance >> 61); /* short ones as often as long ones */
    return 1 + (*chance >> 33) % (1u << bits);
}

static uint64_t hash(const uint8_t *data, size_t size)
{
    uint64_t value = 14695981039346656037u;
    for (size_t i = 0; i < size; i++) {
        value = (value ^ data[i]) * 1099511628211u;
    }
    return value;
}

static size_t least(size_t a, size_t b, size_t c)
{
    a = a < b ? a : b;
    return a < c ? a : c;
}

/* Gives at most `most` bytes: by `pipe` (NULL: none) where they may go that way. */
static enum http_result give(struct http *h, const uint8_t *data, size_t size, size_t piece,
                             const int *pipe, size_t *given)
{
    size_t room = (size_t)http_splice_room(h), n = least(size, piece, room);
    if (pipe && n > 0) {
        n = n < PIPE_BUF ? n : PIPE_BUF;
        require(write(pipe[1], data, n) == (ssize_t)n);
        *given += n;
        return http_splice(h, pipe[0], n);
    }
    char *to = http_room(h, &room);
    require(room > 0);
    n = least(size, piece, room);
    memcpy(to, data, n);
    *given += n;
    return http_feed(h, n);
}

/* Feeds all of `data`, at most `most` bytes at a time. */
static void run(const uint8_t *data, size_t size, size_t most, const int *pipe, struct buf *events)
{
    uint64_t chance = hash(data, size);
    struct http h;
    enum http_result result = HTTP_MORE;
    size_t given = 0;
    http_init(&h, &limits);
    while (result != HTTP_REFUSED && (given < size || result == HTTP_READY)) {
        if (result == HTTP_READY) {
            require_sound(&h);
            note_request(events, &h);
            http_reset(&h);
            result = http_feed(&h, 0);
        } else {
            result = give(&h, data + given, size - given, next_piece(most, &chance), pipe, &given);
        }
    }
    buf_printf(events, "end %u %d %d", h.refusal_status, http_is_idle(&h), http_in_body(&h));
    http_fini(&h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
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
