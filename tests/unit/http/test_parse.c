/* test_http.c: the request parser, fed with every file below tests/requests in every way of
 * splitting it, and with what files cannot show: limits, offsets, buffers, the disk. */
#include "http/parse.c"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define REQUESTS_DIR "tests/requests"

static const struct http_limits defaults = {
    .request_line_bytes = 8190,
    .field_bytes = 8190,
    .head_bytes = 65536,
    .fields = 100,
    .body_bytes = 1u << 20,
    .body_memory_bytes = 65536,
    .tmp_dir = "/tmp",
};

/* ---- feeding ---- */

/* Gives `len` bytes as they find room; stops early when the request ends. */
static enum http_result give(struct parser *p, const char *bytes, size_t len, size_t *given)
{
    enum http_result result = parser_feed(p, 0);
    while (result == HTTP_MORE && *given < len) {
        size_t room;
        char *to = parser_room(p, &room);
        assert_true(room > 0);
        size_t n = len - *given < room ? len - *given : room;
        memcpy(to, bytes + *given, n);
        *given += n;
        result = parser_feed(p, n);
    }
    return result;
}

static enum http_result give_text(struct parser *p, const char *text)
{
    size_t given = 0;
    return give(p, text, strlen(text), &given);
}

static void describe_request(const struct request *r, struct buf *out)
{
    buf_append(out, request_at(r, r->method), r->method.length);
    buf_append_str(out, " ");
    buf_append(out, request_at(r, r->path), r->path.length);
    if (r->query.length > 0) {
        buf_append_str(out, "?");
        buf_append(out, request_at(r, r->query), r->query.length);
    }
    buf_printf(out, " %llu, ", (unsigned long long)r->body.length);
}

/* Writes what became of the bytes, in the words of expected.txt. `cut` is where the first
 * read ends, 0: every read is one byte. */
static void outcome(const char *bytes, size_t len, size_t cut, struct buf *out)
{
    struct request r;
    size_t given = 0;
    bool keep_alive = true;
    enum http_result result = HTTP_MORE;
    struct parser *p = parser_new(&r, &defaults);
    while (keep_alive && result != HTTP_REFUSED) {
        size_t until = cut == 0 ? given + 1 : given < cut ? cut : len;
        until = until < len ? until : len;
        result = give(p, bytes, until, &given);
        if (result == HTTP_READY) {
            describe_request(&r, out);
            keep_alive = r.keep_alive;
            parser_reset(p);
        } else if (given == len) {
            break;
        }
    }
    if (result == HTTP_REFUSED)
        buf_printf(out, "%u", r.refusal_status);
    else
        buf_append_str(out, !keep_alive ? "close" : parser_is_idle(p) ? "open" : "eof");
    parser_free(p);
}

static void check_outcome(const char *name, const char *bytes, size_t len, size_t cut,
                          const char *expected)
{
    struct buf got = {0};
    outcome(bytes, len, cut, &got);
    if (got.len != strlen(expected) || memcmp(got.data, expected, got.len) != 0) {
        fail_msg("%s cut at %zu: expected \"%s\", got \"%.*s\"", name, cut, expected, (int)got.len,
                 got.data);
    }
    buf_fini(&got);
}

static char *read_file(const char *path, size_t *len)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    char *bytes = malloc(1 << 20);
    *len = fread(bytes, 1, 1 << 20, file);
    fclose(file);
    /* Exactly as long as the content, for the sanitizer to see the end. */
    return realloc(bytes, *len ? *len : 1);
}

static size_t count_files(const char *dir)
{
    size_t count = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *entry; (entry = readdir(d));)
        count += strstr(entry->d_name, ".http") != NULL;
    closedir(d);
    return count;
}

static void check_file(const char *name, const char *expected)
{
    size_t len;
    char *path = xasprintf(REQUESTS_DIR "/%s", name);
    char *bytes = read_file(path, &len);
    free(path);
    check_outcome(name, bytes, len, 0, expected);
    /* Of long files the middle is dull. */
    for (size_t cut = 1; cut <= len; cut += cut > 600 && cut + 100 < len ? 97 : 1)
        check_outcome(name, bytes, len, cut, expected);
    free(bytes);
}

