/* Trusted proxies: parsing the list, matching addresses, choosing the client. */
#include "http/forwarded.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

static struct forwarded_trust parsed(const char *list)
{
    struct forwarded_trust trust;
    assert_null(forwarded_parse(&trust, list));
    return trust;
}

static bool trusts(const struct forwarded_trust *trust, const char *text)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
        return forwarded_trusts(trust, (struct sockaddr *)&v4);
    assert_int_equal(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
    return forwarded_trusts(trust, (struct sockaddr *)&v6);
}

static void test_networks(void **state)
{
    (void)state;
    struct forwarded_trust trust =
        parsed("127.0.0.1, ::1,10.0.0.0/8,192.168.4.0/22,2001:db8::/33 ,\t172.16.0.0/12");
    assert_int_equal(trust.count, 6);
    static const char *const in[] = {
        "127.0.0.1",   "::1",        "10.0.0.0",        "10.255.255.255",  "192.168.7.255",
        "2001:db8::1", "172.31.0.1", "::ffff:10.1.2.3", "2001:db8:7fff::",
    };
    static const char *const outside[] = {
        "127.0.0.2",       "::2",        "11.0.0.0",        "9.255.255.255",
        "192.168.8.0",     "8.8.8.8",    "2001:db8:8000::", "172.32.0.0",
        "::ffff:11.0.0.1", "::10.1.2.3",
    };
    for (size_t i = 0; i < ARRAY_LEN(in); i++)
        assert_true(trusts(&trust, in[i]));
    for (size_t i = 0; i < ARRAY_LEN(outside); i++)
        assert_false(trusts(&trust, outside[i]));
    forwarded_fini(&trust);
    assert_int_equal(trust.count, 0);
}

static void test_everyone_and_nobody(void **state)
{
    (void)state;
    struct forwarded_trust everyone = parsed("*"), nobody = parsed(""),
                           all_v4 = parsed("0.0.0.0/0");
    assert_true(trusts(&everyone, "8.8.8.8") && trusts(&everyone, "2001:db8::1"));
    assert_false(trusts(&nobody, "127.0.0.1"));
    assert_true(trusts(&all_v4, "8.8.8.8"));
    assert_false(trusts(&all_v4, "2001:db8::1"));
    forwarded_fini(&all_v4);
}

static void test_unix_peers_are_trusted(void **state)
{
    (void)state;
    struct forwarded_trust nobody = parsed(" ");
    assert_true(forwarded_trusts(&nobody, &(struct sockaddr){.sa_family = AF_UNIX}));
    assert_false(forwarded_trusts(&nobody, &(struct sockaddr){.sa_family = AF_UNSPEC}));
}

static void test_wrong_entries(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "localhost",
        "10.0.0",
        "10.0.0.0/33",
        "10.0.0.0/",
        "10.0.0.0/-1",
        "10.0.0.0/8x",
        "10.0.0.1/8",
        "::1/129",
        "2001:db8::1/32",
        "1.2.3.4:80",
        "[::1]",
        "fe80::1%eth0",
        "300.1.1.1",
        "10.0.0.0/ 8",
        "**",
        "1.2.3.4 5.6.7.8",
        "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa",
    };
    struct forwarded_trust trust;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        assert_ptr_equal(forwarded_parse(&trust, wrong[i]), wrong[i]);
        assert_int_equal(trust.count, 0);
        assert_null(trust.networks);
    }
    static const char list[] = "127.0.0.1,bad,::1";
    assert_ptr_equal(forwarded_parse(&trust, list), list + 10);
    static const char empty[] = "127.0.0.1,,::1";
    assert_ptr_equal(forwarded_parse(&trust, empty), empty + 10);
}

/* `expected` NULL: there is no client in it. */
static void check_client(const char *list, const char *value, const char *expected)
{
    struct forwarded_trust trust = parsed(list);
    char out[FORWARDED_ADDRESS_MAX];
    /* Not terminated, as in a request. */
    size_t len = strlen(value);
    char *copy = memcpy(xmalloc(len), value, len);
    assert_int_equal(forwarded_client(&trust, copy, len, out), expected != NULL);
    if (expected)
        assert_string_equal(out, expected);
    free(copy);
    forwarded_fini(&trust);
}

static void test_client(void **state)
{
    (void)state;
    static const char nets[] = "127.0.0.1,10.0.0.0/8,::1";
    check_client(nets, "203.0.113.7", "203.0.113.7");
    check_client(nets, "6.6.6.6, 203.0.113.7", "203.0.113.7");
    check_client(nets, "6.6.6.6, 203.0.113.7, 10.0.0.2,10.0.0.1", "203.0.113.7");
    check_client(nets, "10.0.0.3, 10.0.0.2", "10.0.0.3");
    check_client(nets, " \t203.0.113.7\t ", "203.0.113.7");
    check_client(nets, "203.0.113.7, ,", "203.0.113.7");
    check_client("*", "1.1.1.1, 2.2.2.2", "1.1.1.1");
    check_client("", "1.1.1.1, 2.2.2.2", "2.2.2.2");
}

