/* Which form of a file, and which part of it, answers a request. */
#include "http/select.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static const struct select_file file = {.etag = "\"abc\"", .modified = 784111777, .bytes = 1000};
#define DATE    "Sun, 06 Nov 1994 08:49:37 GMT"
#define EARLIER "Sun, 06 Nov 1994 08:49:36 GMT"
#define LATER   "Sun, 06 Nov 1994 08:49:38 GMT"

static struct text text_of(const char *s)
{
    return (struct text){s, s ? strlen(s) : 0};
}

static void test_preconditions(void **state)
{
    static const struct {
        const char *match, *none_match, *modified, *unmodified;
        enum select_verdict verdict;
    } rows[] = {
        {NULL, NULL, NULL, NULL, SELECT_WHOLE},
        {NULL, "\"abc\"", NULL, NULL, SELECT_NOT_MODIFIED},
        {NULL, "W/\"abc\"", NULL, NULL, SELECT_NOT_MODIFIED},
        {NULL, "\"x\", \"abc\"", NULL, NULL, SELECT_NOT_MODIFIED},
        {NULL, "*", NULL, NULL, SELECT_NOT_MODIFIED},
        {NULL, "\"x\"", NULL, NULL, SELECT_WHOLE},
        {NULL, "abc", NULL, NULL, SELECT_WHOLE},
        {NULL, "", NULL, NULL, SELECT_WHOLE},
        /* the tag counts, whatever the date says */
        {NULL, "\"x\"", DATE, NULL, SELECT_WHOLE},
        {NULL, NULL, DATE, NULL, SELECT_NOT_MODIFIED},
        {NULL, NULL, LATER, NULL, SELECT_NOT_MODIFIED},
        {NULL, NULL, EARLIER, NULL, SELECT_WHOLE},
        {NULL, NULL, "yesterday", NULL, SELECT_WHOLE},
        {"\"abc\"", NULL, NULL, NULL, SELECT_WHOLE},
        {"*", NULL, NULL, NULL, SELECT_WHOLE},
        {"W/\"abc\"", NULL, NULL, NULL, SELECT_FAILED},
        {"\"x\"", NULL, NULL, NULL, SELECT_FAILED},
        {"\"x\"", NULL, NULL, LATER, SELECT_FAILED},
        {NULL, NULL, NULL, EARLIER, SELECT_FAILED},
        {NULL, NULL, NULL, DATE, SELECT_WHOLE},
        {NULL, NULL, NULL, "tomorrow", SELECT_WHOLE},
        {"\"abc\"", "\"abc\"", NULL, NULL, SELECT_NOT_MODIFIED},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct select_request request = {
            .if_match = text_of(rows[i].match),
            .if_none_match = text_of(rows[i].none_match),
            .if_modified_since = text_of(rows[i].modified),
            .if_unmodified_since = text_of(rows[i].unmodified),
        };
        struct select_ranges ranges;
        assert_int_equal(select_part(&request, true, &file, &ranges), rows[i].verdict);
    }
}

/* The ranges as "0+100 900+100". */
static void check_ranges(const char *range, const char *if_range, enum select_verdict verdict,
                         const char *wanted)
{
    struct select_request request = {.range = text_of(range), .if_range = text_of(if_range)};
    struct select_ranges ranges = {0};
    char found[200] = "";

    assert_int_equal(select_part(&request, true, &file, &ranges), verdict);
    for (unsigned i = 0; verdict == SELECT_RANGES && i < ranges.count; i++)
        snprintf(found + strlen(found), sizeof(found) - strlen(found), "%s%d+%d", i ? " " : "",
                 (int)ranges.items[i].offset, (int)ranges.items[i].bytes);
    assert_string_equal(found, wanted);
    if (verdict == SELECT_RANGES)
        assert_int_equal(select_part(&request, false, &file, &ranges), SELECT_WHOLE);
}

