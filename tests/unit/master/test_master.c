/* What the master does next: tables of the book and the step that is due. */
#include "master/master.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* Processes that a test of decisions does not start. */
NORETURN void mold_main(const struct worker_seed *seed, int order_fd)
{
    (void)seed;
    (void)order_fd;
    abort();
}

NORETURN void control_main(const struct control_seed *seed)
{
    (void)seed;
    abort();
}

void control_open(struct control_sockets *sockets, const struct config *config)
{
    (void)sockets;
    (void)config;
    abort();
}

void control_check(const struct config *config)
{
    (void)config;
    abort();
}

void config_reload_read(struct config *c, const struct config *running)
{
    (void)c;
    (void)running;
    abort();
}

/* The slots as letters: `.` empty, `o` ordered, `s` starting, `S` serving, `D` draining; a digit
 * behind a letter is its generation, `!` that it is to be replaced. */
static void fill(struct book *b, const char *text)
{
    unsigned i = 0;
    memset(b->slots, 0, b->board->workers * sizeof(*b->slots));
    for (; *text; text++) {
        static const char letters[] = ".osSD";
        struct slot *s = &b->slots[i];
        if (*text >= '0' && *text <= '9') {
            b->slots[i - 1].generation = (uint32_t)(*text - '0');
        } else if (*text == '!') {
            b->slots[i - 1].retire = BOARD_RETIRE_REQUESTS;
        } else {
            assert_true(i < b->board->workers);
            s->state = (enum slot_state)(strchr(letters, *text) - letters);
            s->generation = b->generation;
            s->deadline_ms = BOOK_NEVER;
            i++;
        }
    }
}

static void test_when_a_worker_is_ordered(void **state)
{
    static const struct {
        const char *slots;
        enum phase phase;
        unsigned wanted, failures;
        bool may;
    } rows[] = {
        /* a start: one worker alone until one has served */
        {"....", PHASE_TRIAL, 2, 0, true},
        {"o...", PHASE_TRIAL, 2, 0, false},
        {"s...", PHASE_TRIAL, 2, 0, false},
        /* it serves: the others together */
        {"S...", PHASE_SETTLED, 3, 0, true},
        {"So..", PHASE_SETTLED, 3, 0, true},
        {"Soo.", PHASE_SETTLED, 3, 0, false},
        /* after a failure one at a time */
        {"So..", PHASE_SETTLED, 3, 1, false},
        {"S...", PHASE_SETTLED, 3, 1, true},
        /* as many as wanted */
        {"SS..", PHASE_SETTLED, 2, 0, false},
        {"....", PHASE_SETTLED, 0, 0, false},
        /* a crash */
        {".S..", PHASE_SETTLED, 2, 0, true},
        /* a reload: the first of the new generation beside all the old ones */
        {"S2S2..", PHASE_TRIAL, 2, 0, true},
        {"S2S2o.", PHASE_TRIAL, 2, 0, false},
        /* then one more than wanted, never two */
        {"S2S2S.", PHASE_SETTLED, 2, 0, false},
        {"S2D2S.", PHASE_SETTLED, 2, 0, false},
        {"S2S...", PHASE_SETTLED, 2, 0, true},
        {"S2So..", PHASE_SETTLED, 2, 0, false},
        /* the trial does not wait for workers that drain */
        {"D2D2D2.", PHASE_TRIAL, 2, 0, true},
        /* a worker that is to be replaced counts as outdated */
        {"S!S...", PHASE_SETTLED, 2, 0, true},
        {"S!So..", PHASE_SETTLED, 2, 0, false},
        /* one that drains leaves its place at once where too few are active */
        {"DS....", PHASE_SETTLED, 2, 0, true},
    };

    (void)state;
    struct book b = {.board = board_new(8, 1, 1), .generation = 3, .oldest = 3};
    b.slots = xcalloc(b.board->workers, sizeof(*b.slots));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        book_current_mold(&b)->state = MOLD_READY;
        b.phase = rows[i].phase;
        b.scale.wanted = rows[i].wanted;
        b.orders = (struct delay){.failures = rows[i].failures};
        fill(&b, rows[i].slots);
        struct book_tally tally = book_count(&b);
        if (may_order(&b, &tally) != rows[i].may)
            fail_msg("row %zu: %s", i, rows[i].slots);
        book_current_mold(&b)->state = MOLD_LOADING; /* nobody could carry the order out */
        assert_false(may_order(&b, &tally));
        book_current_mold(&b)->state = MOLD_READY;
        b.orders.not_before_ms = now_ms() + 100000;
        assert_false(may_order(&b, &tally));
    }
    free(b.slots);
    board_free(b.board);
}

