/* Which lines are JSON objects. */
#include "scribe/json.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void check(const char *text, bool is_object)
{
    if (json_is_object(text, strlen(text)) != is_object)
        fail_msg("%s", text);
}

static void test_objects(void **state)
{
    static const char *const right[] = {
        "{}",
        "{ } ",
        "{\"a\":1}",
        "{\"a\" : [ ] , \"b\": [1, -0.5e+3, 0], \"c\": {\"d\": null}}",
        "{\"\\u00e9\\n\\\"\": \"\xc3\xa9\", \"t\": true, \"f\": false}",
    };
    static const char *const wrong[] = {
        "",
        " {}",
        "{",
        "}",
        "[]",
        "1",
        "\"a\"",
        "{} {}",
        "{}x",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "{'a':1}",
        "{\"a\":1,}",
        "{\"a\":[1,]}",
        "{\"a\":01}",
        "{\"a\":1.}",
        "{\"a\":.5}",
        "{\"a\":1e}",
        "{\"a\":+1}",
        "{\"a\":NaN}",
        "{\"a\":tru}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12g4\"}",
        "{\"a\":\"\xff\"}",
        "{\"a\":\"\t\"}",
        "{\"a\":\"",
        "{\"a\":\"\\",
        "{\"a\":\"\\u12",
        "{\"a\":1",
        "{\"a\":[1",
        "{\"a\":-",
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(right); i++)
        check(right[i], true);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        check(wrong[i], false);
    assert_false(json_is_object("{\0}", 3));
}

static void test_depth(void **state)
{
    char text[600];
    (void)state;
    for (unsigned depth = 60; depth < 70; depth++) {
        size_t len = 0;
        len += (size_t)sprintf(text, "{\"a\":");
        for (unsigned i = 1; i < depth; i++)
            text[len++] = '[';
        for (unsigned i = 1; i < depth; i++)
            text[len++] = ']';
        text[len++] = '}';
        assert_true(json_is_object(text, len) == (depth <= DEPTH_MAX));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_objects),
        cmocka_unit_test(test_depth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
