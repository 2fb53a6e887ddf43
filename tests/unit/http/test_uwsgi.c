/* uwsgi packets: what becomes of their variables, what is refused, and that it is the same however
 * the bytes are split. */
#include "http/uwsgi.c"

#include "http/forwarded.h"
#include "http/parse.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static const struct http_limits limits = {
    .request_line_bytes = 60,
    .field_bytes = 40,
    .head_bytes = 1000,
    .fields = 5,
    .body_bytes = 100,
    .body_memory_bytes = 50,
    .tmp_dir = "/tmp",
};

static void append_length(struct buf *out, size_t len)
{
    const char bytes[] = {(char)(len & 0xff), (char)(len >> 8)};
    buf_append(out, bytes, sizeof bytes);
}

/* A packet from "NAME=VALUE" texts, each of which ends with '|'; '\n' stands for itself. */
static void build(struct buf *out, const char *text, const char *body)
{
    struct buf pairs = {0};
    for (const char *end; (end = strchr(text, '|')); text = end + 1) {
        const char *equals = memchr(text, '=', (size_t)(end - text));
        assert_non_null(equals);
        append_length(&pairs, (size_t)(equals - text));
        buf_append(&pairs, text, (size_t)(equals - text));
        append_length(&pairs, (size_t)(end - equals - 1));
        buf_append(&pairs, equals + 1, (size_t)(end - equals - 1));
    }
    buf_append(out, "\0", 1);
    append_length(out, pairs.len);
    buf_append(out, "\0", 1);
    buf_append(out, pairs.data, pairs.len);
    buf_append_str(out, body);
    buf_fini(&pairs);
}

static void note(struct buf *out, const struct request *r, struct http_text text, const char *end)
{
    buf_append(out, request_at(r, text), text.length);
    buf_append_str(out, end);
}

/* "GET /path ?query HTTP/1.1 [host] Name: value, ... variables, ... body". */
static void describe(struct request *r, struct buf *out)
{
    char body[200];
    note(out, r, r->method, " ");
    note(out, r, r->path, "?");
    note(out, r, r->query, " ");
    note(out, r, request_protocol(r), " ");
    note(out, r, r->host, "");
    for (unsigned i = 0; i < r->header_count; i++) {
        buf_append_str(out, "; ");
        note(out, r, r->headers[i].name, ": ");
        note(out, r, r->headers[i].value, "");
    }
    for (unsigned i = r->header_count; i < r->header_count + r->variable_count; i++) {
        buf_append_str(out, "; ");
        note(out, r, r->headers[i].name, "=");
        note(out, r, r->headers[i].value, "");
    }
    if (r->has_body) {
        ssize_t len = body_read(&r->body, 0, body, sizeof body);
        assert_true(len >= 0 && (uint64_t)len == r->body.length);
        buf_printf(out, "; body %.*s", (int)len, body);
    }
    buf_append(out, "", 1);
}

/* Gives the bytes, at most `most` at a time. */
static enum http_result give(struct parser *p, const char *bytes, size_t len, size_t most)
{
    enum http_result result = HTTP_MORE;
    for (size_t given = 0; result == HTTP_MORE && given < len;) {
        size_t room;
        char *to = parser_room(p, &room);
        size_t n = len - given < most ? len - given : most;
        n = n < room ? n : room;
        memcpy(to, bytes + given, n);
        given += n;
        result = parser_feed(p, n);
    }
    return result;
}

static struct parser *new_parser(struct request *r)
{
    struct parser *p = parser_new(r, &limits);
    parser_expect_uwsgi(p, true);
    return p;
}

static void expect_request(const char *text, const char *body, const char *wanted)
{
    struct buf packet = {0}, got = {0};
    struct request r;
    build(&packet, text, body);
    for (size_t most = 1; most <= packet.len; most++) {
        struct parser *p = new_parser(&r);
        assert_int_equal(give(p, packet.data, packet.len, most), HTTP_READY);
        assert_false(r.keep_alive || r.chunked || r.expects_continue);
        buf_reset(&got);
        describe(&r, &got);
        assert_string_equal(got.data, wanted);
        parser_free(p);
    }
    buf_fini(&packet);
    buf_fini(&got);
}

