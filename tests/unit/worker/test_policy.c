/* When another thread leads: tables of what requests were seen to do. */
#include "worker/policy.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

void gil_count_this_thread(void)
{
}

bool gil_is_wanted(void)
{
    return false;
}

uint64_t gil_waited_ns(void)
{
    return 0;
}

static void test_first_samples_count_in_full(void **state)
{
    (void)state;
    struct policy policy = {0};
    policy_learn(&policy, &(struct policy_sample){900, 10, 100});
    assert_int_equal(policy.wait_permille, 900);
    assert_int_equal(policy.run_ns, 100);
    policy_learn(&policy, &(struct policy_sample){100, 30, 300});
    assert_int_equal(policy.wait_permille, 500);
    assert_int_equal(policy.cpu_ns, 20);
    assert_int_equal(policy.run_ns, 200);
    for (unsigned i = 0; i < 100; i++)
        policy_learn(&policy, &(struct policy_sample){0, 1000, 1000});
    assert_int_equal(policy.samples, SAMPLES_KEPT);
    assert_true(policy.wait_permille < 10);
    assert_true(policy.run_ns > 980);
}

static void test_who_hands_on(void **state)
{
    static const struct {
        unsigned wait_permille;
        bool hands_on;
    } rows[] = {{0, false}, {500, false}, {501, true}, {1000, true}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        assert_int_equal(policy_hands_on(&(struct policy){.wait_permille = rows[i].wait_permille}),
                         rows[i].hands_on);
}

static void test_after_how_long_the_standby_leads(void **state)
{
    static const struct {
        unsigned wait_permille;
        uint64_t run_ms, standby_ns;
    } rows[] = {
        {0, 0, STANDBY_MIN_NS},    {0, 1, STANDBY_MIN_NS},      {0, 3, 6 * NS_PER_MS},
        {0, 50, STANDBY_MAX_NS},   {900, 1, STANDBY_MIN_NS}, /* short requests, also where they wait
                                                              */
        {900, 2, STANDBY_SOON_NS}, {900, 500, STANDBY_SOON_NS},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct policy policy = {.wait_permille = rows[i].wait_permille,
                                .run_ns = rows[i].run_ms * NS_PER_MS};
        assert_int_equal(policy_standby_ns(&policy), rows[i].standby_ns);
    }
}

static void test_from_one_start_to_the_next(void **state)
{
    (void)state;
    struct policy computes = {.run_ns = 100}, waits = {.run_ns = 100, .wait_permille = 900};
    assert_int_equal(policy_service_ns(&computes, 4), 100);
    assert_int_equal(policy_service_ns(&waits, 0), 100);
    assert_int_equal(policy_service_ns(&waits, 1), 100);
    assert_int_equal(policy_service_ns(&waits, 4), 25);
}

static void test_how_long_a_request_is_young(void **state)
{
    (void)state;
    struct policy quick = {.run_ns = NS_PER_MS}, slow = {.run_ns = NS_PER_S};
    assert_true(policy_is_young(&quick, COMPUTED_MIN_NS - 1));
    assert_false(policy_is_young(&quick, COMPUTED_MIN_NS));
    assert_true(policy_is_young(&slow, COMPUTED_MAX_NS - 1));
    assert_false(policy_is_young(&slow, COMPUTED_MAX_NS));
}

static void test_when_the_loop_is_overdue(void **state)
{
    (void)state;
    struct policy policy = {.run_ns = 5 * NS_PER_MS, .cpu_ns = 5 * NS_PER_MS};
    /* no thread is free: the standby, by the time alone */
    assert_int_equal(policy_judge(&policy, 100 + STANDBY_MAX_NS - 1, 100, 1, false),
                     POLICY_NOT_DUE);
    assert_int_equal(policy_judge(&policy, 100 + STANDBY_MAX_NS, 100, 1, false), POLICY_DUE);
    assert_int_equal(policy_judge(&policy, 50, 100, 1, false),
                     POLICY_NOT_DUE); /* a clock that was read earlier */
    /* a thread is free: the first look only begins to measure */
    assert_int_equal(policy_judge(&policy, NS_PER_S, 100, 1, true), POLICY_NOT_DUE);
    assert_int_equal(policy.base_ns, NS_PER_S);
    /* this process uses no CPU from here on, so the requests wait for something */
    assert_int_equal(policy_judge(&policy, NS_PER_S + 200 * NS_PER_MS, 100, 1, true),
                     POLICY_DUE_IF_WAITING);
    assert_int_equal(policy_judge(&policy, NS_PER_S + UNLED_MAX_NS, 100, 1, true), POLICY_DUE);
    /* another time without a leader is measured anew */
    assert_int_equal(policy_judge(&policy, 3 * NS_PER_S, 200, 1, true), POLICY_NOT_DUE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_samples_count_in_full),
        cmocka_unit_test(test_who_hands_on),
        cmocka_unit_test(test_after_how_long_the_standby_leads),
        cmocka_unit_test(test_from_one_start_to_the_next),
        cmocka_unit_test(test_how_long_a_request_is_young),
        cmocka_unit_test(test_when_the_loop_is_overdue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