static void test_forms_of_a_hop(void **state)
{
    (void)state;
    check_client("", "203.0.113.7:4711", "203.0.113.7");
    check_client("", "2001:DB8:0:0:0:0:0:1", "2001:db8::1");
    check_client("", "[2001:db8::1]", "2001:db8::1");
    check_client("", "[2001:db8::1]:443", "2001:db8::1");
    check_client("", "::ffff:203.0.113.7", "203.0.113.7");
}

static void test_what_is_no_client(void **state)
{
    (void)state;
    static const char *const none[] = {
        "",
        ",",
        " , ",
        "unknown",
        "_hidden",
        "1.2.3",
        "1.2.3.4:x",
        "1.2.3.4:",
        "[::1",
        "[::1]x",
        "[1.2.3.4]",
        "::1]",
        "[",
        "1.2.3.4:99999",
        "\"1.2.3.4\"",
        "6.6.6.6, unknown",
        "fe80::1%eth0",
        ":",
        "[]:80",
        "1.2.3.4 5.6.7.8",
    };
    for (size_t i = 0; i < ARRAY_LEN(none); i++)
        check_client("", none[i], NULL);
    /* A trusted proxy passed on something that is no address. */
    check_client("10.0.0.0/8", "203.0.113.7, unknown, 10.0.0.1", NULL);
    struct forwarded_trust nobody = parsed("");
    char out[FORWARDED_ADDRESS_MAX];
    assert_false(forwarded_client(&nobody, "1.2.3.4\0", 8, out));
}

/* A request with these headers, as the parser leaves it. Each is "for=value", "proto=...". */
static void build_request(struct request *request, const char *const *headers)
{
    memset(request, 0, sizeof *request);
    for (; *headers; headers++) {
        struct http_header *header = &request->headers[request->header_count++];
        const char *value = strchr(*headers, '=') + 1;
        header->field = strncmp(*headers, "for=", 4) == 0     ? HTTP_FIELD_X_FORWARDED_FOR
                        : strncmp(*headers, "proto=", 6) == 0 ? HTTP_FIELD_X_FORWARDED_PROTO
                        : strncmp(*headers, "ssl=", 4) == 0   ? HTTP_FIELD_X_FORWARDED_SSL
                                                              : HTTP_FIELD_X_FORWARDED_PROTOCOL;
        header->value.offset = (uint32_t)request->in.len;
        header->value.length = (uint32_t)strlen(value);
        buf_append_str(&request->in, value);
    }
}

/* Resolves for the peer 10.0.0.1. `expected`: "client whose-word scheme", or "refused". */
static void check_view(bool trusted, const char *expected, const char *const *headers)
{
    static struct request request;
    struct forwarded_trust trust = parsed("10.0.0.0/8");
    struct forwarded_view view;
    char text[128] = "refused";
    build_request(&request, headers);
    if (forwarded_resolve(&trust, trusted, "10.0.0.1", &request, &view))
        snprintf(text, sizeof text, "%s %s %s", view.client, view.from_header ? "header" : "peer",
                 view.https ? "https" : "http");
    assert_string_equal(text, expected);
    buf_fini(&request.in);
    forwarded_fini(&trust);
}
#define CHECK_VIEW(trusted, expected, ...)                                                         \
    check_view(trusted, expected, (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

static void test_view_of_a_request(void **state)
{
    (void)state;
    CHECK_VIEW(true, "10.0.0.1 peer http");
    CHECK_VIEW(true, "203.0.113.7 header http", "for=203.0.113.7");
    CHECK_VIEW(true, "203.0.113.7 header http", "for=6.6.6.6, 203.0.113.7", "for=10.0.0.9");
    CHECK_VIEW(true, "10.0.0.1 peer http", "for=unknown");
    CHECK_VIEW(true, "10.0.0.1 peer http", "for=");
    CHECK_VIEW(false, "10.0.0.1 peer http", "for=203.0.113.7", "proto=https");
    CHECK_VIEW(true, "10.0.0.1 peer https", "proto=https");
    CHECK_VIEW(true, "10.0.0.1 peer https", "proto=HTTPS", "ssl=on", "protocol=ssl");
    CHECK_VIEW(true, "10.0.0.1 peer http", "proto=http");
    CHECK_VIEW(true, "10.0.0.1 peer http", "proto=httpsx", "ssl=off");
    CHECK_VIEW(true, "refused", "proto=https", "ssl=off");
    CHECK_VIEW(true, "refused", "proto=https", "proto=http");
    CHECK_VIEW(false, "10.0.0.1 peer http", "proto=https", "ssl=off");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_networks),
        cmocka_unit_test(test_everyone_and_nobody),
        cmocka_unit_test(test_unix_peers_are_trusted),
        cmocka_unit_test(test_wrong_entries),
        cmocka_unit_test(test_client),
        cmocka_unit_test(test_forms_of_a_hop),
        cmocka_unit_test(test_what_is_no_client),
        cmocka_unit_test(test_view_of_a_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