static void expect_refusal(const char *bytes, size_t len, unsigned status, const char *reason)
{
    struct request r;
    for (size_t most = 1; most <= len; most++) {
        struct parser *p = new_parser(&r);
        if (give(p, bytes, len, most) != HTTP_REFUSED)
            fail_msg("taken: %s", reason);
        assert_int_equal(r.refusal_status, status);
        assert_non_null(strstr(r.refusal_reason, reason));
        parser_free(p);
    }
}

#define USUAL "REQUEST_METHOD=GET|REQUEST_URI=/a?b|PATH_INFO=/a|SERVER_PROTOCOL=HTTP/1.1|"

static void test_requests(void **state)
{
    (void)state;
    static const struct {
        const char *packet, *body, *request;
    } cases[] = {
        {USUAL, "", "GET /a?b HTTP/1.1 "},
        {USUAL "HTTP_HOST=h:1|HTTP_X_Y= v |", "", "GET /a?b HTTP/1.1 h:1; HOST: h:1; X-Y: v"},
        {USUAL "QUERY_STRING=|", "", "GET /a? HTTP/1.1 "},
        {USUAL "QUERY_STRING=c=%20|", "", "GET /a?c=%20 HTTP/1.1 "},
        {"PATH_INFO=/a|REQUEST_METHOD=GET|", "", "GET /a? HTTP/1.1 "},
        {"PATH_INFO=/a|REQUEST_METHOD=GET|QUERY_STRING=b|", "", "GET /a?b HTTP/1.1 "},
        {"REQUEST_URI=/%41|REQUEST_METHOD=GET|", "", "GET /%41? HTTP/1.1 "},
        /* the path of REQUEST_URI stays as it was sent where it says the same */
        {"REQUEST_URI=/%41|PATH_INFO=/A|REQUEST_METHOD=GET|", "", "GET /%41? HTTP/1.1 "},
        {"REQUEST_URI=/%41|PATH_INFO=/%41|REQUEST_METHOD=GET|", "", "GET /%2541? HTTP/1.1 "},
        {"REQUEST_URI=/x|PATH_INFO=/\n \xff?#%|REQUEST_METHOD=GET|", "",
         "GET /%0A%20%FF%3F%23%25? HTTP/1.1 "},
        {"REQUEST_URI=*|PATH_INFO=|REQUEST_METHOD=OPTIONS|", "", "OPTIONS ? HTTP/1.1 "},
        {"REQUEST_URI=http://h/a|REQUEST_METHOD=GET|HTTP_HOST=x|", "",
         "GET /a? HTTP/1.1 h; HOST: h"},
        {"REQUEST_URI=/|REQUEST_METHOD=GET|SERVER_PROTOCOL=HTTP/2.0|", "", "GET /? HTTP/2.0 "},
        {USUAL "CONTENT_LENGTH=|CONTENT_TYPE=|", "", "GET /a?b HTTP/1.1 "},
        {USUAL "CONTENT_LENGTH=0|", "", "GET /a?b HTTP/1.1 ; CONTENT-LENGTH: 0; body "},
        {USUAL "CONTENT_LENGTH=4|CONTENT_TYPE=t|", "bodymore",
         "GET /a?b HTTP/1.1 ; CONTENT-TYPE: t; CONTENT-LENGTH: 4; body body"},
        /* a rewritten path moves the beginning of the body */
        {"REQUEST_METHOD=PUT|REQUEST_URI=/a|PATH_INFO=/bcd|CONTENT_LENGTH=4|", "body",
         "PUT /bcd? HTTP/1.1 ; CONTENT-LENGTH: 4; body body"},
        {USUAL "HTTP_CONTENT_LENGTH=9|HTTP_TRANSFER_ENCODING=chunked|HTTP_EXPECT=x|", "",
         "GET /a?b HTTP/1.1 "},
        {USUAL "A=1|UWSGI_FILE=x|wsgi.input=x|X-Y=x|b_2=|SERVER_NAME=|SCRIPT_NAME=x|", "",
         "GET /a?b HTTP/1.1 ; A=1; b_2="},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        expect_request(cases[i].packet, cases[i].body, cases[i].request);
}

#define NINES "9999999999999999999999"
#define LONG  "0123456789012345678901234567890123456789012345678901234567890"

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *packet;
        unsigned status;
        const char *reason;
    } cases[] = {
        {"", 400, "malformed request line"},
        {"PATH_INFO=/|", 400, "malformed request line"},
        {"REQUEST_METHOD=GET|", 400, "malformed request line"},
        {"REQUEST_METHOD=GET /|REQUEST_URI=/|", 400, "malformed request line"},
        {"REQUEST_METHOD=GET|REQUEST_URI=a|", 400, "malformed request target"},
        {"REQUEST_METHOD=CONNECT|REQUEST_URI=/|", 501, "not implemented"},
        {"REQUEST_METHOD=GET|REQUEST_URI=/|SERVER_PROTOCOL=HTTP/2.1|", 505, "version"},
        {"REQUEST_METHOD=GET|REQUEST_URI=/|SERVER_PROTOCOL=HTTP/4.0|", 505, "version"},
        {"REQUEST_METHOD=GET|REQUEST_URI=/" LONG "|", 414, "too long"},
        {"REQUEST_METHOD=GET|REQUEST_URI=/|PATH_INFO=/" LONG "|", 414, "too long"},
        {USUAL "REQUEST_URI=/|", 400, "REQUEST_URI is sent twice"},
        {USUAL "CONTENT_LENGTH=1|CONTENT_LENGTH=1|", 400, "CONTENT_LENGTH is sent twice"},
        {USUAL "CONTENT_LENGTH=|CONTENT_LENGTH=1|", 400, "CONTENT_LENGTH is sent twice"},
        {USUAL "HTTP_HOST=a|HTTP_HOST=a|", 400, "repeated"},
        {USUAL "HTTP_HOST=a b|", 400, "malformed Host"},
        {USUAL "QUERY_STRING=a b|", 400, "QUERY_STRING"},
        {USUAL "CONTENT_LENGTH=+1|", 400, "Content-Length"},
        {USUAL "CONTENT_LENGTH=101|", 413, "Content-Length"},
        {USUAL "CONTENT_LENGTH=" NINES "|", 413, "Content-Length"},
        {USUAL "HTTP_A=a\nb|", 400, "control byte"},
        {USUAL "A=a\nb|", 400, "control byte"},
        {USUAL "HTTP_=a|", 400, "malformed name"},
        {USUAL "=a|", 400, "malformed name"},
        {USUAL "A B=a|", 400, "malformed name"},
        {USUAL "HTTP_A=" LONG "|", 431, "field too long"},
        {USUAL "A=" LONG "|", 431, "field too long"},
        {USUAL "HTTP_A=|HTTP_B=|HTTP_C=|HTTP_D=|HTTP_E=|HTTP_F=|", 431, "too many"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf packet = {0};
        build(&packet, cases[i].packet, "");
        expect_refusal(packet.data, packet.len, cases[i].status, cases[i].reason);
        buf_fini(&packet);
    }
}

