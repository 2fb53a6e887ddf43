/* http_results.c: what http.c makes of the bytes of a connection, one line of text per input: for
 * the comparison with the model in tests/reference_model.py.
 *
 * Reads from stdin, again and again, two numbers of 4 bytes (the length of the input, and into
 * pieces of which size it is cut) and the input. Owns nothing beyond an input. */
#include "http/request.h"

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
    for (size_t i = 0; i < len; i++) {
        printf("%02x", (unsigned char)data[i]);
    }
    if (len == 0) {
        putchar('-');
    }
}

static void print_text(const struct http *h, struct http_text t)
{
    print_bytes(http_at(h, t), t.length);
}

static void print_request(const struct http *h)
{
    printf("request %u %d %d %d", h->version_minor, h->keep_alive, h->expects_continue, h->chunked);
    print_text(h, h->method);
    print_text(h, h->target);
    print_text(h, h->path);
    print_text(h, h->query);
    print_text(h, h->host);
    print_bytes(h->body.memory.data, h->body.memory.len);
    for (unsigned i = 0; i < h->header_count; i++) {
        print_text(h, h->headers[i].name);
        print_text(h, h->headers[i].value);
    }
    printf(";");
}

static void run(const char *data, size_t size, size_t piece)
{
    struct http h;
    enum http_result result = HTTP_MORE;
    size_t given = 0;
    http_init(&h, &limits);
    while (result != HTTP_REFUSED && (given < size || result == HTTP_READY)) {
        size_t room, n = 0;
        if (result == HTTP_READY) {
            print_request(&h);
            if (!h.keep_alive) {
                puts("closed");
                http_fini(&h);
                return;
            }
            http_reset(&h);
        } else {
            char *to = http_room(&h, &room);
            n = size - given < piece ? size - given : piece;
            n = n < room ? n : room;
            memcpy(to, data + given, n);
            given += n;
        }
        result = http_feed(&h, n);
    }
    if (result == HTTP_REFUSED) {
        printf("refused %u %s\n", h.refusal_status, h.refusal_reason);
    } else {
        puts(http_is_idle(&h) ? "idle" : "more");
    }
    http_fini(&h);
}

int main(void)
{
    uint32_t numbers[2];
    while (fread(numbers, sizeof(numbers), 1, stdin) == 1) {
        char *data = xmalloc(numbers[0]);
        if (fread(data, 1, numbers[0], stdin) != numbers[0]) {
            die(EXIT_CRASH, "an input is cut");
        }
        run(data, numbers[0], numbers[1]);
        free(data);
    }
    return 0;
}
