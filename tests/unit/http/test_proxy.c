/* The PROXY protocol: both versions, every way to be wrong, every split. */
#include "http/proxy.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define V2(rest) "\r\n\r\n\0\r\nQUIT\n" rest
#define BYTES(s) s, sizeof(s) - 1

/* The result for the whole; every beginning of it must ask for more, or be as wrong. */
static enum proxy_result parse(unsigned versions, const char *data, size_t len,
                               struct proxy_header *header)
{
    enum proxy_result whole = proxy_parse(versions, data, len, header);
    struct proxy_header part;
    for (size_t i = 0; i < len; i++) {
        enum proxy_result result = proxy_parse(versions, data, i, &part);
        if (whole == PROXY_DONE && i < header->bytes)
            assert_int_equal(result, PROXY_MORE);
        else if (whole == PROXY_WRONG)
            assert_true(result != PROXY_DONE);
    }
    return whole;
}

static void expect_client(unsigned versions, const char *data, size_t len, const char *client,
                          unsigned port, size_t behind)
{
    char text[INET6_ADDRSTRLEN + 8], address[INET6_ADDRSTRLEN], wanted[sizeof(text)];
    struct proxy_header header;
    assert_int_equal(parse(versions, data, len, &header), PROXY_DONE);
    assert_int_equal(header.bytes, len - behind);
    assert_true(header.has_client);
    bool v6 = header.client.any.sa_family == AF_INET6;
    const void *raw = v6 ? (void *)&header.client.v6.sin6_addr : (void *)&header.client.v4.sin_addr;
    assert_non_null(inet_ntop(header.client.any.sa_family, raw, address, sizeof(address)));
    snprintf(text, sizeof(text), "%s %u", address,
             ntohs(v6 ? header.client.v6.sin6_port : header.client.v4.sin_port));
    snprintf(wanted, sizeof(wanted), "%s %u", client, port);
    assert_string_equal(text, wanted);
}

static void expect_itself(unsigned versions, const char *data, size_t len)
{
    struct proxy_header header;
    assert_int_equal(parse(versions, data, len, &header), PROXY_DONE);
    assert_int_equal(header.bytes, len);
    assert_false(header.has_client);
}

static void expect_wrong(unsigned versions, const char *data, size_t len)
{
    struct proxy_header header;
    if (parse(versions, data, len, &header) != PROXY_WRONG)
        fail_msg("taken: %.*s", (int)len, data);
}

static void test_v1(void **state)
{
    (void)state;
    expect_client(1, BYTES("PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"), "192.0.2.7", 56324,
                  0);
    expect_client(3, BYTES("PROXY TCP6 2001:db8::7 ::1 1 65535\r\nGET"), "2001:db8::7", 1, 3);
    expect_client(1, BYTES("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n\r\n"), "0.0.0.0", 0, 2);
    expect_itself(1, BYTES("PROXY UNKNOWN\r\n"));
    expect_itself(3, BYTES("PROXY UNKNOWN ffff:: whatever comes here\r\n"));
}

static void test_v1_wrong(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "GET / HTTP/1.1\r\n",
        "proxy TCP4 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY\r\n",
        "PROXY \r\n",
        "PROXY TCP5 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r \r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 1 \r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1\r\n",
        "PROXY TCP4  1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY  TCP4 1.2.3.4 1.2.3.4 1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 01 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 +1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 100000\r\n",
        "PROXY TCP4 1.2.3.256 1.2.3.4 1 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3 1 1\r\n",
        "PROXY TCP4 ::1 1.2.3.4 1 1\r\n",
        "PROXY TCP6 1.2.3.4 ::1 1 1\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n",
        "PROXY TCP4\t1.2.3.4\t1.2.3.4\t1\t1\r\n",
        /* 107 bytes without an end */
        "PROXY UNKNOWN "
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
        "xxxxxxxxxxxxx\r\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        expect_wrong(3, wrong[i], strlen(wrong[i]));
    expect_wrong(3, BYTES("PROXY TCP4 1.2.3.4\0 1.2.3.4 1 1\r\n"));
    expect_wrong(2, BYTES("PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\n"));
}

static void test_v2(void **state)
{
    (void)state;
    expect_client(2, BYTES(V2("\x21\x11\0\x0c\xc0\0\x02\x07\x01\x02\x03\x04\xdc\x04\x01\xbb")),
                  "192.0.2.7", 56324, 0);
    expect_client(3,
                  BYTES(V2("\x21\x21\0\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07"
                           "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\x01\0\x02"
                           "GE")),
                  "2001:db8::7", 1, 2);
    /* two TLVs behind the address, one of them empty */
    expect_client(2,
                  BYTES(V2("\x21\x11\0\x14\xc0\0\x02\x07\x01\x02\x03\x04\0\x05\0\x06"
                           "\x04\0\0\x05\0\x02xy")),
                  "192.0.2.7", 5, 0);
    expect_itself(2, BYTES(V2("\x20\0\0\0")));
    expect_itself(2, BYTES(V2("\x20\x11\0\x03zzz")));
    expect_itself(2, BYTES(V2("\x21\0\0\x02zz")));
}

static void test_v2_unix(void **state)
{
    (void)state;
    char bytes[V2_FIXED + V2_UNIX_BYTES] = V2("\x21\x31\0\xd8");
    expect_itself(2, bytes, sizeof(bytes));
}

static void test_v2_wrong(void **state)
{
    (void)state;
    static const char address[] = "\xc0\0\x02\x07\x01\x02\x03\x04\xdc\x04\x01\xbb";
    static const struct {
        unsigned char version, family, rest;
    } wrong[] = {
        {0x11, 0x11, 12}, /* version 1 */
        {0x31, 0x11, 12}, /* version 3 */
        {0x22, 0x11, 12}, /* no such command */
        {0x21, 0x12, 12}, /* datagrams */
        {0x21, 0x41, 12}, /* no such family */
        {0x21, 0x10, 12}, /* no transport */
        {0x21, 0x11, 11}, /* too short */
        {0x21, 0x21, 12}, /* too short */
        {0x21, 0x31, 12}, /* too short */
    };
    char bytes[V2_FIXED + sizeof(address)];
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        memcpy(bytes, V2_SIGNATURE, 12);
        memcpy(bytes + V2_FIXED, address, sizeof(address));
        bytes[12] = (char)wrong[i].version;
        bytes[13] = (char)wrong[i].family;
        bytes[14] = 0;
        bytes[15] = (char)wrong[i].rest;
        expect_wrong(2, bytes, V2_FIXED + wrong[i].rest);
    }
    expect_wrong(2, BYTES("\r\n\r\n\0\r\nQUIT\r"));
    expect_wrong(3, BYTES("\r\nGET / HTTP/1.1"));
    expect_wrong(1, BYTES(V2("\x20\0\0\0")));
    expect_wrong(2, BYTES(V2("\x20\0\x08\0"))); /* longer than any we take */
    expect_wrong(2, BYTES(V2("\x21\x11\0\x0f\xc0\0\x02\x07\x01\x02\x03\x04\0\x05\0\x06"
                             "\x04\0\x01")));
    expect_wrong(2, BYTES(V2("\x21\x11\0\x0e\xc0\0\x02\x07\x01\x02\x03\x04\0\x05\0\x06\x04\0")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_v1),      cmocka_unit_test(test_v1_wrong), cmocka_unit_test(test_v2),
        cmocka_unit_test(test_v2_unix), cmocka_unit_test(test_v2_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