static void test_forms(void **state)
{
    (void)state;
#define BYTES(text) text, sizeof(text) - 1
    expect_refusal(BYTES("GET / HTTP/1.1\r\n\r\n"), 400, "HTTP where uwsgi is spoken");
    expect_refusal(BYTES("G"), 400, "HTTP where uwsgi is spoken");
    expect_refusal(BYTES("\x16\x03\x01"), 400, "no uwsgi packet");
    expect_refusal(BYTES("\0\0\0\1"), 400, "modifier2");
    expect_refusal(BYTES("\0\xff\xff\0"), 431, "head too long");
    expect_refusal(BYTES("\0\1\0\0x"), 400, "disagree");
    expect_refusal(BYTES("\0\3\0\0\1\0A"), 400, "disagree");
    expect_refusal(BYTES("\0\4\0\0\1\0AB"), 400, "disagree");
    expect_refusal(BYTES("\0\5\0\0\1\0A\1\0B"), 400, "disagree");
    expect_refusal(BYTES("\0\6\0\0\1\0A\2\0B"), 400, "disagree");
    expect_refusal(BYTES("\0\7\0\0\1\0A\1\0BC"), 400, "disagree");
    expect_refusal(BYTES("\0\6\0\0\xff\xff"
                         "A\1\0B"),
                   400, "disagree");
}

