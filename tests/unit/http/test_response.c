/* test_response.c: heads as they go over the wire, what an application may not put into
 * them, and the framing of every kind of response. */
#include "http/response.c"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define OK(call) assert_int_equal(call, RESPONSE_OK)

static const struct response_facts http11 = {
    .version_minor = 1, .keep_alive = true, .known_bytes = -1};

static enum response_check status(struct response *r, const char *text)
{
    return response_status(r, text, strlen(text));
}

static enum response_check header(struct response *r, const char *name, const char *value)
{
    return response_header(r, name, strlen(name), value, strlen(value));
}

/* The head with the date, which changes, cut out. */
static char *head_text(const struct response *r)
{
    static char text[4096];
    char line[128];
    assert_true(r->head.len < sizeof(text));
    memcpy(text, r->head.data, r->head.len);
    text[r->head.len] = '\0';
    snprintf(line, sizeof(line), "Date: %s\r\n", response_date());
    char *date = strstr(text, line);
    if (date)
        memmove(date, date + strlen(line), strlen(date + strlen(line)) + 1);
    return text;
}

static void test_head_of_an_ordinary_response(void **state)
{
    (void)state;
    struct response r = {0};
    OK(status(&r, "200 OK"));
    OK(header(&r, "Content-Type", "text/plain"));
    OK(header(&r, "Content-Length", "5"));
    OK(header(&r, "X-Name", "caf\xe9"));
    response_finish_head(&r, &http11);
    assert_string_equal(head_text(&r), "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
                                       "X-Name: caf\xe9\r\nServer: myserver\r\n"
                                       "Content-Length: 5\r\n\r\n");
    assert_int_equal(r.status, 200);
    assert_int_equal(r.framing, RESPONSE_LENGTH);
    assert_true(r.keep_alive);
    response_fini(&r);
}

static void test_new_status_forgets_earlier_headers(void **state)
{
    (void)state;
    struct response r = {0};
    OK(status(&r, "200 OK"));
    OK(header(&r, "Content-Length", "5"));
    OK(header(&r, "Date", "x"));
    OK(status(&r, "500 Oops"));
    assert_int_equal(r.content_length, -1);
    assert_false(r.has_date);
    OK(header(&r, "Content-Length", "6"));
    response_finish_head(&r, &http11);
    assert_string_equal(head_text(&r), "HTTP/1.1 500 Oops\r\nServer: myserver\r\n"
                                       "Content-Length: 6\r\n\r\n");
    response_fini(&r);
}

static void test_bad_statuses(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",         "200",        "200OK",     "2000 OK",      "20 OK",
        "+20 OK",   "OK",         " 200 OK",   "100 Continue", "101 Switching Protocols",
        "199 x",    "600 x",      "999 x",     "099 x",        "200 a\rb",
        "200 a\nb", "200 a\r\nb", "200 a\x01", "200 a\x7f",    "200\tOK",
    };
    struct response r = {0};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(status(&r, bad[i]), RESPONSE_BAD_STATUS);
        assert_int_equal(r.status, 0);
    }
    assert_int_equal(response_status(&r, "200 a\0b", 7), RESPONSE_BAD_STATUS);
    OK(status(&r, "299 "));
    OK(status(&r, "599 caf\xe9"));
    assert_int_equal(r.status, 599);
    response_fini(&r);
}

static void test_bad_headers(void **state)
{
    (void)state;
    struct response r = {0};
    OK(status(&r, "200 OK"));
    size_t before = r.head.len;
    static const char *const bad_names[] = {"", "a b", "a:", "a\r\nb", "caf\xe9", "a(", "\x7f"};
    for (size_t i = 0; i < ARRAY_LEN(bad_names); i++)
        assert_int_equal(header(&r, bad_names[i], "x"), RESPONSE_BAD_NAME);
    assert_int_equal(response_header(&r, "a\0b", 3, "x", 1), RESPONSE_BAD_NAME);
    static const char *const bad_values[] = {"a\rb", "a\nb", "a\r\nX: y", "\x01", "\x7f", "\x1b["};
    for (size_t i = 0; i < ARRAY_LEN(bad_values); i++)
        assert_int_equal(header(&r, "X", bad_values[i]), RESPONSE_BAD_VALUE);
    assert_int_equal(response_header(&r, "X", 1, "a\0b", 3), RESPONSE_BAD_VALUE);
    static const char *const bad_lengths[] = {
        "", "-1", "+4", "4a", " 4", "4 ", "0x4", "4,4", "9223372036854775808"};
    for (size_t i = 0; i < ARRAY_LEN(bad_lengths); i++)
        assert_int_equal(header(&r, "Content-Length", bad_lengths[i]), RESPONSE_BAD_LENGTH);
    static const char *const hop[] = {
        "Connection",      "keep-alive", "TRANSFER-ENCODING",  "TE",
        "Trailer",         "Upgrade",    "Proxy-Authenticate", "Proxy-Authorization",
        "Proxy-Connection"};
    for (size_t i = 0; i < ARRAY_LEN(hop); i++)
        assert_int_equal(header(&r, hop[i], "x"), RESPONSE_HOP_BY_HOP);
    OK(header(&r, "Content-Length", "9223372036854775807"));
    assert_int_equal(header(&r, "content-length", "5"), RESPONSE_BAD_LENGTH);
    assert_int_equal(r.head.len, before);
    OK(header(&r, "X-Tab", "a\tb"));
    OK(header(&r, "X-Empty", ""));
    response_fini(&r);
}

