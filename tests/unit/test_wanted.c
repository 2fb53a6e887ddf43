/* How many workers there should be: what settings on a board that anybody may have spoilt ask for.
 */
#include "wanted.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static unsigned configured(struct book *b, unsigned workers)
{
    atomic_store(&b->board->molds[b->generation % 2].workers, workers);
    wanted_configure(b);
    return b->wanted;
}

static void test_settings(void **state)
{
    (void)state;
    struct book b = {.board = board_new(11, 1), .generation = 1, .wanted = 4, .configured = 4};
    assert_int_equal(configured(&b, 5), 5);
    assert_int_equal(configured(&b, 100), 10);
    assert_int_equal(configured(&b, UINT32_MAX), 10);
    assert_int_equal(configured(&b, 3), 3);
    assert_int_equal(configured(&b, 0),
                     3); /* no setting is: a process that crashed has been there */
    assert_int_equal(b.configured, 3);
    board_free(b.board);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_settings)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