static void test_half_packets(void **state)
{
    (void)state;
    struct buf packet = {0};
    struct request r;
    build(&packet, USUAL "CONTENT_LENGTH=4|", "body");
    for (size_t len = 0; len < packet.len; len++) {
        struct parser *p = new_parser(&r);
        assert_int_equal(give(p, packet.data, len, len + 1), HTTP_MORE);
        assert_int_equal(parser_is_idle(p), len == 0);
        assert_int_equal(parser_in_body(p), len + 4 >= packet.len);
        parser_free(p);
    }
    buf_fini(&packet);
}

/* A parser goes from one protocol to the other with its next connection. */
static void test_both_protocols(void **state)
{
    (void)state;
    static const char http[] = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
    struct buf packet = {0};
    struct request r;
    build(&packet, USUAL, "");
    struct parser *p = new_parser(&r);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(give(p, packet.data, packet.len, packet.len), HTTP_READY);
        parser_reset(p);
        parser_expect_uwsgi(p, false);
        assert_int_equal(give(p, http, sizeof(http) - 1, 1), HTTP_READY);
        assert_true(r.keep_alive);
        parser_reset(p);
        assert_int_equal(give(p, packet.data, 1, 1), HTTP_REFUSED);
        assert_non_null(strstr(r.refusal_reason, "uwsgi where HTTP is spoken"));
        assert_true(r.refusal_shown);
        buf_reset(&r.in);
        parser_reset(p);
        parser_expect_uwsgi(p, true);
    }
    parser_free(p);
    buf_fini(&packet);
}

static void test_clients(void **state)
{
    (void)state;
    static const struct {
        const char *variables, *address; /* NULL: malformed */
        unsigned port;
    } cases[] = {
        {"", "", 0},
        {"REMOTE_ADDR=|REMOTE_PORT=|", "", 0},
        {"REMOTE_ADDR=unix:|", "unix", 0},
        {"REMOTE_ADDR=192.0.2.1|REMOTE_PORT=80|", "::ffff:192.0.2.1", 80},
        {"REMOTE_ADDR=2001:db8::1|", "2001:db8::1", 0},
        {"REMOTE_ADDR=192.0.2|", NULL, 0},
        {"REMOTE_ADDR=192.0.2.1:80|", NULL, 0},
        {"REMOTE_ADDR=192.0.2.1|REMOTE_PORT=65536|", NULL, 0},
        {"REMOTE_ADDR=192.0.2.1|REMOTE_PORT=-1|", NULL, 0},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct buf packet = {0}, text = {0};
        struct request r;
        struct sockaddr_in6 peer;
        char address[INET6_ADDRSTRLEN] = "";
        buf_printf(&text, "%s%s", USUAL, cases[i].variables);
        build(&packet, text.data, "");
        struct parser *p = new_parser(&r);
        assert_int_equal(give(p, packet.data, packet.len, packet.len), HTTP_READY);
        assert_int_equal(forwarded_peer(&r, &peer), cases[i].address != NULL);
        if (peer.sin6_family == AF_INET6)
            inet_ntop(AF_INET6, &peer.sin6_addr, address, sizeof address);
        else if (peer.sin6_family == AF_UNIX)
            strcpy(address, "unix");
        if (cases[i].address) {
            assert_string_equal(address, cases[i].address);
            assert_int_equal(ntohs(peer.sin6_port), cases[i].port);
        }
        parser_free(p);
        buf_fini(&packet);
        buf_fini(&text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),       cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_forms),          cmocka_unit_test(test_half_packets),
        cmocka_unit_test(test_both_protocols), cmocka_unit_test(test_clients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
