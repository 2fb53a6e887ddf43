/* On which versions of CPython the server reaches into the interpreter. */
#include "python/tested.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_versions(void **state)
{
    (void)state;
    assert_true(python_is_tested(0x030b07f0));
    assert_true(python_is_tested(0x030b0ef0));
    assert_true(python_is_tested(0x030c01f0));
    assert_true(python_is_tested(0x030d00f0));
    assert_true(python_is_tested(0x030f02f0));
    assert_false(python_is_tested(0x030a0df0)); /* older than what the server is built for */
    assert_false(python_is_tested(0x030b02f0)); /* older releases of a minor version */
    assert_false(python_is_tested(0x030e00f0));
    assert_false(python_is_tested(0x030e04f0));
    assert_false(python_is_tested(0x030f00c2)); /* 3.15.0rc2 */
    assert_false(python_is_tested(0x031000a1));
    assert_false(python_is_tested(0x031000f0));
    assert_false(python_is_tested(0x04000000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_versions)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
