/* Which connections move between workers, and where: tables of what the board says. */
#include "worker/balance.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define WORKERS 4

/* What balance.c asks of others. The test's thread leads. */
bool leads(void)
{
    return true;
}

void conn_adopt(struct conn_table *table, int fd, const struct conn_origin *origin,
                uint64_t waits_since_ns, uint64_t after_newcomers)
{
    (void)table, (void)fd, (void)origin, (void)waits_since_ns, (void)after_newcomers;
}

void conn_park(struct conn *c)
{
    TAILQ_INSERT_TAIL(&c->table->parked, c, link);
    c->table->waiting++;
}

void conn_close(struct conn *c, const char *why)
{
    (void)why;
    TAILQ_REMOVE(&c->table->parked, c, link);
    c->table->waiting--;
}

unsigned conn_spare_descriptors(const struct conn_table *table)
{
    return table->room;
}

bool conn_has_room(const struct conn_table *table)
{
    return table->count < table->limit;
}

struct conn *conn_find_idle(struct conn_table *table)
{
    return TAILQ_FIRST(&table->parked);
}

static struct board *board;
static struct conn_table table;
static struct worker_inbox *inboxes;
static struct balance balance;
static struct conn conns[16];

/* Worker 0 is ours; the others serve, have room, and no thread is free. */
static int begin_test(void **state)
{
    (void)state;
    board = board_new(WORKERS, 1, 1);
    inboxes = inbox_open_all(WORKERS);
    table = (struct conn_table){.room = 100, .epoll_fd = -1};
    TAILQ_INIT(&table.parked);
    TAILQ_INIT(&table.readable);
    TAILQ_INIT(&table.evictable);
    balance = (struct balance){.table = &table, .board = board, .inboxes = inboxes};
    for (unsigned i = 0; i < WORKERS; i++) {
        board->worker[i].state = BOARD_WORKER_SERVING;
        board->worker[i].takes_until = 100;
    }
    return 0;
}

static int end_test(void **state)
{
    (void)state;
    inbox_close_all(inboxes, WORKERS);
    board_free(board);
    return 0;
}

/* `count` connections wait at worker 0, the first since `since_ns`. */
static void wait_here(unsigned count, uint64_t since_ns)
{
    for (unsigned i = 0; i < count; i++) {
        conns[i] = (struct conn){.table = &table, .fd = 0, .waits_since_ns = since_ns + i};
        conn_park(&conns[i]);
    }
}

/* Takes all letters of a worker; how many. */
static unsigned letters_of(unsigned slot)
{
    struct letter letter;
    unsigned count = 0;
    int fd;
    enum inbox_result result;
    while ((result = inbox_take(inboxes[slot].read_fd, &letter, &fd)) != INBOX_EMPTY) {
        if (result == INBOX_LETTER)
            close(fd);
        count += result == INBOX_LETTER;
    }
    return count;
}

/* A place for a connection is claimed once, also where the counters wrap around. */
static void test_places(void **state)
{
    static const struct {
        uint32_t takes_until, given;
        unsigned places;
    } rows[] = {{0, 0, 0},
                {3, 0, 3},
                {3, 3, 0},
                {3, 5, 0},
                {1, UINT32_MAX, 2},
                {UINT32_MAX, 1, 0},
                {UINT32_MAX, UINT32_MAX - 1, 1}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct board_worker *other = &board->worker[1];
        unsigned places = 0;
        other->takes_until = rows[i].takes_until;
        other->given = rows[i].given;
        while (has_place(other)) {
            assert_true(claim_place(other));
            places++;
        }
        assert_false(claim_place(other));
        assert_int_equal(places, rows[i].places);
    }
}

/* Who gets what is parked: a worker that serves, has a free thread and room, and where none
 * waits. */
