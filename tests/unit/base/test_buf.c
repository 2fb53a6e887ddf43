/* The growable buffer: growth, printing at every boundary, consuming. */
#include "base/buf.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void test_zeroed_is_empty(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_append(&b, NULL, 0);
    assert_null(b.data);
    buf_consume(&b, 0);
    buf_reset(&b);
    buf_fini(&b);
    assert_int_equal(b.cap, 0);
}

static void test_append_keeps_content_while_growing(void **state)
{
    (void)state;
    struct buf b = {0};
    for (int i = 0; i < 10000; i++)
        buf_append(&b, &(char){(char)i}, 1);
    assert_int_equal(b.len, 10000);
    for (int i = 0; i < 10000; i++)
        assert_int_equal((char)i, b.data[i]);
    buf_fini(&b);
}

static void test_reserve_makes_room_once(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_reserve(&b, 100000);
    assert_true(b.cap >= 100000);
    char *data = b.data;
    buf_reserve(&b, 100000);
    assert_ptr_equal(b.data, data);
    assert_int_equal(b.len, 0);
    buf_fini(&b);
}

/* Lengths around the room that is there: vsnprintf needs one byte more than the text. */
static void test_printf_at_the_boundary(void **state)
{
    (void)state;
    for (int before = 250; before <= 260; before++)
        for (int length = 0; length <= 10; length++) {
            struct buf b = {0};
            buf_printf(&b, "%*s", before, "");
            buf_printf(&b, "%0*d", length, 0);
            assert_int_equal(b.len, before + (length ? length : 1));
            assert_int_equal(b.data[b.len - 1], '0');
            buf_fini(&b);
        }
}

static void test_consume_moves_the_rest(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_append_str(&b, "head|rest");
    buf_consume(&b, 5);
    assert_int_equal(b.len, 4);
    assert_memory_equal(b.data, "rest", 4);
    buf_consume(&b, 4);
    assert_int_equal(b.len, 0);
    buf_fini(&b);
}

static void test_reset_keeps_memory(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_append_str(&b, "text");
    size_t cap = b.cap;
    buf_reset(&b);
    assert_int_equal(b.len, 0);
    assert_int_equal(b.cap, cap);
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zeroed_is_empty),
        cmocka_unit_test(test_append_keeps_content_while_growing),
        cmocka_unit_test(test_reserve_makes_room_once),
        cmocka_unit_test(test_printf_at_the_boundary),
        cmocka_unit_test(test_consume_moves_the_rest),
        cmocka_unit_test(test_reset_keeps_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
