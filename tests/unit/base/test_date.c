/* Points in time as text. */
#include "base/date.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define NOV_1994 784111777 /* the example of RFC 9110 5.6.7 */

static void test_written(void **state)
{
    char text[DATE_HTTP_LEN + 1], iso[DATE_ISO_LEN + 1];

    (void)state;
    date_write_http(text, NOV_1994);
    assert_string_equal(text, "Sun, 06 Nov 1994 08:49:37 GMT");
    date_write_http(text, 951782399);
    assert_string_equal(text, "Mon, 28 Feb 2000 23:59:59 GMT");
    date_write_http(text, 0);
    assert_string_equal(text, "Thu, 01 Jan 1970 00:00:00 GMT");
    date_write_iso(iso, (struct timespec){NOV_1994, 7999999}, ' ');
    assert_string_equal(iso, "1994-11-06 08:49:37.007Z");
}

static void check_read(const char *text, bool is_right, time_t wanted)
{
    time_t found = -1;

    assert_int_equal(date_read_http(text, strlen(text), &found), is_right);
    if (is_right)
        assert_int_equal(found, wanted);
}

static void test_read(void **state)
{
    static const char *const wrong[] = {
        "",
        ",",
        "Sun, ",
        "Sun,06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 nov 1994 08:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMTx",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994 GMT",
        "784111777",
        "0",
    };

    (void)state;
    check_read("Sun, 06 Nov 1994 08:49:37 GMT", true, NOV_1994);
    check_read("Sunday, 06-Nov-94 08:49:37 GMT", true, NOV_1994);
    check_read("Sun Nov  6 08:49:37 1994", true, NOV_1994);
    check_read("Sun Nov 06 08:49:37 1994", true, NOV_1994);
    check_read("Fri, 31 Dec 9999 23:59:60 GMT", true, 253402300800);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        check_read(wrong[i], false, 0);
}

static void test_what_is_written_can_be_read(void **state)
{
    char text[DATE_HTTP_LEN + 1];

    (void)state;
    for (time_t t = 0; t < 4102444800; t += 86400 * 13 + 3607) {
        date_write_http(text, t);
        check_read(text, true, t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_written),
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_what_is_written_can_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
