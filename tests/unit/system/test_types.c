/* Media types by the endings of file names. */
#include "system/types.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_endings(void **state)
{
    (void)state;
    assert_string_equal(types_of("a.css"), UNKNOWN); /* not loaded yet */
    types_load();
    assert_string_equal(types_of("a/b.css"), "text/css; charset=utf-8");
    assert_string_equal(types_of("a/b.min.CSS"), "text/css; charset=utf-8");
    assert_string_equal(types_of("app.js"), "text/javascript; charset=utf-8");
    assert_string_equal(types_of("app.mjs"), "text/javascript; charset=utf-8");
    assert_string_equal(types_of("a.png"), "image/png");
    assert_string_equal(types_of("a.svg"), "image/svg+xml");
    assert_string_equal(types_of("a.woff2"), "font/woff2");
    assert_string_equal(types_of("a.wasm"), "application/wasm");
    assert_string_equal(types_of("a.nothing-of-this-name"), UNKNOWN);
    assert_string_equal(types_of("css"), UNKNOWN);
    assert_string_equal(types_of("a.css/b"), UNKNOWN);
    assert_string_equal(types_of("a."), UNKNOWN);
    assert_string_equal(types_of(""), UNKNOWN);
}

static void test_lines_of_the_table(void **state)
{
    (void)state;
    char lines[][60] = {"# comment\n",
                        "text/x-one one uno\n",
                        "\n",
                        "application/x-none\n",
                        "application/x-two\ttwo # three\n",
                        "text/x-later one\n"};
    table = NULL;
    count = 0;
    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        add_line(lines[i]);
    sort();
    assert_int_equal(count, 3);
    assert_string_equal(types_of("x.one"), "text/x-one; charset=utf-8");
    assert_string_equal(types_of("x.uno"), "text/x-one; charset=utf-8");
    assert_string_equal(types_of("x.two"), "application/x-two");
    assert_string_equal(types_of("x.three"), UNKNOWN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_endings),
        cmocka_unit_test(test_lines_of_the_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
