/* The values of options: types, ranges, texts, and what `auto` sees. */
#include "config/options.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_scaled_numbers(void **state)
{
    static const struct {
        const char *text;
        int64_t ms; /* -1: no duration */
    } cases[] = {
        {"30", 30000}, {"1.5", 1500}, {"500ms", 500},   {"2m", 120000},      {"1h", 3600000},
        {"0", 0},      {"0.001", 1},  {"0.0001h", 360}, {"1.000000s", 1000}, {"", -1},
        {".5", -1},    {"1.", -1},    {"1.0005", -1},   {"1.0000000", -1},   {"1 s", -1},
        {" 1", -1},    {"-1", -1},    {"1e3", -1},      {"1S", -1},          {"ms", -1},
        {"0.5ms", -1}, {"1.2.3", -1}, {"1mm", -1},
    };
    uint64_t value;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        bool is_right = parse_duration(cases[i].text, &value);
        if (is_right != (cases[i].ms >= 0) || (is_right && value != (uint64_t)cases[i].ms))
            fail_msg("\"%s\"", cases[i].text);
    }
    assert_true(parse_size("64k", &value) && value == 65536);
    assert_true(parse_size("1g", &value) && value == 1073741824);
    assert_false(parse_size("1.5m", &value));
    assert_false(parse_size("64K", &value));
    assert_false(parse_count("1k", &value));
}

static void test_numbers_too_large_are_out_of_every_range(void **state)
{
    uint64_t value;

    (void)state;
    assert_true(parse_count("18446744073709551615", &value) && value == UINT64_MAX);
    assert_true(parse_count("18446744073709551616", &value) && value == UINT64_MAX);
    assert_true(parse_size("17179869184g", &value) && value == UINT64_MAX);
    assert_true(parse_duration("99999999999999999999.5h", &value) && value == UINT64_MAX);
    assert_true(parse_mode("7777777777777777777777777", &value) && value == UINT64_MAX);
}

static void check_text_of(char *(*text_of)(uint64_t), uint64_t value, const char *expected)
{
    char *text = text_of(value);

    assert_string_equal(text, expected);
    free(text);
}

static void test_numbers_become_text(void **state)
{
    (void)state;
    check_text_of(text_of_bool, 1, "true");
    check_text_of(text_of_bool, 0, "false");
    check_text_of(text_of_size, 0, "0");
    check_text_of(text_of_size, 8190, "8190");
    check_text_of(text_of_size, 524288, "512k");
    check_text_of(text_of_size, 5ull << 30, "5g");
    check_text_of(text_of_duration, 0, "0s");
    check_text_of(text_of_duration, 1500, "1500ms");
    check_text_of(text_of_mode, 0660, "0660");
    check_text_of(text_of_level, LOG_WARNING, "warning");
}

static void test_booleans(void **state)
{
    struct config c = {0};
    const struct option option = {
        .name = "flag", .type = OPTION_BOOL, .offset = offsetof(struct config, threads), .max = 1};

    (void)state;
    assert_null(options_set(&c, &option, "true"));
    assert_int_equal(load_number(&c, &option), 1);
    assert_null(options_set(&c, &option, "false"));
    assert_int_equal(load_number(&c, &option), 0);
    char *wrong = options_set(&c, &option, "yes");
    assert_string_equal(wrong, "is not true or false");
    free(wrong);
}

/* What the table says must hold for each row, or the program would not start. */
static void test_every_default_is_right(void **state)
{
    struct config c = {0};

    (void)state;
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const struct option *option = &options_table[i];
        assert_true(option->min < option->max);
        assert_ptr_equal(options_find(option->name), option);
        if (option->default_text != NULL) {
            assert_null(options_set(&c, option, option->default_text));
            char *text = options_item(&c, option, 0);
            if (strcmp(option->default_text, "auto") != 0)
                assert_string_equal(text, option->default_text);
            free(text);
        }
        char *rule = options_rule(option);
        assert_true(strlen(rule) > 0);
        free(rule);
        options_clear(&c, option);
    }
    struct config nothing = {0};
    for (size_t i = 0; i < OPTION_COUNT; i++)
        options_clear(&nothing, &options_table[i]);
    assert_memory_equal(&c, &nothing, sizeof(c));
}

static void test_lists_grow_and_a_wrong_item_changes_nothing(void **state)
{
    struct config c = {0};
    const struct option *env = options_find("env");

    (void)state;
    assert_null(options_set(&c, env, "A=1"));
    assert_null(options_set(&c, env, "B=x\ny"));
    char *wrong = options_set(&c, env, "C");
    assert_string_equal(wrong, "is too short");
    free(wrong);
    assert_int_equal(options_item_count(&c, env), 2);
    assert_string_equal(c.env.items[1], "B=x\ny");
    options_clear(&c, env);
    assert_int_equal(options_item_count(&c, env), 0);
    assert_null(options_find("nothing"));
}

static void test_auto_is_within_bounds(void **state)
{
    (void)state;
    assert_true(usable_cpus() >= 1 && usable_cpus() <= AUTO_WORKERS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scaled_numbers),
        cmocka_unit_test(test_numbers_too_large_are_out_of_every_range),
        cmocka_unit_test(test_numbers_become_text),
        cmocka_unit_test(test_booleans),
        cmocka_unit_test(test_every_default_is_right),
        cmocka_unit_test(test_lists_grow_and_a_wrong_item_changes_nothing),
        cmocka_unit_test(test_auto_is_within_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
