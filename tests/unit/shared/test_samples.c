/* The memory of the samplers: nothing is read that was overwritten, and the dead are kept. */
#include "shared/samples.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static struct samples_record record_of(uint32_t number)
{
    return (struct samples_record){.wall_us = number};
}

static void put_many(struct samples_area *area, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++)
        (void)samples_put(area, SAMPLES_STEADY, &(struct samples_record){.wall_us = i});
}

static void test_ring(void **state)
{
    (void)state;
    struct samples *samples = samples_new(2, 1);
    struct samples_area *area = samples_area(samples, 1);
    struct samples_record out[STEADY_LEAST];
    uint64_t next, lost;
    samples_begin(area, 1);
    put_many(area, 0, 10);
    assert_int_equal(samples_read(area, SAMPLES_STEADY, 4, true, out, STEADY_LEAST, &next, &lost),
                     6);
    assert_int_equal(out[0].wall_us, 4);
    assert_int_equal(next, 10);
    assert_int_equal(lost, 0);
    put_many(area, 10, STEADY_LEAST + 100);
    size_t count = samples_read(area, SAMPLES_STEADY, next, true, out, STEADY_LEAST, &next, &lost);
    /* the oldest may just be overwritten */
    assert_int_equal(count, STEADY_LEAST - 1);
    assert_int_equal(lost, 100 + 1 - 10);
    assert_int_equal(out[0].wall_us, 101);
    assert_int_equal(out[count - 1].wall_us, STEADY_LEAST + 99);
    assert_int_equal(next, STEADY_LEAST + 100);
    samples_free(samples);
}

static void test_growing_records_are_not_read(void **state)
{
    (void)state;
    struct samples *samples = samples_new(1, 1);
    struct samples_area *area = samples_area(samples, 0);
    struct samples_record out[4], grown = record_of(7);
    uint64_t next, lost;
    samples_begin(area, 1);
    atomic_store(&area->begin_ns, now_ns() - 10 * NS_PER_S);
    put_many(area, 0, 1);
    grown.begin_ms = 100000; /* so that it grows, however long this test takes */
    uint64_t number = samples_put(area, SAMPLES_STEADY, &grown);
    assert_int_equal(samples_read(area, SAMPLES_STEADY, 0, false, out, 4, &next, &lost), 1);
    assert_int_equal(next, number);
    grown.wall_us = 8;
    samples_put_again(area, SAMPLES_STEADY, number, &grown);
    assert_int_equal(samples_read(area, SAMPLES_STEADY, next, true, out, 4, &next, &lost), 1);
    assert_int_equal(out[0].wall_us, 8);
    samples_free(samples);
}

static void test_emptied(void **state)
{
    (void)state;
    struct samples *samples = samples_new(1, 1);
    struct samples_area *area = samples_area(samples, 0);
    struct samples_record out[4];
    uint64_t next, lost;
    samples_begin(area, 1);
    uint32_t epoch = area->epoch;
    put_many(area, 0, 3);
    while (samples_add_function(area, (struct samples_function){0}) >= 0)
        continue;
    assert_int_equal(area->functions, SAMPLES_FUNCTIONS);
    assert_int_equal(samples_add_text(area, "abc\0def", 7), 1);
    assert_string_equal(area->text + 1, "abc");
    assert_int_equal(samples_add_text(area, area->text, SAMPLES_TEXT_BYTES), 5);
    char *large = calloc(1, SAMPLES_TEXT_BYTES);
    memset(large, 'a', SAMPLES_TEXT_BYTES - 1);
    assert_int_equal(samples_add_text(area, large, SAMPLES_TEXT_BYTES), -1);
    free(large);
    samples_empty(area);
    assert_int_equal(area->epoch, epoch + 2);
    assert_int_equal(area->functions, 0);
    assert_int_equal(samples_read(area, SAMPLES_STEADY, 0, true, out, 4, &next, &lost), 0);
    assert_int_equal(lost, 0);
    samples_free(samples);
}

static void test_the_dead_are_kept(void **state)
{
    (void)state;
    struct samples *samples = samples_new(2, 1);
    struct text running = {.data = "GET /", .len = 5};
    assert_int_equal(samples_keep(samples, 0, "signal 9", running), 0); /* it had not begun */
    for (int pid = 1; pid <= SAMPLES_KEPT + 2; pid++) {
        samples_begin(samples_area(samples, 1), pid);
        assert_int_equal(samples_keep(samples, 1, "signal 9", running), pid);
        assert_int_equal(samples_area(samples, 1)->pid, 0);
        const struct samples_death *death = &samples->death[pid % SAMPLES_KEPT];
        assert_int_equal(death->number, pid);
        assert_int_equal(samples_area_at(samples, death->area)->pid, pid);
        assert_string_equal(death->running, "GET /");
    }
    assert_ptr_not_equal(samples_area(samples, 0), samples_area(samples, 1));
    samples_free(samples);
}

static void test_log(void **state)
{
    (void)state;
    struct samples *samples = samples_new(1, 1);
    struct samples_area *area = samples_area(samples, 0);
    samples_begin(area, 1);
    for (int i = 0; i < 3000; i++)
        samples_note_log(area, "0123456\n", 8);
    assert_int_equal(area->log_head, 24000);
    assert_memory_equal(area->log + SAMPLES_LOG_BYTES - 8, "0123456\n", 8);
    char large[SAMPLES_LOG_BYTES + 5];
    memset(large, 'x', sizeof large);
    samples_note_log(area, large, sizeof large);
    assert_int_equal(memcmp(area->log, large, SAMPLES_LOG_BYTES), 0);
    samples_free(samples);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ring),    cmocka_unit_test(test_growing_records_are_not_read),
        cmocka_unit_test(test_emptied), cmocka_unit_test(test_the_dead_are_kept),
        cmocka_unit_test(test_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