static void test_every_check_has_a_sentence(void **state)
{
    (void)state;
    for (int check = RESPONSE_OK; check <= RESPONSE_HOP_BY_HOP; check++)
        assert_true(strlen(response_check_text((enum response_check)check)) > 5);
}

static void test_tokens(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++) {
        char byte = (char)c;
        bool expected = c < 128 && c > 0 && (isalnum(c) || strchr("!#$%&'*+-.^_`|~", c));
        assert_int_equal(is_token(&byte, 1), expected);
    }
}

static void test_date_and_server_stand_once(void **state)
{
    (void)state;
    struct response r = {0};
    OK(status(&r, "200 OK"));
    OK(header(&r, "DATE", "yesterday"));
    OK(header(&r, "Date", "today"));
    OK(header(&r, "Server", "mine"));
    OK(header(&r, "server", "other"));
    response_finish_head(&r, &http11);
    assert_string_equal(head_text(&r), "HTTP/1.1 200 OK\r\nDATE: yesterday\r\nServer: mine\r\n"
                                       "Transfer-Encoding: chunked\r\n\r\n");
    response_fini(&r);
}

static void test_date_is_kept(void **state)
{
    (void)state;
    assert_int_equal(strlen(response_date()), DATE_HTTP_LEN);
    assert_ptr_equal(response_date(), response_date());
}

/* ---- framing ---- */

struct framing_case {
    const char *status, *length; /* NULL: the application gave none */
    struct response_facts facts;
    enum response_framing framing;
    bool keep_alive;
    const char *expected; /* what stands behind Server and Date */
};

static const struct framing_case framing_cases[] = {
    /* HTTP/1.1 */
    {"200 OK",
     NULL,
     {false, 1, true, -1, NULL},
     RESPONSE_CHUNKED,
     true,
     "Transfer-Encoding: chunked\r\n"},
    {"200 OK", NULL, {false, 1, true, 7, NULL}, RESPONSE_LENGTH, true, "Content-Length: 7\r\n"},
    {"200 OK", NULL, {false, 1, true, 0, NULL}, RESPONSE_LENGTH, true, "Content-Length: 0\r\n"},
    {"200 OK", "5", {false, 1, true, 7, NULL}, RESPONSE_LENGTH, true, "Content-Length: 5\r\n"},
    {"200 OK",
     NULL,
     {false, 1, false, -1, NULL},
     RESPONSE_CHUNKED,
     false,
     "Transfer-Encoding: chunked\r\nConnection: close\r\n"},
    {"200 OK",
     "5",
     {false, 1, false, -1, NULL},
     RESPONSE_LENGTH,
     false,
     "Content-Length: 5\r\nConnection: close\r\n"},
    /* HTTP/1.0 */
    {"200 OK", NULL, {false, 0, false, -1, NULL}, RESPONSE_TO_CLOSE, false, ""},
    {"200 OK", NULL, {false, 0, true, -1, NULL}, RESPONSE_TO_CLOSE, false, ""},
    {"200 OK",
     "5",
     {false, 0, true, -1, NULL},
     RESPONSE_LENGTH,
     true,
     "Content-Length: 5\r\nConnection: keep-alive\r\n"},
    {"200 OK", "5", {false, 0, false, -1, NULL}, RESPONSE_LENGTH, false, "Content-Length: 5\r\n"},
    /* No body. */
    {"200 OK", "5", {true, 1, true, 0, NULL}, RESPONSE_NO_BODY, true, "Content-Length: 5\r\n"},
    {"200 OK", NULL, {true, 1, true, 0, NULL}, RESPONSE_NO_BODY, true, ""},
    {"200 OK", NULL, {true, 1, true, 9, NULL}, RESPONSE_NO_BODY, true, "Content-Length: 9\r\n"},
    {"200 OK", NULL, {true, 1, true, -1, NULL}, RESPONSE_NO_BODY, true, ""},
    {"204 No Content", "0", {false, 1, true, 0, NULL}, RESPONSE_NO_BODY, true, ""},
    {"204 No Content", NULL, {false, 1, true, 5, NULL}, RESPONSE_NO_BODY, true, ""},
    {"304 Not Modified", "5", {false, 1, true, -1, NULL}, RESPONSE_NO_BODY, true, ""},
    {"304 Not Modified",
     NULL,
     {false, 0, true, 0, NULL},
     RESPONSE_NO_BODY,
     true,
     "Connection: keep-alive\r\n"},
    {"304 Not Modified",
     NULL,
     {true, 1, false, 0, NULL},
     RESPONSE_NO_BODY,
     false,
     "Connection: close\r\n"},
};

