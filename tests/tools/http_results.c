/* http_results.c: what http.c makes of the bytes of a connection, one line of text per input: for
 * the comparison with the model in tests/reference_model.py.
 *
 * Reads from stdin, again and again, two numbers of 4 bytes (the length of the input, and into
 * pieces of which size it is cut) and the input. Owns nothing beyond an input. */
#include "http/parse.h"

#include <stdio.h>
#include <stdlib.h>

static const struct http_limits limits = {
    .request_line_bytes = 300,
    .field_bytes = 300,
    .head_bytes = 1000,
    .fields = 20,
    .body_bytes = 100000,
    .body_memory_bytes = 1 << 20,
    .tmp_dir = "/tmp",
};

static void print_bytes(const char *data, size_t len)
{
    putchar(' ');
    for (size_t i = 0; i < len; i++)
        printf("%02x", (unsigned char)data[i]);
    if (len == 0)
        putchar('-');
}

static void print_text(const struct request *r, struct http_text t)
{
    print_bytes(request_at(r, t), t.length);
}

static void print_request(const struct request *r)
{
    printf("request %u %d %d %d", r->version_minor, r->keep_alive, r->expects_continue, r->chunked);
    print_text(r, r->method);
    print_text(r, r->target);
    print_text(r, r->path);
    print_text(r, r->query);
    print_text(r, r->host);
    print_bytes(r->body.memory.data, r->body.memory.len);
    for (unsigned i = 0; i < r->header_count; i++) {
        print_text(r, r->headers[i].name);
        print_text(r, r->headers[i].value);
    }
    printf(";");
}

static void run(const char *data, size_t size, size_t piece)
{
    struct request r;
    enum http_result result = HTTP_MORE;
    size_t given = 0;
    struct parser *p = parser_new(&r, &limits);
    while (result != HTTP_REFUSED && (given < size || result == HTTP_READY)) {
        size_t room, n = 0;
        if (result == HTTP_READY) {
            print_request(&r);
            if (!r.keep_alive) {
                puts("closed");
                parser_free(p);
                return;
            }
            parser_reset(p);
        } else {
            char *to = parser_room(p, &room);
            n = size - given < piece ? size - given : piece;
            n = n < room ? n : room;
            memcpy(to, data + given, n);
            given += n;
        }
        result = parser_feed(p, n);
    }
    if (result == HTTP_REFUSED)
        printf("refused %u\n", r.refusal_status);
    else
        puts(parser_is_idle(p) ? "idle" : "more");
    parser_free(p);
}

int main(void)
{
    uint32_t numbers[2];
    while (fread(numbers, sizeof(numbers), 1, stdin) == 1) {
        char *data = xmalloc(numbers[0]);
        if (fread(data, 1, numbers[0], stdin) != numbers[0])
            die(EXIT_CRASH, "an input is cut");
        run(data, numbers[0], numbers[1]);
        free(data);
    }
    return 0;
}