static void test_who_has_a_free_thread(void **state)
{
    static const struct {
        uint32_t state, free_threads, waiting, takes_until;
        bool is_free;
    } rows[] = {
        {BOARD_WORKER_SERVING, 1, 0, 1, true},   {BOARD_WORKER_SERVING, 0, 0, 1, false},
        {BOARD_WORKER_SERVING, 1, 1, 1, false},  {BOARD_WORKER_SERVING, 1, 0, 0, false},
        {BOARD_WORKER_DRAINING, 1, 0, 1, false}, {BOARD_WORKER_STARTING, 1, 0, 1, false},
        {BOARD_WORKER_ENDING, 1, 0, 1, false},   {BOARD_WORKER_EMPTY, 1, 0, 1, false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct board_worker *other = &board->worker[2];
        other->state = rows[i].state;
        other->free_threads = rows[i].free_threads;
        other->waiting = rows[i].waiting;
        other->takes_until = rows[i].takes_until;
        other->given = 0;
        assert_int_equal(claim_free(&balance), rows[i].is_free ? 2 : -1);
        assert_int_equal(other->free_threads, rows[i].free_threads - rows[i].is_free);
        assert_int_equal(other->given, rows[i].is_free);
    }
}

static void test_each_free_thread_gets_one_the_oldest_first(void **state)
{
    (void)state;
    board->worker[1].free_threads = 1;
    board->worker[3].free_threads = 2;
    wait_here(5, 1000);
    give_parked_to_free(&balance);
    assert_int_equal(letters_of(1), 1);
    assert_int_equal(letters_of(2), 0);
    assert_int_equal(letters_of(3), 2);
    assert_int_equal(table.waiting, 2);
    assert_ptr_equal(TAILQ_FIRST(&table.parked), &conns[3]);
}

static void test_what_has_begun_stays(void **state)
{
    (void)state;
    board->worker[1].free_threads = 4;
    wait_here(3, 1000);
    conns[0].state = CONN_READING;
    give_parked_to_free(&balance);
    assert_int_equal(letters_of(1), 2);
    assert_ptr_equal(TAILQ_FIRST(&table.parked), &conns[0]);
}

/* Levelling moves every second of those that would have their turn sooner elsewhere. */
static void test_levelling(void **state)
{
    static const struct {
        unsigned ours, theirs[WORKERS];
        uint64_t service_ns;
        unsigned gets[WORKERS];
    } rows[] = {
        {8, {0, 0, 9, 9}, 10 * NS_PER_MS, {0, 4, 0, 0}},
        {8, {0, 9, 4, 9}, 10 * NS_PER_MS, {0, 0, 2, 0}},
        {8, {0, 9, 9, 9}, 10 * NS_PER_MS, {0}},
        {8, {0, 7, 9, 9}, 10 * NS_PER_MS, {0}}, /* one less: not worth a move */
        {8, {0, 0, 0, 0}, 1000, {0}},           /* short requests: over soon */
        {1, {0, 0, 0, 0}, 10 * NS_PER_MS, {0}},
        {0, {0, 0, 0, 0}, 10 * NS_PER_MS, {0}},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (unsigned slot = 1; slot < WORKERS; slot++)
            board->worker[slot].waiting = rows[i].theirs[slot];
        wait_here(rows[i].ours, now_ns());
        balance_level(&balance, rows[i].service_ns);
        unsigned moved = 0;
        for (unsigned slot = 1; slot < WORKERS; slot++) {
            assert_int_equal(letters_of(slot), rows[i].gets[slot]);
            assert_int_equal(board->worker[slot].waiting,
                             rows[i].theirs[slot] + rows[i].gets[slot]);
            moved += rows[i].gets[slot];
        }
        assert_int_equal(table.waiting, rows[i].ours - moved);
        while (!TAILQ_EMPTY(&table.parked))
            conn_close(TAILQ_FIRST(&table.parked), "");
    }
}

/* A sibling that runs younger requests has asked: it gets those that have waited so much longer. */
static void test_older_ones_go_to_who_asked(void **state)
{
    uint64_t now = now_ns();
    (void)state;
    wait_here(3, now - NS_PER_S);
    conns[2].waits_since_ns = now - NS_PER_MS;
    board->worker[2].waits_since_ns = now;
    board->worker[0].asked_by = 3;
    give_older(&balance);
    assert_int_equal(letters_of(2), 2);
    assert_int_equal(board->worker[0].asked_by, 0);
    give_older(&balance); /* nobody has asked */
    assert_int_equal(letters_of(2), 0);
    assert_int_equal(table.waiting, 1);
}

static void test_an_older_one_is_asked_for(void **state)
{
    static const struct {
        bool parked;
        uint64_t older_ns;
        bool asks;
    } rows[] = {{true, NS_PER_S, true}, {true, NS_PER_MS, false}, {false, NS_PER_S, false}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint64_t now = now_ns();
        board->worker[0].waits_since_ns = now;
        board->worker[3].waits_since_ns = now - rows[i].older_ns;
        (void)board_set_parked(board, 3, rows[i].parked);
        ask_for_older(&balance);
        assert_int_equal(board->worker[3].asked_by, rows[i].asks ? 1 : 0);
        board->worker[3].asked_by = 0;
    }
}

/* A full worker gives one connection to the sibling with the fewest, those in its inbox included;
 * none when all are full. */
static void test_a_full_one_is_relieved(void **state)
{
    static const struct {
        unsigned ours, theirs[WORKERS - 1], in_inbox[WORKERS - 1];
        int gets; /* the slot; -1: nobody */
    } rows[] = {
        {9, {0, 0, 0}, {0, 0, 0}, -1},    {10, {7, 6, 8}, {0, 0, 0}, 2},
        {10, {7, 6, 8}, {0, 3, 0}, 1},    {10, {10, 10, 9}, {0, 0, 0}, 3},
        {10, {10, 10, 9}, {0, 0, 1}, -1}, {10, {10, 10, 10}, {0, 0, 0}, -1},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        table.limit = 10;
        table.count = rows[i].ours;
        for (unsigned slot = 1; slot < WORKERS; slot++) {
            board->worker[slot].connections = rows[i].theirs[slot - 1];
            board->worker[slot].given = board->worker[slot].taken + rows[i].in_inbox[slot - 1];
        }
        wait_here(1, 1000);
        balance_relieve(&balance);
        for (unsigned slot = 1; slot < WORKERS; slot++)
            assert_int_equal(letters_of(slot), (int)slot == rows[i].gets);
        if (!TAILQ_EMPTY(&table.parked))
            conn_close(&conns[0], "test");
    }
}

static void test_a_full_inbox_keeps_the_connection_here(void **state)
{
    (void)state;
    const struct letter letter = {0};
    while (inbox_send(inboxes[1].write_fd, &letter, 0))
        continue;
    uint32_t given = board->worker[1].given;
    board->worker[1].free_threads = 1;
    wait_here(1, 1000);
    give_parked_to_free(&balance);
    assert_int_equal(table.waiting, 1);
    assert_int_equal(board->worker[1].free_threads, 1);
    assert_int_equal(board->worker[1].given, given);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin_test, end_test)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_places),
        TEST(test_who_has_a_free_thread),
        TEST(test_each_free_thread_gets_one_the_oldest_first),
        TEST(test_what_has_begun_stays),
        TEST(test_levelling),
        TEST(test_older_ones_go_to_who_asked),
        TEST(test_an_older_one_is_asked_for),
        TEST(test_a_full_one_is_relieved),
        TEST(test_a_full_inbox_keeps_the_connection_here),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
