/* The account of the views, and the statements: what is bounded stays within its bounds. */
#include "shared/ledger.c"

#include "shared/board.h"
#include "shared/statements.h"

#include <pthread.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void test_buckets_cover_all_times(void **state)
{
    (void)state;
    for (unsigned i = 0; i + 1 < LEDGER_BUCKETS; i++) {
        uint64_t bound_ns = ledger_bound_ns(i);
        assert_int_equal(ledger_bucket(bound_ns - 1), i);
        assert_int_equal(ledger_bucket(bound_ns), i + 1);
        assert_true(i == 0 || bound_ns * 4 <= ledger_bound_ns(i - 1) * 5);
    }
    assert_int_equal(ledger_bucket(0), 0);
    assert_int_equal(ledger_bucket(UINT64_MAX), LEDGER_BUCKETS - 1);
    assert_int_equal(ledger_bound_ns(LEDGER_BUCKETS - 1), UINT64_MAX);
}

static void test_names_are_bounded(void **state)
{
    (void)state;
    struct board *board = board_new(2, 1, 1);
    struct ledger *ledger = board->ledger;
    char name[200];
    for (unsigned i = 0; i < 2 * LEDGER_VIEWS; i++) {
        snprintf(name, sizeof name, "view %u", i);
        unsigned view = ledger_view_of(ledger, name);
        assert_int_equal(ledger_view_of(ledger, name), view);
        if (i < LEDGER_VIEWS)
            assert_string_equal(ledger_name(ledger, view), name);
        else
            assert_int_equal(view, LEDGER_VIEWS);
    }
    assert_string_equal(ledger_name(ledger, LEDGER_VIEWS), "other");
    assert_null(ledger_name(ledger, LEDGER_VIEWS + 1));
    board_free(board);
}

static void test_long_names_are_cut(void **state)
{
    (void)state;
    struct board *board = board_new(1, 1, 1);
    char name[LEDGER_NAME_MAX + 50];
    memset(name, 'x', sizeof name);
    unsigned view = ledger_view(board->ledger, name, sizeof name);
    assert_int_equal(strlen(ledger_name(board->ledger, view)), LEDGER_NAME_MAX - 1);
    board_free(board);
}

static void add_one(struct ledger *ledger, uint64_t wall_ns, uint64_t ended_ns)
{
    struct ledger_entry entry = {.view = 3,
                                 .status = 200,
                                 .parts_ns = {[LEDGER_CPU] = wall_ns},
                                 .ended_ns = ended_ns,
                                 .method = {"GET", 3},
                                 .path = {"/x", 2}};
    ledger_add(ledger, 0, &entry);
}

static bool keeps(const struct ledger *ledger, uint64_t wall_ns)
{
    for (unsigned i = 0; i < LEDGER_SLOW; i++)
        if (atomic_load(&ledger->shard[0].slow[i].wall_ns) == wall_ns)
            return true;
    return false;
}

static void test_the_slowest_are_kept_until_they_are_old(void **state)
{
    (void)state;
    struct board *board = board_new(1, 1, 1);
    struct ledger *ledger = board->ledger;
    uint64_t now = NS_PER_S;
    for (unsigned i = 1; i <= 100; i++)
        add_one(ledger, i * NS_PER_MS, now);
    for (unsigned i = 1; i <= 100; i++)
        assert_int_equal(keeps(ledger, i * NS_PER_MS), i > 100 - LEDGER_SLOW);
    add_one(ledger, NS_PER_MS, now);
    assert_false(keeps(ledger, NS_PER_MS));
    add_one(ledger, NS_PER_MS, now + LEDGER_RECENT_NS + NS_PER_S);
    assert_true(keeps(ledger, NS_PER_MS));
    assert_int_equal(ledger->shard[0].rows[3].classes[2], 102);
    board_free(board);
}

static void *add_many(void *ledger)
{
    for (unsigned i = 0; i < 3000000; i++) {
        struct ledger_entry entry = {.view = 3, .status = 200, .queries = 1};
        ledger_add(ledger, 0, &entry);
    }
    return NULL;
}