static void test_every_request_file_in_every_split(void **state)
{
    (void)state;
    char line[16384];
    size_t count = 0;
    FILE *expected = fopen(REQUESTS_DIR "/expected.txt", "r");
    assert_non_null(expected);
    while (fgets(line, sizeof(line), expected)) {
        char *colon = strstr(line, ": ");
        if (line[0] != '#' && colon) {
            line[strcspn(line, "\n")] = '\0';
            *colon = '\0';
            check_file(line, colon + 2);
            count++;
        }
    }
    fclose(expected);
    assert_int_equal(count,
                     count_files(REQUESTS_DIR "/valid") + count_files(REQUESTS_DIR "/invalid"));
}

/* ---- what the head says ---- */

static void assert_text(const struct request *r, struct http_text text, const char *expected)
{
    assert_int_equal(text.length, strlen(expected));
    assert_memory_equal(request_at(r, text), expected, text.length);
}

static void test_head_is_understood(void **state)
{
    (void)state;
    struct request r;
    struct parser *p = parser_new(&r, &defaults);
    assert_true(parser_is_idle(p));
    assert_int_equal(give_text(p, "\r\nPOST /a%20b?c=d HTTP/1.1\r\n"
                                  "Host: a.example:8000\r\n"
                                  "X-Forwarded-For:\t1.2.3.4 \t\r\n"
                                  "x_real_ip: 6.6.6.6\r\n"
                                  "content-TYPE: text/plain\r\n"
                                  "Expect: 100-continue\r\n"
                                  "X-Empty:\r\n"
                                  "Content-Length: 5\r\n\r\n"),
                     HTTP_MORE);
    assert_true(parser_in_body(p));
    assert_false(parser_is_idle(p));
    assert_true(r.head_bytes > 0);
    assert_text(&r, r.method, "POST");
    assert_text(&r, r.target, "/a%20b?c=d");
    assert_text(&r, r.path, "/a%20b");
    assert_text(&r, r.query, "c=d");
    assert_text(&r, r.host, "a.example:8000");
    assert_int_equal(r.version_minor, 1);
    assert_true(r.keep_alive && r.has_body && r.expects_continue && !r.chunked && !r.is_head);
    assert_int_equal(r.content_length, 5);
    assert_int_equal(r.header_count, 6);
    assert_text(&r, r.headers[1].name, "X-Forwarded-For");
    assert_text(&r, r.headers[1].value, "1.2.3.4");
    assert_int_equal(r.headers[1].field, HTTP_FIELD_X_FORWARDED_FOR);
    assert_int_equal(r.headers[2].field, HTTP_FIELD_CONTENT_TYPE);
    assert_text(&r, r.headers[4].value, "");
    assert_int_equal(r.headers[4].field, HTTP_FIELD_OTHER);
    assert_int_equal(give_text(p, "hello"), HTTP_READY);
    assert_false(parser_in_body(p));
    assert_int_equal(r.body.length, 5);
    assert_memory_equal(r.body.memory.data, "hello", 5);
    parser_free(p);
}

static void test_known_fields(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum http_field field;
    } known[] = {
        {"Connection", HTTP_FIELD_CONNECTION},
        {"CONTENT-LENGTH", HTTP_FIELD_CONTENT_LENGTH},
        {"Content-Type", HTTP_FIELD_CONTENT_TYPE},
        {"cookie", HTTP_FIELD_COOKIE},
        {"Expect", HTTP_FIELD_EXPECT},
        {"Forwarded", HTTP_FIELD_FORWARDED},
        {"X-Forwarded-For", HTTP_FIELD_X_FORWARDED_FOR},
        {"X-Forwarded-Host", HTTP_FIELD_X_FORWARDED_HOST},
        {"X-Forwarded-Port", HTTP_FIELD_X_FORWARDED_PORT},
        {"X-Forwarded-Proto", HTTP_FIELD_X_FORWARDED_PROTO},
        {"X-Forwarded-Protocol", HTTP_FIELD_X_FORWARDED_PROTOCOL},
        {"X-Forwarded-Ssl", HTTP_FIELD_X_FORWARDED_SSL},
        {"X-Real-IP", HTTP_FIELD_X_REAL_IP},
        {"x-Forwarded-User", HTTP_FIELD_X_FORWARDED_OTHER},
        {"X-Forwarded-", HTTP_FIELD_OTHER},
        {"X-Forward-User", HTTP_FIELD_OTHER},
        {"hOST", HTTP_FIELD_HOST},
        {"Transfer-Encoding", HTTP_FIELD_TRANSFER_ENCODING},
        {"Hosts", HTTP_FIELD_OTHER},
        {"Content-Lengt", HTTP_FIELD_OTHER},
        {"X", HTTP_FIELD_OTHER},
    };
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        struct request r;
        struct parser *p = parser_new(&r, &defaults);
        char *text = xasprintf("GET / HTTP/1.0\r\n%s: 1\r\n\r\n", known[i].name);
        /* Some are refused or wait for a body afterwards. */
        (void)!give_text(p, text);
        assert_int_equal(r.header_count, 1);
        assert_int_equal(r.headers[0].field, known[i].field);
        free(text);
        parser_free(p);
    }
}

