/* The text for Prometheus as lines for statsd. */
#include "control/statsd.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void check_lines(struct statsd *s, const char *metrics, const char *lines)
{
    struct buf out = {0};
    statsd_format(s, metrics, &out);
    buf_append(&out, "", 1);
    assert_string_equal(out.data, lines);
    buf_fini(&out);
}

static void forget(struct statsd *s)
{
    for (size_t i = 0; i < s->count; i++)
        free(s->counters[i].name);
    free(s->counters);
}

static void test_counters_are_sent_by_what_was_added(void **state)
{
    (void)state;
    struct statsd s;
    statsd_begin(&s, "localhost", "a.b");
    check_lines(&s, "# TYPE myserver_requests_total counter\nmyserver_requests_total 7\n", "");
    check_lines(&s, "# TYPE myserver_requests_total counter\nmyserver_requests_total 9\n",
                "a.b.requests:2|c\n");
    check_lines(&s, "# TYPE myserver_requests_total counter\nmyserver_requests_total 9\n", "");
    check_lines(&s,
                "# TYPE myserver_requests_total counter\nmyserver_requests_total 3\n"
                "myserver_other_total{reason=\"new\"} 2\n",
                "a.b.other.new:2|c\n");
    check_lines(&s, "# TYPE myserver_requests_total counter\nmyserver_requests_total 4\n",
                "a.b.requests:1|c\n");
    forget(&s);
}

static void test_gauges_labels_and_histograms(void **state)
{
    (void)state;
    struct statsd s;
    statsd_begin(&s, "localhost", "");
    check_lines(&s,
                "# HELP myserver_threads What.\n# TYPE myserver_threads gauge\n"
                "myserver_threads{state=\"busy\"} 3\nmyserver_threads{state=\"idle\"} 0\n"
                "myserver_queue{listener=\"127.0.0.1:80\\\"}\",x=\"\xc3\xa9\"} 1.5",
                "threads.busy:3|g\nthreads.idle:0|g\nqueue.127_0_0_1_80___.__:1.5|g\n");
    check_lines(&s,
                "# TYPE myserver_d histogram\nmyserver_d_bucket{le=\"0.1\"} 1\n"
                "myserver_d_sum 0.25\nmyserver_d_count 2\n",
                "d_bucket.0_1:1|c\nd_sum:0.25|c\nd_count:2|c\n");
    forget(&s);
}

static void test_addresses(void **state)
{
    static const char *const right[] = {"localhost", "localhost:8125", "10.0.0.1:1",
                                        "[::1]",     "[::1]:8125",     "unix:/run/statsd"};
    static const char *const wrong[] = {"",    ":8125", "a:",      "a:b",    "a:65536",
                                        "::1", "[::1",  "[]:8125", "[::1]x", "unix:"};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(right); i++)
        assert_null(statsd_check(right[i]));
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        char *sentence = statsd_check(wrong[i]);
        if (!sentence)
            fail_msg("%s", wrong[i]);
        free(sentence);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counters_are_sent_by_what_was_added),
        cmocka_unit_test(test_gauges_labels_and_histograms),
        cmocka_unit_test(test_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
