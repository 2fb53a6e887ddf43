/* How many workers a load asks for: it is there at once, it goes when it is not needed, and the
 * number does not flap, whatever the load does. */
#include "master/demand.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define THREADS 2
#define LIMIT   16

struct simulation {
    struct demand demand;
    uint64_t now_ms;
    unsigned workers;
    unsigned changes;
    unsigned random;
};

static struct simulation begin(unsigned workers)
{
    return (struct simulation){.now_ms = 1000, .workers = workers, .random = 1};
}

/* In thousandths. */
static unsigned chance(struct simulation *s)
{
    s->random = s->random * 1103515245 + 12345;
    return (s->random >> 16) % 1000;
}

/* One sample of a load that `asked` threads would be busy with. */
static void look(struct simulation *s, unsigned asked)
{
    unsigned capacity = s->workers * THREADS;
    struct demand_sample sample = {.now_ms = s->now_ms,
                                   .serving = s->workers,
                                   .threads = THREADS,
                                   .busy = asked < capacity ? asked : capacity,
                                   .waits = asked > capacity};
    int by = demand_judge(&s->demand, &sample);
    assert_true(by >= -1 && by <= (int)s->workers);
    int next = (int)s->workers + by;
    next = next > LIMIT ? LIMIT : next < 1 ? 1 : next;
    s->changes += next != (int)s->workers;
    s->workers = (unsigned)next;
    s->now_ms += DEMAND_LOOK_MS;
}

static void look_for(struct simulation *s, unsigned asked, uint64_t ms)
{
    for (uint64_t end = s->now_ms + ms; s->now_ms < end;)
        look(s, asked);
}

static void test_it_grows_at_once(void **state)
{
    (void)state;
    struct simulation s = begin(1);
    look_for(&s, 100, 300);
    assert_int_equal(s.workers, 2);
    look_for(&s, 100, 3000);
    assert_int_equal(s.workers, LIMIT);
    /* nobody waits, but all are busy */
    s = begin(2);
    look_for(&s, 2 * THREADS, 2000);
    assert_int_equal(s.workers, 3);
}

static void test_a_moment_is_no_load(void **state)
{
    (void)state;
    struct simulation s = begin(2);
    for (unsigned i = 0; i < 1000; i++)
        look(&s, i % 10 < 2 ? 100 : 1);
    assert_int_equal(s.workers, 2);
}

static void test_it_goes_when_nothing_comes(void **state)
{
    (void)state;
    struct simulation s = begin(4);
    look_for(&s, 0, DEMAND_PATIENCE_MS - DEMAND_LOOK_MS);
    assert_int_equal(s.workers, 4);
    look_for(&s, 0, 3 * DEMAND_PATIENCE_MS + 3 * DEMAND_LOOK_MS);
    assert_int_equal(s.workers, 1);
}

/* What was let go would not be missed at once. */
static void test_a_steady_load_keeps_its_workers(void **state)
{
    (void)state;
    for (unsigned load = 0; load <= 1000; load += 25) {
        struct simulation s = begin(LIMIT);
        for (unsigned i = 0; i < 36000; i++) { /* an hour */
            unsigned asked = 0;
            for (unsigned client = 0; client < 8; client++)
                asked += chance(&s) < load;
            look(&s, asked);
        }
        unsigned settled = s.changes;
        for (unsigned i = 0; i < 36000; i++) {
            unsigned asked = 0;
            for (unsigned client = 0; client < 8; client++)
                asked += chance(&s) < load;
            look(&s, asked);
        }
        if (settled > 40 || s.changes - settled > 8)
            fail_msg("load %u: %u changes, then %u", load, settled, s.changes - settled);
    }
}

/* A load that comes and goes with any period: the patience outgrows it. */
static void test_a_load_that_comes_and_goes(void **state)
{
    (void)state;
    for (uint64_t period_ms = 500; period_ms <= 120000; period_ms *= 2) {
        struct simulation s = begin(1);
        while (s.now_ms < 4 * 3600 * 1000) {
            look_for(&s, 12, period_ms);
            look_for(&s, 0, period_ms);
        }
        unsigned settled = s.changes;
        while (s.now_ms < 8 * 3600 * 1000) {
            look_for(&s, 12, period_ms);
            look_for(&s, 0, period_ms);
        }
        if (s.changes - settled > 40)
            fail_msg("period %lu: %u changes, then %u", (unsigned long)period_ms, settled,
                     s.changes - settled);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_grows_at_once),
        cmocka_unit_test(test_a_moment_is_no_load),
        cmocka_unit_test(test_it_goes_when_nothing_comes),
        cmocka_unit_test(test_a_steady_load_keeps_its_workers),
        cmocka_unit_test(test_a_load_that_comes_and_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