static void test_who_sees_a_request_sees_all_of_it(void **state)
{
    (void)state;
    struct board *board = board_new(1, 1, 1);
    const struct ledger_row *row = &board->ledger->shard[0].rows[3];
    uint64_t counted = 0;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, add_many, board->ledger), 0);
    while (counted < 3000000) {
        counted = atomic_load_explicit(&row->buckets[0], memory_order_acquire);
        assert_true(atomic_load_explicit(&row->classes[2], memory_order_acquire) >= counted);
        counted = atomic_load_explicit(&row->classes[2], memory_order_acquire);
        assert_true(atomic_load(&row->queries) >= counted);
    }
    pthread_join(thread, NULL);
    board_free(board);
}

/* What the board had before: whatever is added for what is seen is below 2 MB for 4 x 10. */
static void test_the_board_grows_by_two_megabytes_at_most(void **state)
{
    (void)state;
    const unsigned workers = 4, slots = 13, threads = 10;
    size_t of_seats = sizeof(struct board_seat) - offsetof(struct board_seat, doing);
    size_t grown =
        ledger_bytes(workers) + sizeof(struct statements) + (size_t)slots * threads * of_seats;
    assert_true(grown <= 2000000);
}

static void find(struct statements *all, const char *text, uint64_t time_ns, uint32_t *place)
{
    *place =
        statements_find(all, (struct text){text, strlen(text)}, SQL_SQLITE, "default", time_ns);
}

static void test_statements_give_way_to_slower_ones(void **state)
{
    (void)state;
    struct board *board = board_new(1, 1, 1);
    struct statements *all = board->statements;
    char text[500], shown[STATEMENTS_TEXT_MAX + 1];
    uint32_t place;
    for (unsigned i = 0; i < STATEMENTS_MAX; i++) {
        snprintf(text, sizeof text, "SELECT %0100u", i);
        find(all, text, 0, &place);
        assert_true(place < STATEMENTS_MAX);
        struct statement_use use = {.count = 1, .time_ns = 1000 + i, .most_ns = 1000 + i};
        statements_add(all, place, all->items[place].hash, 1, &use);
    }
    find(all, "a fast one", 1, &place);
    assert_int_equal(place, STATEMENTS_NONE);
    find(all, "a slow one", 1000000, &place);
    assert_true(place < STATEMENTS_MAX);
    assert_true(statements_text(all, place, shown));
    assert_string_equal(shown, "a slow one");
    assert_int_equal(all->items[place].count, 0);
    find(all, "SELECT " /* the cheapest one has gone */, 0, &place);
    assert_int_equal(place, STATEMENTS_NONE);
    board_free(board);
}

static void test_long_statements_are_cut(void **state)
{
    (void)state;
    struct board *board = board_new(1, 1, 1);
    char *text = xmalloc(STATEMENTS_TEXT_MAX * 2), shown[STATEMENTS_TEXT_MAX + 1];
    uint32_t place;
    memset(text, 'x', STATEMENTS_TEXT_MAX * 2 - 1);
    text[STATEMENTS_TEXT_MAX * 2 - 1] = '\0';
    find(board->statements, text, 0, &place);
    assert_true(board->statements->items[place].cut);
    assert_true(statements_text(board->statements, place, shown));
    assert_int_equal(strlen(shown), STATEMENTS_TEXT_MAX);
    free(text);
    board_free(board);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buckets_cover_all_times),
        cmocka_unit_test(test_names_are_bounded),
        cmocka_unit_test(test_long_names_are_cut),
        cmocka_unit_test(test_the_slowest_are_kept_until_they_are_old),
        cmocka_unit_test(test_who_sees_a_request_sees_all_of_it),
        cmocka_unit_test(test_the_board_grows_by_two_megabytes_at_most),
        cmocka_unit_test(test_statements_give_way_to_slower_ones),
        cmocka_unit_test(test_long_statements_are_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