static void test_after_a_pause_the_code_is_new(void **state)
{
    (void)state;
    struct book b = {.board = board_new(3, 1, 1), .generation = 1, .wants_anew = true};
    b.slots = xcalloc(b.board->workers, sizeof(*b.slots));
    b.scale.wanted = 1;
    book_current_mold(&b)->state = MOLD_READY;
    struct book_tally none = book_count(&b);
    assert_true(may_order(&b, &none));
    b.reload_wanted = true;
    assert_false(may_order(&b, &none));
    b.reload_wanted = false;
    book_other_mold(&b)->state = MOLD_LOADING;
    assert_false(may_order(&b, &none));
    b.phase = PHASE_TRIAL; /* the next mold cannot load before the trial has ended */
    assert_true(may_order(&b, &none));
    free(b.slots);
    board_free(b.board);
}

static void test_who_drains_first(void **state)
{
    static const struct {
        const char *slots;
        int first; /* -1: nobody serves */
    } rows[] = {
        {"SSS", 2},   {"S2SS", 0}, {"SS1S2", 1}, {"SS!S", 1},
        {"S!S2S", 1}, {"D2SS", 2}, {"s2oS", 2},  {"D.o", -1},
    };

    (void)state;
    struct book b = {.board = board_new(3, 1, 1), .generation = 3, .oldest = 3};
    b.slots = xcalloc(b.board->workers, sizeof(*b.slots));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        fill(&b, rows[i].slots);
        struct slot *found = pick_superfluous(&b);
        if (found != (rows[i].first < 0 ? NULL : &b.slots[rows[i].first]))
            fail_msg("row %zu: %s", i, rows[i].slots);
    }
    free(b.slots);
    board_free(b.board);
}

static void test_the_next_deadline(void **state)
{
    (void)state;
    struct book b = {.board = board_new(2, 1, 1), .generation = 1};
    b.slots = xcalloc(b.board->workers, sizeof(*b.slots));
    fill(&b, "SS");
    b.molds[0].deadline_ms = b.molds[1].deadline_ms = BOOK_NEVER;
    b.upkeep.due_ms = b.sources.due_ms = b.watchdog_due_ms = BOOK_NEVER;
    assert_int_equal(next_deadline_ms(&b), BOOK_NEVER);
    b.slots[1].deadline_ms = 70;
    b.molds[0].deadline_ms = 60;
    assert_int_equal(next_deadline_ms(&b), 60);
    b.upkeep.due_ms = 50;
    assert_int_equal(next_deadline_ms(&b), 50);
    /* connections in an inbox that nobody reads: looked at soon, but not at a stop */
    b.upkeep.due_ms = b.molds[0].deadline_ms = b.slots[1].deadline_ms = BOOK_NEVER;
    fill(&b, "S.");
    b.board->worker[1].given = 1;
    assert_true(next_deadline_ms(&b) <= now_ms() + LETTERS_MS);
    b.stop = STOP_GRACEFUL;
    assert_int_equal(next_deadline_ms(&b), BOOK_NEVER);
    free(b.slots);
    board_free(b.board);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_when_a_worker_is_ordered),
        cmocka_unit_test(test_after_a_pause_the_code_is_new),
        cmocka_unit_test(test_who_drains_first),
        cmocka_unit_test(test_the_next_deadline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
