/* The access log: every atom, JSON, and that nothing from outside can forge a line or a field. */
#include "http/access.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

/* A request as the parser leaves it, without the parser. */
static struct request request;
static struct response response;
static struct access_entry entry;

static struct http_text put(const char *text)
{
    struct http_text at = {(uint32_t)request.in.len, (uint32_t)strlen(text)};
    buf_append_str(&request.in, text);
    return at;
}

static void put_header(const char *name, const char *value)
{
    struct http_header *header = &request.headers[request.header_count++];
    header->name = put(name);
    header->value = put(value);
}

static int set_up(void **state)
{
    (void)state;
    setenv("TZ", "UTC-2", 1);
    tzset();
    memset(&request, 0, sizeof request);
    memset(&response, 0, sizeof response);
    request.line = put("GET /a%20b?x=1 HTTP/1.1");
    request.method = (struct http_text){request.line.offset, 3};
    request.target = (struct http_text){request.line.offset + 4, 10};
    request.path = (struct http_text){request.target.offset, 6};
    request.query = (struct http_text){request.target.offset + 7, 3};
    put_header("Referer", "http://example.org/");
    put_header("User-Agent", "curl/8");
    put_header("Authorization", "Basic YWxpY2U6c2VjcmV0");
    put_header("X-Id", "");
    buf_append_str(&response.head, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-A:\t b\r\n\r\n"
                                   "X-Body: no\r\n");
    entry = (struct access_entry){
        .client = "203.0.113.7",
        .request = &request,
        .response = &response,
        .status = 200,
        .body_bytes = 14,
        .start = {.tv_sec = 1795183387, .tv_nsec = 123456789},
        .duration_ns = 2345678901,
        .worker = 3,
    };
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    buf_fini(&request.in);
    buf_fini(&response.head);
    return 0;
}

static void check_line(const char *format, const char *expected)
{
    struct buf out = {0};
    char *error;
    struct access_format *compiled = access_compile(format, &error);
    assert_non_null(compiled);
    access_line(compiled, &entry, &out);
    buf_append(&out, "", 1);
    assert_string_equal(out.data, expected);
    access_free(compiled);
    buf_fini(&out);
}

static void test_combined(void **state)
{
    (void)state;
    check_line("combined",
               "203.0.113.7 - alice [20/Nov/2026:16:03:07 +0200] \"GET /a%20b?x=1 HTTP/1.1\" "
               "200 14 \"http://example.org/\" \"curl/8\"\n");
}

static void test_atoms(void **state)
{
    (void)state;
    char pid[32];
    snprintf(pid, sizeof pid, "<%d>\n", (int)getpid());
    check_line("%(m)s|%(U)s|%(q)s|%(H)s|%(b)s|%(B)s", "GET|/a%20b|x=1|HTTP/1.1|14|14\n");
    check_line("%(T)s|%(M)s|%(D)s|%(L)s", "2|2345|2345678|2.345678\n");
    check_line("%(p)s", pid);
    check_line("100%% of %(s)s", "100% of 200\n");
    check_line("%({x-ID}i)s|%({user-agent}i)s|%({none}i)s", "-|curl/8|-\n");
    check_line("%({content-type}o)s|%({X-A}o)s|%({X-Body}o)s|%({HTTP/1.1 200 OK}o)s",
               "text/plain|b|-|-\n");
    check_line("", "\n");
}

static void test_nothing_is_known(void **state)
{
    (void)state;
    request.line.length = 0;
    entry.client = "-";
    entry.response = NULL;
    entry.status = 400;
    entry.body_bytes = 0;
    check_line("%(h)s %(u)s \"%(r)s\" %(s)s %(b)s %(B)s %(m)s %(U)s %(q)s %(H)s %({a}i)s %({a}o)s",
               "- - \"-\" 400 - 0 - - - - - -\n");
    entry.request = NULL;
    check_line("%(r)s %(f)s", "- -\n");
}

static void test_cut(void **state)
{
    (void)state;
    entry.response = NULL;
    entry.status = 0;
    entry.body_bytes = 0;
    entry.pid = 4711;
    check_line("\"%(r)s\" %(s)s %(b)s %(p)s %({content-type}o)s",
               "\"GET /a%20b?x=1 HTTP/1.1\" 000 - <4711> -\n");
}

static void test_json(void **state)
{
    (void)state;
    check_line("json",
               "{\"time\": \"2026-11-20T14:03:07.123Z\", \"client\": \"203.0.113.7\", "
               "\"method\": \"GET\", \"path\": \"/a%20b\", \"query\": \"x=1\", \"protocol\": "
               "\"HTTP/1.1\", \"status\": 200, \"bytes\": 14, \"duration_ms\": 2345.678, "
               "\"referer\": \"http://example.org/\", \"user_agent\": \"curl/8\", \"worker\": 3, "
               "\"end\": null}\n");
    request.line.length = 0;
    entry.end = "header timeout";
    entry.status = 408;
    check_line("json",
               "{\"time\": \"2026-11-20T14:03:07.123Z\", \"client\": \"203.0.113.7\", "
               "\"method\": null, \"path\": null, \"query\": null, \"protocol\": null, "
               "\"status\": 408, \"bytes\": 14, \"duration_ms\": 2345.678, \"referer\": null, "
               "\"user_agent\": null, \"worker\": 3, \"end\": \"header timeout\"}\n");
}

static void test_forgery(void **state)
{
    (void)state;
    request.header_count = 0;
    put_header("User-Agent", "x\" 200\n1.2.3.4 - - \\");
    put_header("Referer", "\xc3\xa9\xff\x1b[2J");
    put_header("Authorization", "Basic YSIKYjpj"); /* a"\nb:c */
    check_line("\"%(a)s\" %(u)s %(f)s",
               "\"x\\\" 200\\x0a1.2.3.4 - - \\\\\" a\\\"\\x0ab \xc3\xa9\\xff\\x1b[2J\n");
    struct buf out = {0};
    append_json_text(&out, (struct span){"\"\\\n\x7f\xff\xc3\xa9", 7});
    buf_append(&out, "", 1);
    assert_string_equal(out.data, "\"\\\"\\\\\\n\\u007f\\ufffd\xc3\xa9\"");
    buf_fini(&out);
}

static void check_user(const char *value, const char *expected)
{
    request.header_count = 0;
    put_header("authorization", value);
    check_line("%(u)s", expected);
}

static void test_user(void **state)
{
    (void)state;
    check_user("basic YTpi", "a\n");
    check_user("Basic YWI6", "ab\n");
    check_user("Basic YSBbeF0gIG1lOmI=", "a\\x20[x]\\x20\\x20me\n");
    check_user("Basic IDpi", "\\x20\n");
    check_user("Basic YQ==", "-\n"); /* no colon */
    check_user("Basic OmI=", "-\n"); /* no name */
    check_user("Basic !!!!", "-\n");
    check_user("Basic ", "-\n");
    check_user("Bearer YTpi", "-\n");
}

static void test_wrong_formats(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "%",      "%(",       "%(h",     "%(h)",     "%(h)d",   "%h",   "%(x)s",
        "%(ha)s", "%()s",     "%({}i)s", "%({a}x)s", "%({a}i)", "%({a", "ok %(s)s then %(Z)s",
        "100%",   "%({a}e)s", "% d",
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        char *error = NULL;
        assert_null(access_compile(wrong[i], &error));
        assert_non_null(strstr(error, "atom"));
        free(error);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_combined, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_atoms, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_is_known, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cut, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_json, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_forgery, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_user, set_up, tear_down),
        cmocka_unit_test(test_wrong_formats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
