/* Which answers end for requests that wait: what the leader sees at each tick. */
#include "worker/lag.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define LONG_MS 10000 /* longer than any wait of lag.c */
#define DEAF_MS 1000  /* longer than QUIET_LEAST_MS, shorter than STARVED_MS */

static struct board_seat seats[2];
static struct lag first = {.seat = &seats[0]}, second = {.seat = &seats[1]};
static struct lag *items[] = {&first, &second};
static const struct lags lags = {items, ARRAY_LEN(items)};

static int begin_test(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(items); i++) {
        seats[i].requests = 0;
        items[i]->quiet = 0;
    }
    return 0;
}

static struct lag_relief waiting_for_long(void)
{
    uint64_t since_ms = now_ms() - LONG_MS;
    return (struct lag_relief){.waits_since_ms = since_ms, .starved_since_ms = since_ms};
}

static void be_quiet(struct lag *lag, uint64_t ms, uint64_t bit)
{
    lag->quiet = WORD(now_ms() - ms, bit);
}

static void end_request(struct lag *lag)
{
    lag->quiet = 0;
    atomic_fetch_add((_Atomic uint64_t *)&lag->seat->requests, 1);
}

static void test_longest_ends_first(void **state)
{
    struct lag_relief relief = waiting_for_long();
    (void)state;
    be_quiet(&first, DEAF_MS, 0);
    be_quiet(&second, DEAF_MS * 2, 0);
    lag_relieve(&relief, &lags, 1, true);
    assert_true(first.quiet != TOLD_TO_END && second.quiet == TOLD_TO_END);
}

/* Where all whose clients take nothing are told at once, all their threads are free for a moment.
 */
static void test_told_thread_is_no_end_of_the_wait(void **state)
{
    struct lag_relief relief = waiting_for_long();
    (void)state;
    be_quiet(&first, DEAF_MS, 0);
    lag_relieve(&relief, &lags, 3, true);
    assert_true(first.quiet == TOLD_TO_END);
    end_request(&first);
    lag_relieve(&relief, &lags, 2, false);
    lag_relieve(&relief, &lags, 2, true);
    be_quiet(&second, DEAF_MS, 0);
    lag_relieve(&relief, &lags, 2, true);
    assert_true(second.quiet == TOLD_TO_END);
}

static void test_request_that_ends_by_itself(void **state)
{
    struct lag_relief relief = waiting_for_long();
    (void)state;
    be_quiet(&first, DEAF_MS, 0);
    end_request(&second);
    lag_relieve(&relief, &lags, 1, true);
    assert_true(first.quiet != TOLD_TO_END);
}

static void test_nobody_waits_or_a_thread_is_free(void **state)
{
    (void)state;
    for (unsigned waiting = 0; waiting < 2; waiting++) {
        struct lag_relief relief = waiting_for_long();
        be_quiet(&first, LONG_MS, 0);
        lag_relieve(&relief, &lags, waiting, waiting == 0);
        lag_relieve(&relief, &lags, 1, true); /* and others have not waited for long */
        assert_true(first.quiet != TOLD_TO_END || waiting == 1);
    }
}

/* A client that has read is given the longer time, and that begins anew with every free thread. */
static void test_client_that_took_before(void **state)
{
    struct lag_relief relief = waiting_for_long();
    (void)state;
    be_quiet(&first, QUIET_MS - 1000, TOOK_BEFORE);
    lag_relieve(&relief, &lags, 1, true);
    assert_true(first.quiet != TOLD_TO_END);
    be_quiet(&first, LONG_MS, TOOK_BEFORE);
    lag_relieve(&relief, &lags, 1, false);
    lag_relieve(&relief, &lags, 1, true);
    assert_true(first.quiet != TOLD_TO_END);
    relief.waits_since_ms -= LONG_MS;
    lag_relieve(&relief, &lags, 1, true);
    assert_true(first.quiet == TOLD_TO_END);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_longest_ends_first, begin_test),
        cmocka_unit_test_setup(test_told_thread_is_no_end_of_the_wait, begin_test),
        cmocka_unit_test_setup(test_request_that_ends_by_itself, begin_test),
        cmocka_unit_test_setup(test_nobody_waits_or_a_thread_is_free, begin_test),
        cmocka_unit_test_setup(test_client_that_took_before, begin_test),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