static void test_ranges(void **state)
{
    static const char *const ignored[] = {
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=a-b",
        "bytes=5",
        "bytes=5-4",
        "items=0-5",
        "bytes=-",
        "bytes=--5",
        "bytes=0-5x",
        "bytes=0-5,x",
        "bytes 0-5",
        "bytes=0 - 5",
        "bytes=+0-5",
        "bytes=0-99999999999999999999",
        "bytes=0-0,2-2,4-4,6-6,8-8,10-10,12-12,14-14,16-16",
    };

    (void)state;
    check_ranges("bytes=0-0", NULL, SELECT_RANGES, "0+1");
    check_ranges("BYTES=0-99", NULL, SELECT_RANGES, "0+100");
    check_ranges("bytes=500-", NULL, SELECT_RANGES, "500+500");
    check_ranges("bytes=-100", NULL, SELECT_RANGES, "900+100");
    check_ranges("bytes=-5000", NULL, SELECT_RANGES, "0+1000");
    check_ranges("bytes=990-5000", NULL, SELECT_RANGES, "990+10");
    check_ranges("bytes= 0-1 , 5-6,", NULL, SELECT_RANGES, "0+2 5+2");
    check_ranges("bytes=900-,0-9", NULL, SELECT_RANGES, "900+100 0+10");
    check_ranges("bytes=0-9,10-19,5-14", NULL, SELECT_RANGES, "0+20");
    check_ranges("bytes=0-9,20-29,5-24", NULL, SELECT_RANGES, "0+30");
    check_ranges("bytes=0-,0-,0-,0-,0-,0-,0-,0-,0-,0-,0-", NULL, SELECT_RANGES, "0+1000");
    check_ranges("bytes=1000-", NULL, SELECT_UNSATISFIABLE, "");
    check_ranges("bytes=-0", NULL, SELECT_UNSATISFIABLE, "");
    check_ranges("bytes=5000-6000,0-1", NULL, SELECT_RANGES, "0+2");
    for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
        check_ranges(ignored[i], NULL, SELECT_WHOLE, "");
    check_ranges("bytes=0-1", "\"abc\"", SELECT_RANGES, "0+2");
    check_ranges("bytes=0-1", "W/\"abc\"", SELECT_WHOLE, "");
    check_ranges("bytes=0-1", "\"x\"", SELECT_WHOLE, "");
    check_ranges("bytes=0-1", DATE, SELECT_RANGES, "0+2");
    check_ranges("bytes=0-1", LATER, SELECT_WHOLE, "");
}

static void test_ranges_of_an_empty_file(void **state)
{
    struct select_file empty = file;
    struct select_request request = {.range = text_of("bytes=0-0")};
    struct select_ranges ranges;

    (void)state;
    empty.bytes = 0;
    assert_int_equal(select_part(&request, true, &empty, &ranges), SELECT_UNSATISFIABLE);
    request.range = text_of("bytes=-1");
    assert_int_equal(select_part(&request, true, &empty, &ranges), SELECT_UNSATISFIABLE);
}

static void test_codings(void **state)
{
    enum { B = 1 << CODING_BROTLI, Z = 1 << CODING_ZSTD, G = 1 << CODING_GZIP, ALL = B | Z | G };
    static const struct {
        const char *accept;
        unsigned there;
        enum select_coding wanted;
    } rows[] = {
        {NULL, ALL, CODING_IDENTITY},
        {"", ALL, CODING_IDENTITY},
        {"gzip, deflate, br, zstd", ALL, CODING_BROTLI},
        {"gzip, deflate, br, zstd", Z | G, CODING_ZSTD},
        {"gzip, deflate, br, zstd", 0, CODING_IDENTITY},
        {"GZIP", ALL, CODING_GZIP},
        {"x-gzip", G, CODING_GZIP},
        {"deflate", ALL, CODING_IDENTITY},
        {"br;q=0.5, gzip", ALL, CODING_GZIP},
        {"br;q=0.5,gzip;q=0.500", ALL, CODING_BROTLI},
        {"br ; q=0, gzip;q=0.001", ALL, CODING_GZIP},
        {"gzip;q=0.5, identity;q=0.4", ALL, CODING_GZIP},
        {"gzip;q=0.5, identity;q=0.6", ALL, CODING_IDENTITY},
        {"gzip;q=0.5, identity;q=0.5", ALL, CODING_GZIP},
        {"*", ALL, CODING_BROTLI},
        {"*;q=0", ALL, CODING_IDENTITY},
        {"br;q=0, *", ALL, CODING_ZSTD},
        {"gzip;q=2", ALL, CODING_IDENTITY},
        {"gzip;q=x, br;level=1", ALL, CODING_IDENTITY},
        {"gzip;q=0.5;x=1", ALL, CODING_IDENTITY},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_int_equal(select_coding_of(text_of(rows[i].accept), rows[i].there), rows[i].wanted);
}

static void test_names_with_a_hash(void **state)
{
    static const char *const with[] = {"base.0123456789ab.css", "a/b/app.deadbeef0123.js.map"};
    static const char *const without[] = {
        "base.css",
        "base.0123456789ab",
        "base.0123456789AB.css",
        ".0123456789ab.css",
        "base.0123456789a.css",
        "base.0123456789abc.css",
        "x.0123456789ab.d/base.css",
        "base.0123456789ab.",
        "",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(with); i++)
        assert_true(select_is_immutable(with[i]));
    for (size_t i = 0; i < ARRAY_LEN(without); i++)
        assert_false(select_is_immutable(without[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_preconditions),           cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_ranges_of_an_empty_file), cmocka_unit_test(test_codings),
        cmocka_unit_test(test_names_with_a_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
