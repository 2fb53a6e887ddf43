/* Who answers a request: tables of what the thread and the watch do, and both at once. */
#include "worker/turn.c"

#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static struct board_seat seat;
static struct turns turns;
static struct turn turn = {.all = &turns, .seat = &seat};
static struct turn *items[] = {&turn};
static struct conn conn = {.fd = 7};

static int begin_test(void **state)
{
    (void)state;
    turns_init(&turns, items, 1);
    return 0;
}

static int end_test(void **state)
{
    (void)state;
    turns_fini(&turns);
    return 0;
}

/* What each may do, in the order of the row: t the thread claims, w the watch locks to answer the
 * running request, o the one before. Capital: it may. Then whether the thread's answer counts. */
static void test_who_answers(void **state)
{
    static const struct {
        const char *steps;
        bool counts;
    } rows[] = {
        {"", true},    {"T", true},   {"TT", true},   {"Tw", true},   {"W", false},
        {"Wt", false}, {"Ww", false}, {"Wtw", false}, {"o", true},    {"oT", true},
        {"oTw", true}, {"oW", false}, {"oWo", false}, {"TwTo", true}, {"Wto", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        turn_begin(&turn, &conn, 0);
        for (const char *step = rows[i].steps; *step; step++) {
            bool is_running, may;
            if ((*step | 0x20) == 't') {
                may = turn_claim(&turn);
            } else {
                bool is_now = (*step | 0x20) == 'w';
                may = turn_lock_to_answer(&turn, turn.request - !is_now, &is_running);
                assert_int_equal(is_running, is_now);
                if (may)
                    turn_unlock(&turn);
            }
            assert_int_equal(may, *step >= 'A' && *step <= 'Z');
        }
        assert_int_equal(turn_is_answered(&turn), !rows[i].counts);
        assert_int_equal(turn_end(&turn), rows[i].counts);
        assert_false(turn_is_answered(&turn));
    }
}

static void test_nobody_answers_a_request_that_has_ended(void **state)
{
    bool is_running = true;
    (void)state;
    turn_begin(&turn, &conn, 0);
    uint64_t number = turn.request;
    assert_true(turn_end(&turn));
    assert_false(turn_lock_to_answer(&turn, number, &is_running));
    assert_false(is_running);
}

static void test_who_has_the_socket(void **state)
{
    int fds[2];
    char byte;
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    conn.fd = fds[0];
    turn_begin(&turn, &conn, 1);
    assert_false(turn_shut_taken(&turn, turn.request)); /* the server has it */
    assert_true(turn_claim(&turn));
    turn_take(&turn);
    assert_int_equal(seat.deadline_ns, 0);
    assert_false(turn_shut_taken(&turn, turn.request - 1));
    assert_int_equal(recv(fds[1], &byte, 1, MSG_DONTWAIT), -1); /* it is not shut */
    assert_int_equal(turns_shut_taken(&turns), 1);
    assert_int_equal(recv(fds[1], &byte, 1, MSG_DONTWAIT), 0);
    assert_true(turn_end(&turn));
    assert_int_equal(turns_shut_taken(&turns), 0);
    turn_begin(&turn, &conn, 0);
    assert_true(turn_claim(&turn));
    assert_int_equal(turns_shut_taken(&turns), 0); /* nor does the next request have it */
    assert_true(turn_end(&turn));
    close(fds[0]);
    close(fds[1]);
    conn.fd = 7;
}

static void test_the_client_has_its_answer_already(void **state)
{
    bool is_running = false;
    (void)state;
    turn_begin_close(&turn, 1);
    assert_int_equal(turn.fd, -1);
    assert_false(turn_lock_to_answer(&turn, turn.request, &is_running));
    assert_true(is_running);
    assert_true(turn_end(&turn));
    assert_int_equal(seat.deadline_ns, 0);
}

static void test_given_up_until_it_ends(void **state)
{
    (void)state;
    turn_begin(&turn, &conn, 0);
    assert_int_equal(turns_given_up(&turns, false), 0);
    atomic_store(&turn.given_up, turn.request);
    assert_int_equal(turns_given_up(&turns, false), 1);
    assert_true(turn_end(&turn));
    assert_int_equal(turns_given_up(&turns, false), 0);
    turn_begin(&turn, &conn, 0);
    assert_int_equal(turns_given_up(&turns, false), 0);
    assert_true(turn_end(&turn));
    turn_begin_close(&turn, 0); /* its client waits for nothing */
    atomic_store(&turn.given_up, turn.request);
    assert_int_equal(turns_given_up(&turns, false), 1);
    assert_int_equal(turns_given_up(&turns, true), 0);
    assert_true(turn_end(&turn));
}

static void test_the_deadline_rests_while_the_client_is_waited_for(void **state)
{
    (void)state;
    turn_begin(&turn, &conn, now_ns() + 60 * NS_PER_S);
    uint64_t paused = turn_pause(&turn);
    assert_int_equal(seat.deadline_ns, 0);
    assert_true(paused > 50 * NS_PER_S && paused <= 60 * NS_PER_S);
    turn_resume(&turn, paused);
    assert_true(seat.deadline_ns > now_ns() + 50 * NS_PER_S);
    assert_true(turn_end(&turn));

    turn_begin(&turn, &conn, 0);
    turn_resume(&turn, turn_pause(&turn));
    assert_int_equal(seat.deadline_ns, 0);
    assert_true(turn_end(&turn));

    turn_begin(&turn, &conn, 1); /* it has passed: that is seen when the client goes on */
    turn_resume(&turn, turn_pause(&turn));
    assert_true(seat.deadline_ns > 1);
    assert_true(turn_end(&turn));
}

static _Atomic uint64_t asked; /* the request that the watch is to answer */
static _Atomic bool done;
static unsigned watch_answered;

static void *be_the_watch(void *unused)
{
    bool is_running;
    (void)unused;
    while (!atomic_load(&done))
        if (turn_lock_to_answer(&turn, atomic_load(&asked), &is_running)) {
            watch_answered++;
            turn_unlock(&turn);
        }
    return NULL;
}

static void test_exactly_one_answers(void **state)
{
    pthread_t watch;
    unsigned thread_answered = 0, rounds = 50000;
    (void)state;
    assert_int_equal(pthread_create(&watch, NULL, be_the_watch, NULL), 0);
    for (unsigned i = 0; i < rounds; i++) {
        turn_begin(&turn, &conn, 0);
        atomic_store(&asked, turn.request);
        bool claimed = turn_claim(&turn);
        assert_int_equal(turn_end(&turn), claimed);
        thread_answered += claimed;
    }
    atomic_store(&done, true);
    pthread_join(watch, NULL);
    assert_int_equal(thread_answered + watch_answered, rounds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_answers),
        cmocka_unit_test(test_nobody_answers_a_request_that_has_ended),
        cmocka_unit_test(test_who_has_the_socket),
        cmocka_unit_test(test_the_client_has_its_answer_already),
        cmocka_unit_test(test_given_up_until_it_ends),
        cmocka_unit_test(test_the_deadline_rests_while_the_client_is_waited_for),
        cmocka_unit_test(test_exactly_one_answers),
    };
    return cmocka_run_group_tests(tests, begin_test, end_test);
}
