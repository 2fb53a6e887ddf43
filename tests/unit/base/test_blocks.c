/* test_blocks.c: blocks are used again, and go back to the system when nobody wants them. */
#include "base/blocks.c"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static bool is_mapped(char *block)
{
    unsigned char pages[BLOCK_BYTES / 4096];
    bool is = mincore(block, BLOCK_BYTES, pages) == 0;
    assert_true(is || errno == ENOMEM);
    return is;
}

static void test_the_last_one_is_taken_first(void **state)
{
    (void)state;
    char *a = blocks_take(), *b = blocks_take();
    assert_non_null(a);
    assert_non_null(b);
    assert_ptr_not_equal(a, b);
    memset(a, 'a', BLOCK_BYTES);
    memset(b, 'b', BLOCK_BYTES);
    blocks_put(a);
    assert_ptr_equal(blocks_take(), a);
    assert_int_equal(a[BLOCK_BYTES - 1], 'a'); /* nobody has cleared it, page by page */
    blocks_put(b);
    blocks_put(a);
    assert_ptr_equal(blocks_take(), b);
    assert_ptr_equal(blocks_take(), a);
    blocks_put(a);
    blocks_put(b);
    blocks_trim(0);
}

static void test_unused_ones_go_back(void **state)
{
    (void)state;
    char *used = blocks_take(), *unused = blocks_take();
    blocks_put(used);
    blocks_put(unused);
    for (unsigned i = 0; i < 3; i++) {
        assert_ptr_equal(blocks_take(), used);
        blocks_put(used);
        blocks_trim(3);
        assert_true(is_mapped(unused));
    }
    assert_ptr_equal(blocks_take(), used);
    blocks_put(used);
    blocks_trim(3);
    assert_false(is_mapped(unused));
    assert_true(is_mapped(used));
    blocks_trim(0);
    assert_false(is_mapped(used));
}

static void test_no_more_are_kept_than_there_are_places(void **state)
{
    (void)state;
    static char *blocks[PLACES + 1];
    for (size_t i = 0; i < ARRAY_LEN(blocks); i++)
        blocks[i] = blocks_take();
    for (size_t i = 0; i < ARRAY_LEN(blocks); i++)
        blocks_put(blocks[i]);
    assert_true(is_mapped(blocks[PLACES - 1]));
    assert_false(is_mapped(blocks[PLACES]));
    blocks_trim(0);
    assert_false(is_mapped(blocks[0]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_last_one_is_taken_first),
        cmocka_unit_test(test_unused_ones_go_back),
        cmocka_unit_test(test_no_more_are_kept_than_there_are_places),
    };
    return cmocka_run_group_tests_name("blocks", tests, NULL, NULL);
}
