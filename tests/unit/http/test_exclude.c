/* Which requests the access log leaves out. */
#include "http/exclude.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void test_rules(void **state)
{
    static const char *const right[] = {"/",        "/healthz",   "2xx",      "304",
                                        "2xx, 304", "/a 2xx,3xx", "/a/\t5xx", "000"};
    static const char *const wrong[] = {"",     "healthz", "2x",    "20x",        "2000", "x",
                                        "/a b", "2xx /a",  "2xx,x", "/a 2xx 304", " "};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(right); i++)
        assert_true(exclude_is_rule(right[i]));
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        assert_false(exclude_is_rule(wrong[i]));
    assert_null(exclude_compile(NULL, 0));
    assert_false(exclude_fits(NULL, NULL, 200));
}

static bool fits_one(const char *rule, const char *path, unsigned status)
{
    char *rules[] = {(char *)(uintptr_t)rule};
    struct request request = {0};
    buf_append_str(&request.in, path);
    request.line.length = request.path.length = (uint32_t)request.in.len;
    struct exclude *exclude = exclude_compile(rules, 1);
    bool fit = exclude_fits(exclude, &request, status);
    exclude_free(exclude);
    buf_fini(&request.in);
    return fit;
}

static void test_fits(void **state)
{
    static const struct {
        const char *rule, *path;
        unsigned status;
        bool fits;
    } rows[] = {
        {"/healthz", "/healthz", 200, true},
        {"/healthz", "/healthz/live", 503, true},
        {"/healthz/", "/healthz", 200, true},
        {"/healthz", "/healthzz", 200, false},
        {"/healthz", "/health", 200, false},
        {"/healthz", "/a/healthz", 200, false},
        {"/healthz", "/HEALTHZ", 200, false},
        {"/healthz", "/healthz/../admin", 200, false},
        {"/healthz", "/healthz/%2e%2E/admin", 200, false},
        {"/healthz", "/healthz/%2", 200, true},
        {"/", "/anything", 200, true},
        {"/", "*", 200, false},
        {"/a 2xx", "/a", 204, true},
        {"/a 2xx", "/a", 304, false},
        {"/a 2xx", "/b", 200, false},
        {"2xx,304", "/b", 304, true},
        {"2xx,304", "/b", 299, true},
        {"2xx,304", "/b", 300, false},
        {"2xx,304", "/b/..", 200, true},
        {"499", "/", 499, true},
        {"0xx", "/", 0, true},
        {"0xx", "/", 1000, false},
    };
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if (fits_one(rows[i].rule, rows[i].path, rows[i].status) != rows[i].fits)
            fail_msg("%s: %s %u", rows[i].rule, rows[i].path, rows[i].status);
}

static void test_a_request_that_was_not_understood(void **state)
{
    char *path[] = {"/"}, *status[] = {"400"};
    struct request request = {0};
    struct exclude *by_path = exclude_compile(path, 1), *by_status = exclude_compile(status, 1);
    (void)state;
    assert_false(exclude_fits(by_path, &request, 400));
    assert_true(exclude_fits(by_status, &request, 400));
    assert_false(exclude_fits(by_path, NULL, 400));
    exclude_free(by_path);
    exclude_free(by_status);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_fits),
        cmocka_unit_test(test_a_request_that_was_not_understood),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