static void test_absolute_form_replaces_host(void **state)
{
    (void)state;
    struct request r;
    struct parser *p = parser_new(&r, &defaults);
    assert_int_equal(give_text(p, "GET http://b.example:81/x HTTP/1.1\r\nHost: a\r\n\r\n"),
                     HTTP_READY);
    assert_text(&r, r.host, "b.example:81");
    assert_text(&r, r.headers[0].name, "Host");
    assert_text(&r, r.headers[0].value, "b.example:81");
    parser_reset(p);
    assert_int_equal(give_text(p, "GET http://b.example HTTP/1.0\r\n\r\n"), HTTP_READY);
    assert_text(&r, r.host, "b.example");
    assert_text(&r, r.path, "/");
    assert_text(&r, r.query, "");
    parser_free(p);
}

static void test_refused_request_is_still_named(void **state)
{
    (void)state;
    struct request r;
    struct parser *p = parser_new(&r, &defaults);
    assert_int_equal(give_text(p, "FOO /x HTTP/2.0\r\n"), HTTP_REFUSED);
    assert_text(&r, r.method, "FOO");
    assert_text(&r, r.target, "/x");
    assert_int_equal(r.head_bytes, 0);
    assert_non_null(r.refusal_reason);
    /* Nothing more is parsed, whatever comes. */
    assert_int_equal(parser_feed(p, 0), HTTP_REFUSED);
    parser_reset(p);
    assert_int_equal(r.method.length, 0);
    parser_free(p);
}

static void test_expectation_needs_a_body_and_http11(void **state)
{
    (void)state;
    struct request r;
    struct parser *p = parser_new(&r, &defaults);
    assert_int_equal(give_text(p, "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n"),
                     HTTP_READY);
    assert_false(r.expects_continue);
    parser_reset(p);
    assert_int_equal(
        give_text(p, "POST / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n"),
        HTTP_MORE);
    assert_false(r.expects_continue);
    parser_free(p);
}

/* ---- the library ---- */

/* Fails when llhttp before 9 was compiled without LLHTTP_STRICT_MODE: then it takes any two
 * bytes for the CRLF behind the data of a chunk. */
static void test_llhttp_is_strict(void **state)
{
    (void)state;
    static const char body[] = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
                               "1\r\nxXX0\r\n\r\n";
    llhttp_t parser;
    llhttp_settings_t nothing;
    llhttp_settings_init(&nothing);
    llhttp_init(&parser, HTTP_REQUEST, &nothing);
    assert_int_not_equal(llhttp_execute(&parser, body, sizeof(body) - 1), HPE_OK);
}

/* ---- limits ---- */

static unsigned status_of(const struct http_limits *limits, const char *text, size_t len)
{
    unsigned status[2];
    for (int bytewise = 0; bytewise < 2; bytewise++) {
        struct request r;
        size_t given = 0;
        enum http_result result = HTTP_MORE;
        struct parser *p = parser_new(&r, limits);
        while (result == HTTP_MORE && given < len)
            result = give(p, text, bytewise ? given + 1 : len, &given);
        status[bytewise] = result == HTTP_MORE ? 0 : result == HTTP_READY ? 200 : r.refusal_status;
        parser_free(p);
    }
    assert_int_equal(status[0], status[1]);
    return status[0];
}

