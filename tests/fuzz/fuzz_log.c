/* fuzz_log.c: any bytes as what a client can bring into a log: escaped texts, and the access lines
 * of requests and responses made of them. A line is one line, its fields stay apart, and nothing
 * is lost: what was escaped can be read back. */
#include "base/log.h"
#include "fuzz.h"
#include "http/access.h"
#include "http/parse.h"
#include "http/response.h"

#include <stdlib.h>

static const struct http_limits limits = {
    .request_line_bytes = 1000,
    .field_bytes = 1000,
    .head_bytes = 4000,
    .fields = 30,
    .body_bytes = 1000,
    .body_memory_bytes = 65536,
    .tmp_dir = "/tmp",
};

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The bytes that an escape at `at` stands for: one. Returns the length of the escape. */
static size_t unescape(const char *at, size_t len, char *out)
{
    require(len >= 2);
    if (at[1] == '"' || at[1] == '\\') {
        *out = at[1];
        return 2;
    }
    require(at[1] == 'x' && len >= 4 && hex(at[2]) >= 0 && hex(at[3]) >= 0);
    *out = (char)(hex(at[2]) << 4 | hex(at[3]));
    return 4;
}

static void require_visible(const char *text, size_t len)
{
    for (size_t i = 0; i < len;) {
        unsigned char c = (unsigned char)text[i];
        require(c >= 0x20 && c != 0x7f);
        size_t length = c < 0x80 ? 1 : log_utf8_length(text + i, len - i);
        require(length > 0);
        i += length;
    }
}

static void check_escape(const char *text, size_t len)
{
    struct buf out = {0}, back = {0};
    log_escape(&out, text, len);
    require_visible(out.data, out.len);
    for (size_t i = 0; i < out.len;) {
        char c = out.data[i];
        require(c != '"');
        i += c == '\\' ? unescape(out.data + i, out.len - i, &c) : 1;
        buf_append(&back, &c, 1);
    }
    require(back.len == len && (len == 0 || memcmp(back.data, text, len) == 0));
    buf_fini(&out);
    buf_fini(&back);
}

/* How many quotes are not escaped. */
static unsigned count_quotes(const char *line, size_t len)
{
    unsigned quotes = 0;
    for (size_t i = 0; i < len; i++) {
        quotes += line[i] == '"';
        i += line[i] == '\\';
    }
    return quotes;
}

/* A JSON string from its opening quote; returns what is behind it. RFC 8259 section 7. */
static const char *skip_string(const char *at)
{
    require(*at == '"');
    for (at++; *at != '"'; at++) {
        require((unsigned char)*at >= 0x20);
        if (*at == '\\') {
            at++;
            require(*at != '\0' && strchr("\"\\/bfnrtu", *at) != NULL);
        }
    }
    return at + 1;
}

/* One flat object of strings and plain values. */
static void require_json(const char *at)
{
    require(*at == '{');
    do {
        at = skip_string(at + 1 + (at[1] == ' '));
        require(*at == ':');
        at += at[1] == ' ' ? 2 : 1;
        at = *at == '"' ? skip_string(at) : at + strspn(at, "0123456789.-nulltruefalse");
    } while (*at == ',');
    require(strcmp(at, "}\n") == 0);
}

static void check_line(const char *format, const struct access_entry *entry)
{
    char *error = NULL;
    struct access_format *compiled = access_compile(format, &error);
    struct buf line = {0};
    require(compiled != NULL);
    access_line(compiled, entry, &line);
    require(line.len > 0 && line.data[line.len - 1] == '\n');
    require_visible(line.data, line.len - 1);
    buf_append(&line, "", 1);
    if (strcmp(format, "json") == 0)
        require_json(line.data);
    else
        require(count_quotes(line.data, line.len) == 6);
    buf_fini(&line);
    access_free(compiled);
}

static void check_lines(const char *text, size_t len)
{
    struct request request;
    struct response response = {0};
    size_t room, half = len / 2;
    const struct response_facts facts = {.version_minor = 1, .known_bytes = 3};
    struct parser *p = parser_new(&request, &limits);
    buf_reserve(&request.in, len + 1);
    memcpy(parser_room(p, &room), text, len);
    bool whole = parser_feed(p, len) == HTTP_READY;
    if (response_status(&response, "200 OK", 6) == RESPONSE_OK) {
        (void)!response_header(&response, "X-A", 3, text, half);
        (void)!response_header(&response, text, half, text + half, len - half);
        response_finish_head(&response, &facts);
    }
    const struct access_entry entry = {
        .client = "192.0.2.1",
        .request = &request,
        .response = whole ? &response : NULL,
        .status = whole ? 200 : 400,
        .worker = 1,
        .end = whole ? NULL : request.refusal_reason,
    };
    check_line("combined", &entry);
    check_line("json", &entry);
    check_line("%(h)s \"%(U)s\" \"%({x-a}o)s\" \"%({cookie}i)s\" %(m)s%(u)s%(f)s%(r)s%(q)s",
               &entry);
    response_fini(&response);
    parser_free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_escape((const char *)data, size);
    check_lines((const char *)data, size);
    char *text = strndup((const char *)data, size), *error = NULL;
    access_free(access_compile(text, &error));
    free(error);
    free(text);
    return 0;
}