static void test_framing(void **state)
{
    (void)state;
    struct response r = {0};
    for (size_t i = 0; i < ARRAY_LEN(framing_cases); i++) {
        const struct framing_case *c = &framing_cases[i];
        char expected[256];
        response_reset(&r);
        OK(status(&r, c->status));
        if (c->length)
            OK(header(&r, "Content-Length", c->length));
        response_finish_head(&r, &c->facts);
        snprintf(expected, sizeof(expected), "HTTP/1.1 %s\r\nServer: myserver\r\n%s\r\n", c->status,
                 c->expected);
        assert_string_equal(head_text(&r), expected);
        assert_int_equal(r.framing, c->framing);
        assert_int_equal(r.keep_alive, c->keep_alive);
    }
    response_fini(&r);
}

static void test_admission(void **state)
{
    (void)state;
    struct response r = {0};
    OK(status(&r, "200 OK"));
    OK(header(&r, "Content-Length", "5"));
    response_finish_head(&r, &http11);
    assert_int_equal(response_admit(&r, 3), 3);
    assert_false(response_is_complete(&r));
    assert_int_equal(response_admit(&r, 3), 2);
    assert_true(response_is_complete(&r));
    assert_int_equal(response_admit(&r, 3), 0);
    assert_int_equal(r.body_bytes, 5);

    response_reset(&r);
    OK(status(&r, "204 No Content"));
    response_finish_head(&r, &http11);
    assert_int_equal(response_admit(&r, 3), 0);
    assert_true(response_is_complete(&r));

    response_reset(&r);
    OK(status(&r, "200 OK"));
    response_finish_head(&r, &http11);
    assert_int_equal(response_admit(&r, 1u << 30), 1u << 30);
    assert_int_equal(r.body_bytes, 1u << 30);
    assert_true(response_is_complete(&r));
    response_fini(&r);
}

static void test_chunk_heads(void **state)
{
    (void)state;
    static const struct {
        size_t len;
        const char *text;
    } cases[] = {
        {1, "1\r\n"},
        {15, "f\r\n"},
        {16, "10\r\n"},
        {4096, "1000\r\n"},
        {0xabcdef, "abcdef\r\n"},
        {SIZE_MAX, "ffffffffffffffff\r\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char out[RESPONSE_CHUNK_HEAD_MAX];
        size_t len = response_chunk_head(out, cases[i].len);
        assert_int_equal(len, strlen(cases[i].text));
        assert_memory_equal(out, cases[i].text, len);
    }
}

/* ---- our own pages ---- */

static void test_error_page_is_complete(void **state)
{
    (void)state;
    struct response r = {0};
    struct response_facts facts = {.version_minor = 1, .keep_alive = false, .known_bytes = -1};
    OK(status(&r, "200 OK"));
    response_error(&r, 400, &facts);
    char *text = head_text(&r);
    char *body = strstr(text, "\r\n\r\n");
    assert_non_null(body);
    body += 4;
    char length[64];
    snprintf(length, sizeof(length), "Content-Length: %zu\r\n", strlen(body));
    assert_non_null(strstr(text, length));
    assert_non_null(strstr(text, "Connection: close\r\n"));
    assert_non_null(strstr(text, "Content-Type: text/html"));
    assert_non_null(strstr(body, "<h1>400 Bad Request</h1>"));
    assert_int_equal(r.body_bytes, strlen(body));
    assert_true(response_is_complete(&r));

    facts.is_head = true;
    facts.keep_alive = true;
    response_error(&r, 500, &facts);
    text = head_text(&r);
    assert_string_equal(text + strlen(text) - 4, "\r\n\r\n");
    assert_non_null(strstr(text, "Content-Length: "));
    assert_null(strstr(text, "Connection"));
    response_error(&r, 599, &facts);
    assert_non_null(strstr(head_text(&r), "HTTP/1.1 599 Unknown\r\n"));
    response_fini(&r);
}

static void test_warm_responses_allocate_nothing(void **state)
{
    (void)state;
    struct response r = {0};
    const char *memory = NULL;
    for (int i = 0; i < 100; i++) {
        OK(status(&r, "200 OK"));
        OK(header(&r, "Content-Type", "text/html; charset=utf-8"));
        response_finish_head(&r, &http11);
        assert_true(memory == NULL || memory == r.head.data);
        memory = r.head.data;
        response_reset(&r);
    }
    response_fini(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head_of_an_ordinary_response),
        cmocka_unit_test(test_new_status_forgets_earlier_headers),
        cmocka_unit_test(test_bad_statuses),
        cmocka_unit_test(test_bad_headers),
        cmocka_unit_test(test_every_check_has_a_sentence),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_date_and_server_stand_once),
        cmocka_unit_test(test_date_is_kept),
        cmocka_unit_test(test_framing),
        cmocka_unit_test(test_admission),
        cmocka_unit_test(test_chunk_heads),
        cmocka_unit_test(test_error_page_is_complete),
        cmocka_unit_test(test_warm_responses_allocate_nothing),
    };
    return cmocka_run_group_tests_name("response", tests, NULL, NULL);
}
