/* The board: what several processes change at once must be counted once. */
#include "shared/board.c"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void test_parked_is_counted_once(void **state)
{
    (void)state;
    struct board *board = board_new(3, 2, 1);
    assert_true(board_set_parked(board, 0, true));
    assert_false(board_set_parked(board, 0, true));
    assert_true(board_set_parked(board, 2, true));
    assert_int_equal(board->parked, 2);
    assert_true(board_set_parked(board, 0, false));
    assert_false(board_set_parked(board, 0, false));
    assert_false(board_set_parked(board, 1, false));
    assert_int_equal(board->parked, 1);
    board_free(board);
}

static void *flip(void *board)
{
    for (unsigned i = 0; i < 20000; i++)
        (void)board_set_parked(board, i % 3, i / 3 % 2 == 0);
    return NULL;
}

static void test_parked_by_many(void **state)
{
    (void)state;
    struct board *board = board_new(3, 1, 1);
    pthread_t threads[4];
    for (unsigned i = 0; i < ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, flip, board), 0);
    for (unsigned i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    int parked = 0;
    for (unsigned i = 0; i < 3; i++)
        parked += board->worker[i].parked;
    assert_int_equal(board->parked, parked);
    board_free(board);
}

static void test_each_text_is_said_once(void **state)
{
    (void)state;
    struct board *board = board_new(1, 1, 1);
    struct board_mold *mold = board_mold(board, 1);
    char text[16];
    assert_true(board_say_first(mold, "a"));
    assert_false(board_say_first(mold, "a"));
    assert_true(board_say_first(mold, ""));
    assert_false(board_say_first(mold, ""));
    for (unsigned i = 0; i < BOARD_SAID_MAX; i++) {
        snprintf(text, sizeof(text), "text %u", i);
        assert_true(board_say_first(mold, text));
    }
    assert_true(board_say_first(mold, "text 63")); /* no room: better twice than never */
    assert_false(board_say_first(mold, "a"));
    board_free(board);
}

static void test_a_generation_has_its_own_entry(void **state)
{
    (void)state;
    struct board *board = board_new(1, 1, 1);
    assert_ptr_equal(board_mold(board, 1), board_mold(board, 3));
    assert_ptr_not_equal(board_mold(board, 1), board_mold(board, 2));
    assert_true(board_say_first(board_mold(board, 3), "a"));
    board_mold(board, 2)->workers = 7;
    board_begin_mold(board, 3);
    assert_int_equal(board_mold(board, 3)->workers, 7);
    assert_int_equal(board_mold(board, 3)->state, BOARD_MOLD_LOADING);
    assert_true(board_say_first(board_mold(board, 3), "a"));
    board_free(board);
}

static void test_latencies(void **state)
{
    (void)state;
    struct board *board = board_new(2, 2, 1);
    struct board_seat *thread = board_seat(board, 1, 1);
    assert_ptr_equal(thread, &board->seat[3]);
    board_count_latency(thread, 0);
    board_count_latency(thread, NS_PER_MS);
    board_count_latency(thread, NS_PER_MS + 1);
    board_count_latency(thread, 3600 * NS_PER_S);
    assert_int_equal(thread->latency[0], 2);
    assert_int_equal(thread->latency[1], 1);
    assert_int_equal(thread->latency[BOARD_LATENCY_BOUNDS], 1);
    assert_int_equal(thread->latency_ns, 2 * NS_PER_MS + 1 + 3600 * NS_PER_S);
    for (unsigned i = 1; i < BOARD_LATENCY_BOUNDS; i++)
        assert_true(board_latency_bounds_ns[i] > board_latency_bounds_ns[i - 1]);
    board_free(board);
}

static void test_whether_any_worker_serves(void **state)
{
    (void)state;
    struct board *board = board_new(2, 1, 1);
    assert_false(board_is_served(board));
    board->worker[1].state = BOARD_WORKER_DRAINING;
    assert_false(board_is_served(board));
    board->worker[1].state = BOARD_WORKER_SERVING;
    assert_true(board_is_served(board));
    board_free(board);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parked_is_counted_once),
        cmocka_unit_test(test_parked_by_many),
        cmocka_unit_test(test_each_text_is_said_once),
        cmocka_unit_test(test_a_generation_has_its_own_entry),
        cmocka_unit_test(test_latencies),
        cmocka_unit_test(test_whether_any_worker_serves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
