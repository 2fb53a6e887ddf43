/* What was counted lately: from when on, and that nothing is lost or counted twice. */
#include "control/window.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct board *board;

static int begin_test(void **state)
{
    (void)state;
    memset(&kept, 0, sizeof kept);
    board = board_new(2, 1, 2);
    return 0;
}

static int end_test(void **state)
{
    (void)state;
    free(kept.older.ran);
    free(kept.newer.ran);
    board_free(board);
    return 0;
}

/* A worker of that generation serves, which was loaded at that time. */
static void serve_as(uint32_t generation, uint64_t loading_ns)
{
    atomic_store(&board->molds[generation % 2].hints.began_ns, loading_ns);
    atomic_store(&board->worker[0].generation, generation);
    atomic_store(&board->worker[0].state, BOARD_WORKER_SERVING);
}

static void make_requests(unsigned count)
{
    struct ledger_entry entry = {.view = ledger_view_of(board->ledger, "view"),
                                 .status = 200,
                                 .queries = 2,
                                 .parts_ns = {[LEDGER_CPU] = 10}};
    while (count-- > 0)
        ledger_add(board->ledger, count % 2, &entry);
}

static void expect(unsigned requests)
{
    struct window window;
    window_read(board, &window);
    assert_int_equal(window.requests, requests);
    assert_int_equal(window.queries, 2 * requests);
    assert_int_equal(window.parts_ns[LEDGER_CPU], 10 * requests);
}

static void test_all_of_a_new_server(void **state)
{
    (void)state;
    (void)window_keep(board);
    serve_as(1, 100);
    make_requests(3);
    expect(3);
    make_requests(4);
    expect(7);
}

static void test_from_half_a_window_to_a_whole_one(void **state)
{
    (void)state;
    serve_as(1, 100);
    (void)window_keep(board);
    make_requests(3);
    kept.older.at_ns -= HALF_NS;
    kept.newer.at_ns -= HALF_NS;
    expect(3); /* the next half begins */
    make_requests(5);
    expect(8);
    kept.newer.at_ns -= HALF_NS;
    expect(5); /* the first half is over */
    kept.newer.at_ns -= HALF_NS;
    expect(0);
}

static void test_anew_where_the_application_is_loaded_anew(void **state)
{
    (void)state;
    serve_as(1, 100);
    (void)window_keep(board);
    make_requests(3);
    serve_as(2, 100); /* a worker has become the mold */
    make_requests(2);
    expect(5);
    serve_as(3, 200);
    expect(0);
    make_requests(1);
    expect(1);
    atomic_store(&board->worker[0].state, BOARD_WORKER_EMPTY); /* nobody serves for a while */
    make_requests(1);
    expect(2);
}

static void test_numbers_never_go_below_zero(void **state)
{
    (void)state;
    struct window window;
    serve_as(1, 100);
    make_requests(3);
    (void)window_keep(board);
    memset(&board->ledger->shard[0].rows, 0, sizeof board->ledger->shard[0].rows);
    memset(&board->ledger->shard[1].rows, 0, sizeof board->ledger->shard[1].rows);
    window_read(board, &window);
    assert_int_equal(window.requests, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_all_of_a_new_server, begin_test, end_test),
        cmocka_unit_test_setup_teardown(test_from_half_a_window_to_a_whole_one, begin_test,
                                        end_test),
        cmocka_unit_test_setup_teardown(test_anew_where_the_application_is_loaded_anew, begin_test,
                                        end_test),
        cmocka_unit_test_setup_teardown(test_numbers_never_go_below_zero, begin_test, end_test),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
