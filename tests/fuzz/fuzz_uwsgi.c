/* fuzz_uwsgi.c: any bytes as a uwsgi packet, or lines of any variables as a packet of the right
 * form. However they are split, they must give the same request or refusal, and what is taken must
 * be sound. */
#include "fuzz.h"
#include "http/forwarded.h"
#include "http/parse.h"

#include <stdlib.h>

static const struct http_limits limits = {
    .request_line_bytes = 300,
    .field_bytes = 300,
    .head_bytes = 2000,
    .fields = 20,
    .body_bytes = 100000,
    .body_memory_bytes = 500,
    .tmp_dir = "/tmp",
};

static void append_length(struct buf *out, size_t len)
{
    const char bytes[] = {(char)(len & 0xff), (char)(len >> 8 & 0xff)};
    buf_append(out, bytes, sizeof(bytes));
}

/* "NAME=VALUE" lines up to an empty one, then the body. */
static void build(const char *text, size_t size, struct buf *out)
{
    struct buf pairs = {0};
    const char *end = text + size;
    while (text < end && *text != '\n') {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        const char *stop = newline ? newline : end;
        const char *equals = memchr(text, '=', (size_t)(stop - text));
        const char *name_end = equals ? equals : stop, *value = equals ? equals + 1 : stop;
        append_length(&pairs, (size_t)(name_end - text));
        buf_append(&pairs, text, (size_t)(name_end - text));
        append_length(&pairs, (size_t)(stop - value));
        buf_append(&pairs, value, (size_t)(stop - value));
        text = newline ? newline + 1 : end;
    }
    text += text < end;
    buf_append(out, "\0", 1);
    append_length(out, pairs.len);
    buf_append(out, "\0", 1);
    buf_append(out, pairs.data, pairs.len);
    buf_append(out, text, (size_t)(end - text));
    buf_fini(&pairs);
}

static bool begins(const struct request *r, struct http_text t, const char *prefix)
{
    size_t len = strlen(prefix);
    return t.length >= len && memcmp(request_at(r, t), prefix, len) == 0;
}

/* The path means what PATH_INFO says, which is found here in another way than there. */
static void require_path(const struct request *r, const char *packet)
{
    char path[4000];
    size_t end = 4 + (size_t)((unsigned char)packet[1] | (unsigned char)packet[2] << 8);
    for (size_t at = 4; at < end;) {
        size_t name = (size_t)((unsigned char)packet[at] | (unsigned char)packet[at + 1] << 8);
        size_t behind = at + 2 + name;
        size_t len =
            (size_t)((unsigned char)packet[behind] | (unsigned char)packet[behind + 1] << 8);
        if (name == 9 && memcmp(packet + at + 2, "PATH_INFO", name) == 0 && len > 0) {
            require(r->path.length <= sizeof(path));
            require(request_decode(request_at(r, r->path), r->path.length, path) == len);
            require(memcmp(path, packet + behind + 2, len) == 0);
        }
        at = behind + 2 + len;
        require(at <= end);
    }
}

static void require_sound(const struct request *r)
{
    struct sockaddr_in6 peer;
    require(request_has_line(r) && !r->keep_alive && !r->chunked && !r->expects_continue);
    require_inside(r, r->line);
    require_line_inside(r);
    require(r->header_count <= limits.fields);
    require(r->header_count + r->variable_count <= HTTP_MAX_FIELDS);
    for (unsigned i = 0; i < r->header_count + r->variable_count; i++) {
        struct http_text name = r->headers[i].name;
        require_inside(r, name);
        require_inside(r, r->headers[i].value);
        require(name.length > 0);
        if (i < r->header_count) {
            require(!memchr(request_at(r, name), '_', name.length));
        } else {
            require(!memchr(request_at(r, name), '.', name.length));
            require(!begins(r, name, "HTTP_") && !begins(r, name, "UWSGI_"));
            require(!begins(r, name, "REMOTE_ADDR") || name.length != 11);
        }
    }
    require(r->body.length == r->content_length && r->body.length <= limits.body_bytes);
    (void)!forwarded_peer(r, &peer);
}

static void note(struct buf *events, const struct request *r, struct http_text t)
{
    buf_append(events, request_at(r, t), t.length);
    buf_append_str(events, "\n");
}

static void note_request(struct buf *events, struct request *r)
{
    char bytes[512];
    note(events, r, r->line);
    note(events, r, r->path);
    note(events, r, r->query);
    note(events, r, r->host);
    for (unsigned i = 0; i < r->header_count + r->variable_count; i++) {
        note(events, r, r->headers[i].name);
        note(events, r, r->headers[i].value);
    }
    buf_printf(events, "%d%d%d %u\n", r->is_head, r->has_body, r->says_https, r->header_count);
    for (uint64_t offset = 0; offset < r->body.length;) {
        ssize_t n = body_read(&r->body, offset, bytes, sizeof(bytes));
        require(n > 0);
        buf_append(events, bytes, (size_t)n);
        offset += (uint64_t)n;
    }
}

/* Feeds one packet, at most `most` bytes at a time. */
static void run(const struct buf *packet, size_t most, struct buf *events)
{
    struct request r;
    enum http_result result = HTTP_MORE;
    struct parser *p = parser_new(&r, &limits);
    parser_expect_uwsgi(p, true);
    for (size_t given = 0; result == HTTP_MORE && given < packet->len;) {
        size_t room, n = packet->len - given < most ? packet->len - given : most;
        char *to = parser_room(p, &room);
        require(room > 0);
        n = n < room ? n : room;
        memcpy(to, packet->data + given, n);
        given += n;
        result = parser_feed(p, n);
    }
    if (result == HTTP_READY) {
        require_sound(&r);
        require_path(&r, packet->data);
        note_request(events, &r);
    }
    buf_printf(events, "end %d %u %d %d", result, r.refusal_status, parser_is_idle(p),
               parser_in_body(p));
    parser_free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const size_t pieces[] = {1, 3, 61, 600};
    struct buf packet = {0}, whole = {0}, parts = {0};
    const char *text = (const char *)data + 1;
    if (size == 0)
        return 0;
    if (data[0] == 'R')
        buf_append(&packet, text, size - 1);
    else
        build(text, size - 1, &packet);
    run(&packet, SIZE_MAX, &whole);
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        buf_reset(&parts);
        run(&packet, pieces[i], &parts);
        require(parts.len == whole.len && memcmp(parts.data, whole.data, whole.len) == 0);
    }
    buf_fini(&packet);
    buf_fini(&whole);
    buf_fini(&parts);
    return 0;
}
