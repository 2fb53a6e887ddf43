/* fuzz_forwarded.c: any bytes as forwarded-allow-ips, as a X-Forwarded-For value, and as header
 * lines of a request. What comes out is an address, and never one that the client could choose
 * although an untrusted hop stands to its right. */
#include "fuzz.h"
#include "http/forwarded.h"
#include "http/parse.h"

#include <arpa/inet.h>
#include <stdlib.h>

static const struct http_limits limits = {
    .request_line_bytes = 300,
    .field_bytes = 2000,
    .head_bytes = 8000,
    .fields = 50,
    .body_bytes = 1000,
    .body_memory_bytes = 65536,
    .tmp_dir = "/tmp",
};

static char *copy(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    require(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    return text;
}

/* The address must be in numbers; says whether it is trusted. */
static bool is_trusted(const struct forwarded_trust *trust, const char *text)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    require(memchr(text, '\0', FORWARDED_ADDRESS_MAX) != NULL);
    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
        return forwarded_trusts(trust, (struct sockaddr *)&v4);
    require(inet_pton(AF_INET6, text, &v6.sin6_addr) == 1);
    return forwarded_trusts(trust, (struct sockaddr *)&v6);
}

static void check_value(const struct forwarded_trust *trust, const char *value, size_t len)
{
    char first[FORWARDED_ADDRESS_MAX], longer[FORWARDED_ADDRESS_MAX];
    bool found = forwarded_client(trust, value, len, first);
    if (!found || is_trusted(trust, first))
        return;
    /* What a client puts in front must not change what its own proxy said of it. */
    static const char *const prefixes[] = {"6.6.6.6, ", "127.0.0.1,", "x, ",
                                           ",,",        "\"",         "[::1]:1,"};
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
        char *more = xasprintf("%s,%.*s", prefixes[i], (int)len, value);
        size_t more_len = strlen(prefixes[i]) + 1 + len;
        if (memchr(value, '\0', len) == NULL) {
            require(forwarded_client(trust, more, more_len, longer));
            require(strcmp(first, longer) == 0);
        }
        free(more);
    }
}

static void check_request(const struct forwarded_trust *trust, const char *lines, size_t len)
{
    static const char start[] = "GET / HTTP/1.1\r\nHost: a\r\n";
    struct request r;
    size_t room;
    struct parser *p = parser_new(&r, &limits);
    buf_reserve(&r.in, sizeof(start) + len + 4);
    char *at = parser_room(p, &room);
    memcpy(at, start, sizeof(start) - 1);
    memcpy(at + sizeof(start) - 1, lines, len);
    memcpy(at + sizeof(start) - 1 + len, "\r\n\r\n", 4);
    if (parser_feed(p, sizeof(start) - 1 + len + 4) == HTTP_READY) {
        struct forwarded_view view;
        if (forwarded_resolve(trust, true, "127.0.0.1", &r, &view)) {
            is_trusted(trust, view.client);
            require(view.from_header || strcmp(view.client, "127.0.0.1") == 0);
        }
        require(forwarded_resolve(trust, false, "192.0.2.1", &r, &view));
        require(!view.from_header && !view.https && strcmp(view.client, "192.0.2.1") == 0);
    }
    parser_free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct forwarded_trust trust;
    const uint8_t *cut = size ? memchr(data, 0xff, size) : NULL;
    size_t list_len = cut ? (size_t)(cut - data) : 0;
    size_t rest = cut ? list_len + 1 : 0;
    char *list = copy(data, list_len);
    char *value = copy(data + rest, size - rest);
    const char *wrong = forwarded_parse(&trust, list);
    require(!wrong || (wrong >= list && wrong <= list + list_len));
    if (wrong)
        require(forwarded_parse(&trust, "127.0.0.1,10.0.0.0/8,2001:db8::/32") == NULL);
    if (size < 2000) {
        check_value(&trust, value, size - rest);
        check_request(&trust, value, size - rest);
    }
    forwarded_fini(&trust);
    free(list);
    free(value);
    return 0;
}