static unsigned status_of_buf(const struct http_limits *limits, struct buf *text)
{
    unsigned status = status_of(limits, text->data, text->len);
    buf_fini(text);
    return status;
}

static struct buf padded(const char *before, size_t count, char c, const char *after)
{
    struct buf b = {0};
    buf_append_str(&b, before);
    for (size_t i = 0; i < count; i++)
        buf_append(&b, &c, 1);
    buf_append_str(&b, after);
    return b;
}

static void test_line_limits_are_exact(void **state)
{
    (void)state;
    static const char rest[] = " HTTP/1.1\r\nHost: a\r\n\r\n";
    struct http_limits limits = defaults;
    limits.request_line_bytes = 100;
    limits.field_bytes = 50;
    struct buf b = padded("GET /", 100 - 14, 'a', rest);
    assert_int_equal(status_of_buf(&limits, &b), 200);
    b = padded("GET /", 101 - 14, 'a', rest);
    assert_int_equal(status_of_buf(&limits, &b), 414);
    b = padded("GET / HTTP/1.1\r\nHost: a\r\nX:", 48, 'a', "\r\n\r\n");
    assert_int_equal(status_of_buf(&limits, &b), 200);
    b = padded("GET / HTTP/1.1\r\nHost: a\r\nX:", 49, 'a', "\r\n\r\n");
    assert_int_equal(status_of_buf(&limits, &b), 431);
    /* An endless line is refused without its end. */
    b = padded("GET /", 100, 'a', "");
    assert_int_equal(status_of_buf(&limits, &b), 414);
}

static void test_head_limit_is_exact(void **state)
{
    (void)state;
    static const char head[] = "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";
    struct http_limits limits = defaults;
    limits.head_bytes = sizeof(head) - 1;
    assert_int_equal(status_of(&limits, head, sizeof(head) - 1), 200);
    limits.head_bytes--;
    assert_int_equal(status_of(&limits, head, sizeof(head) - 1), 431);
    limits.head_bytes = 10;
    assert_int_equal(status_of(&limits, head, sizeof(head) - 1), 414);
}

static void test_field_count_limit(void **state)
{
    (void)state;
    struct http_limits limits = defaults;
    limits.fields = 2;
    static const char two[] = "GET / HTTP/1.1\r\nHost: a\r\nX_Y: y\r\n\r\n";
    static const char three[] = "GET / HTTP/1.1\r\nHost: a\r\nX_Y: y\r\nX_Z: y\r\n\r\n";
    assert_int_equal(status_of(&limits, two, sizeof(two) - 1), 200);
    /* Fields that are dropped count as well. */
    assert_int_equal(status_of(&limits, three, sizeof(three) - 1), 431);
}

static void test_body_limit_is_exact(void **state)
{
    (void)state;
    struct http_limits limits = defaults;
    limits.body_bytes = 5;
    static const char *const taken[] = {
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    };
    static const char *const refused[] = {
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nExpect: 100-continue\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n4\r\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(taken); i++)
        assert_int_equal(status_of(&limits, taken[i], strlen(taken[i])), 200);
    for (size_t i = 0; i < ARRAY_LEN(refused); i++)
        assert_int_equal(status_of(&limits, refused[i], strlen(refused[i])), 413);
}

static void test_chunk_overhead_is_bounded(void **state)
{
    (void)state;
    static const char head[] = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    struct buf b = padded(head, 0, ' ', "");
    /* Ten bytes a chunk, five around them: for ever. */
    for (int i = 0; i < 10000; i++)
        buf_append_str(&b, "a\r\n0123456789\r\n");
    buf_append_str(&b, "0\r\n\r\n");
    assert_int_equal(status_of_buf(&defaults, &b), 200);
    b = padded(head, 0, ' ', "");
    for (int i = 0; i < 10000; i++)
        buf_append_str(&b, "1;abcdef\r\nx\r\n");
    assert_int_equal(status_of_buf(&defaults, &b), 400);
    /* In the middle of an extension, or of trailers. */
    b = padded(head, OVERHEAD_BYTES_MAX - 2, 'a', "");
    memcpy(b.data + strlen(head), "1;", 2);
    assert_int_equal(status_of_buf(&defaults, &b), 0);
    b = padded(head, OVERHEAD_BYTES_MAX + 1, 'a', "");
    memcpy(b.data + strlen(head), "1;", 2);
    assert_int_equal(status_of_buf(&defaults, &b), 400);
}

