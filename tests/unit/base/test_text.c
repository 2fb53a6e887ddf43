/* Texts from outside, made fit to be shown. */
#include "base/text.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_quoted_is_one_short_line(void **state)
{
    char text[300];

    (void)state;
    assert_string_equal(text_quote("a\nb\x1b\x7f"), "a?b??");
    memset(text, 'x', sizeof(text));
    text[QUOTED_MAX] = '\0';
    assert_string_equal(text_quote(text), text);
    text[QUOTED_MAX] = 'x';
    text[sizeof(text) - 1] = '\0';
    assert_int_equal(strlen(text_quote(text)), QUOTED_MAX);
    assert_string_equal(text_quote(text) + QUOTED_MAX - 4, "x...");
}

static struct text text_of(const char *s)
{
    return (struct text){s, strlen(s)};
}

static void test_words(void **state)
{
    (void)state;
    assert_true(text_is(text_of("a"), "a"));
    assert_false(text_is(text_of("A"), "a"));
    assert_false(text_is(text_of("ab"), "a"));
    assert_false(text_is((struct text){0}, "a"));
    assert_true(text_is_word(text_of("BR"), "br"));
    assert_false(text_is_word(text_of("brx"), "br"));
}

static void test_elements_of_a_list(void **state)
{
    static const char *const wanted[] = {"a", "", "b c", ""};
    struct text list = text_of("a ,,\t b c\t,"), element;
    unsigned count = 0;

    (void)state;
    while (text_next_element(&list, &element)) {
        assert_true(count < 4);
        assert_true(text_is(element, wanted[count++]));
    }
    assert_int_equal(count, 4);
    assert_false(text_next_element(&(struct text){0}, &element));
    list = text_of("");
    assert_true(text_next_element(&list, &element));
    assert_int_equal(element.len, 0);
    assert_false(text_next_element(&list, &element));
}

static void test_hash(void **state)
{
    (void)state;
    assert_true(text_hash(TEXT_HASH, "a", 1) == 0xaf63dc4c8601ec8cull);
    assert_true(text_hash(text_hash(TEXT_HASH, "foo", 3), "bar", 3) == 0x85944171f73967e8ull);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quoted_is_one_short_line),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_elements_of_a_list),
        cmocka_unit_test(test_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
