/* How many workers there should be: what settings on a board that anybody may have spoilt ask for,
 * and what the operator's signals do. */
#include "master/scale.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static unsigned configured(struct scale *s, unsigned workers)
{
    scale_configure(s, workers, 0);
    return s->wanted;
}

static void test_settings(void **state)
{
    (void)state;
    struct scale s;
    scale_begin(&s, 4, 0, 10);
    assert_int_equal(configured(&s, 5), 5);
    assert_int_equal(configured(&s, 100), 10);
    assert_int_equal(configured(&s, UINT32_MAX), 10);
    assert_int_equal(configured(&s, 3), 3);
    assert_int_equal(configured(&s, 0), 3); /* no setting is: a process that crashed was there */
    assert_int_equal(s.configured, 3);
}

static void test_one_more_and_one_less(void **state)
{
    (void)state;
    struct scale s;
    scale_begin(&s, 2, 0, 3);
    scale_change(&s, 1);
    assert_int_equal(s.wanted, 3);
    scale_change(&s, 1);
    assert_int_equal(s.wanted, 3);
    scale_change(&s, -1);
    scale_change(&s, -1);
    assert_int_equal(s.wanted, 1);
    scale_change(&s, -1);
    assert_int_equal(s.wanted, 1);
    /* the same setting again is no change, another one is */
    assert_int_equal(configured(&s, 2), 1);
    assert_int_equal(configured(&s, 3), 3);
}

static void test_a_pause_keeps_the_number(void **state)
{
    (void)state;
    struct scale s;
    scale_begin(&s, 2, 0, 9);
    assert_false(scale_resume(&s));
    scale_pause(&s);
    scale_pause(&s);
    assert_int_equal(s.wanted, 0);
    scale_change(&s, -1);
    assert_int_equal(s.wanted, 0);
    assert_int_equal(configured(&s, 5), 0); /* for when the pause ends */
    assert_true(scale_resume(&s));
    assert_int_equal(s.wanted, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_one_more_and_one_less),
        cmocka_unit_test(test_a_pause_keeps_the_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