/* ---- buffers and the disk ---- */

static void test_large_body_goes_to_the_disk(void **state)
{
    (void)state;
    struct request r;
    struct http_limits limits = defaults;
    limits.body_bytes = 1u << 30;
    const size_t body_len = 3u << 20;
    struct buf b = padded("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3145728\r\n\r\n", body_len,
                          'x', "GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
    size_t given = 0;
    struct parser *p = parser_new(&r, &limits);
    assert_int_equal(give(p, b.data, b.len, &given), HTTP_READY);
    assert_int_equal(r.body.length, body_len);
    assert_true(r.body.fd >= 0);
    assert_true(r.in.cap <= 2 * BODY_BUFFER_BYTES);
    parser_reset(p);
    assert_int_equal(r.body.fd, -1);
    assert_int_equal(give(p, b.data, b.len, &given), HTTP_READY);
    assert_text(&r, r.path, "/next");
    parser_reset(p);
    assert_true(r.in.cap <= KEPT_BUFFER_BYTES);
    assert_true(parser_is_idle(p));
    parser_free(p);
    buf_fini(&b);
}

/* By a pipe while there is room for that, at most `step` bytes at once; the end by the parser. */
static enum http_result give_by_pipe(struct parser *p, const char *bytes, size_t len, size_t step,
                                     size_t *given)
{
    int ends[2];
    uint64_t room;
    enum http_result result = HTTP_MORE;
    assert_int_equal(pipe(ends), 0);
    while (result == HTTP_MORE && *given < len && (room = parser_splice_room(p)) > 0) {
        size_t n = room < step ? (size_t)room : step;
        n = len - *given < n ? len - *given : n;
        assert_int_equal(write(ends[1], bytes + *given, n), n);
        *given += n;
        result = parser_splice(p, ends[0], n);
    }
    close(ends[0]);
    close(ends[1]);
    return result;
}

static void test_body_by_a_pipe(void **state)
{
    (void)state;
    enum { BODY = 1000 };
    struct http_limits limits = defaults;
    struct buf all = {0};
    limits.body_memory_bytes = 100;
    buf_printf(&all, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", BODY);
    size_t head = all.len;
    for (int i = 0; i < BODY; i++)
        buf_printf(&all, "%c", 'a' + i % 26);
    buf_append_str(&all, "GET /next HTTP/1.1\r\nHost: x\r\n\r\n");
    for (size_t cut = head; cut < head + BODY; cut += 3) {
        for (size_t step = 1; step <= BODY; step *= 10) {
            struct request r;
            char body[BODY];
            size_t given = 0;
            struct parser *p = parser_new(&r, &limits);
            assert_int_equal(give(p, all.data, cut, &given), HTTP_MORE);
            assert_int_equal(parser_splice_room(p), cut <= head + 100 ? 0 : head + BODY - cut - 1);
            assert_int_equal(give_by_pipe(p, all.data, all.len, step, &given), HTTP_MORE);
            assert_int_equal(give(p, all.data, all.len, &given), HTTP_READY);
            assert_int_equal(parser_splice_room(p), 0);
            assert_int_equal(body_read(&r.body, 0, body, BODY), BODY);
            assert_memory_equal(body, all.data + head, BODY);
            parser_reset(p);
            assert_int_equal(give(p, all.data, all.len, &given), HTTP_READY);
            assert_int_equal(r.path.length, strlen("/next"));
            parser_free(p);
        }
    }
    buf_fini(&all);
}

static void test_no_pipe_for_chunks(void **state)
{
    (void)state;
    struct request r;
    struct http_limits limits = defaults;
    limits.body_memory_bytes = 1;
    struct parser *p = parser_new(&r, &limits);
    assert_int_equal(give_text(p, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
                                  "chunked\r\n\r\n9\r\nhello"),
                     HTTP_MORE);
    assert_true(r.body.fd >= 0);
    assert_int_equal(parser_splice_room(p), 0);
    parser_free(p);
}

static void test_disk_failure_behind_a_pipe(void **state)
{
    (void)state;
    struct request r;
    struct http_limits limits = defaults;
    size_t given = 0;
    limits.body_memory_bytes = 1;
    struct parser *p = parser_new(&r, &limits);
    assert_int_equal(give_text(p, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhello"),
                     HTTP_MORE);
    close(r.body.fd);
    r.body.fd = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(give_by_pipe(p, "12", 2, 2, &given), HTTP_REFUSED);
    assert_int_equal(r.refusal_status, 500);
    assert_int_equal(r.body.error, EBADF);
    assert_int_equal(parser_splice_room(p), 0);
    parser_free(p);
}

static void test_disk_failure_refuses_this_request(void **state)
{
    (void)state;
    struct http_limits limits = defaults;
    limits.body_memory_bytes = 3;
    limits.tmp_dir = "/nonexistent";
    static const char text[] = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    assert_int_equal(status_of(&limits, text, sizeof(text) - 1), 500);
}

static void test_pipelined_bytes_survive_a_reset(void **state)
{
    (void)state;
    struct request r;
    struct parser *p = parser_new(&r, &defaults);
    assert_int_equal(give_text(p, "GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HT"), HTTP_READY);
    parser_reset(p);
    assert_false(parser_is_idle(p));
    assert_int_equal(parser_feed(p, 0), HTTP_MORE);
    assert_int_equal(give_text(p, "TP/1.1\r\nHost: a\r\n\r\n"), HTTP_READY);
    assert_text(&r, r.path, "/b");
    parser_free(p);
}

static void test_warm_requests_allocate_nothing(void **state)
{
    (void)state;
    struct request r;
    struct parser *p = parser_new(&r, &defaults);
    static const char text[] = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    assert_int_equal(give_text(p, text), HTTP_READY);
    parser_reset(p);
    const char *in = r.in.data, *memory = r.body.memory.data;
    size_t cap = r.in.cap;
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(give_text(p, text), HTTP_READY);
        parser_reset(p);
    }
    assert_ptr_equal(r.in.data, in);
    assert_ptr_equal(r.body.memory.data, memory);
    assert_int_equal(r.in.cap, cap);
    parser_free(p);
}

static void test_percent_decoding(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"/a%20b", "/a b"}, {"%e4%BD%a0", "\xe4\xbd\xa0"}, {"/%2F%2f", "///"}, {"%", "%"},
        {"%4", "%4"},       {"%zz%4g", "%zz%4g"},          {"%%41", "%A"},     {"", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        char out[32];
        size_t len = request_decode(pairs[i][0], strlen(pairs[i][0]), out);
        assert_int_equal(len, strlen(pairs[i][1]));
        assert_memory_equal(out, pairs[i][1], len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_request_file_in_every_split),
        cmocka_unit_test(test_head_is_understood),
        cmocka_unit_test(test_known_fields),
        cmocka_unit_test(test_absolute_form_replaces_host),
        cmocka_unit_test(test_refused_request_is_still_named),
        cmocka_unit_test(test_expectation_needs_a_body_and_http11),
        cmocka_unit_test(test_llhttp_is_strict),
        cmocka_unit_test(test_line_limits_are_exact),
        cmocka_unit_test(test_head_limit_is_exact),
        cmocka_unit_test(test_field_count_limit),
        cmocka_unit_test(test_body_limit_is_exact),
        cmocka_unit_test(test_chunk_overhead_is_bounded),
        cmocka_unit_test(test_large_body_goes_to_the_disk),
        cmocka_unit_test(test_body_by_a_pipe),
        cmocka_unit_test(test_no_pipe_for_chunks),
        cmocka_unit_test(test_disk_failure_behind_a_pipe),
        cmocka_unit_test(test_disk_failure_refuses_this_request),
        cmocka_unit_test(test_pipelined_bytes_survive_a_reset),
        cmocka_unit_test(test_warm_requests_allocate_nothing),
        cmocka_unit_test(test_percent_decoding),
    };
    return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}
