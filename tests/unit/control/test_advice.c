/* From where on the rules about time speak, and what they say. */
#include "control/advice.c"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define S NS_PER_S

/* What was counted, on 4 CPUs in the last minute. */
struct row {
    const char *says; /* the names, each with a blank behind it; and a text that is said */
    const char *text;
    unsigned requests, workers, threads;
    uint64_t thread_ns, gil_ns, cpu_ns, database_ns, other_ns;
    uint64_t on_cpu_ns, delay_ns;
};

static const struct row rows[] = {
    /* too little to say anything */
    {"", "", 99, 1, 10, 0, 50 * S, 50 * S, 0, 0, 0, 0},
    {"", "", 100, 1, 10, 0, S / 2, S / 2, 0, 0, 0, 0},
    {"", "", 1000, 1, 10, 0, 19 * S, 81 * S, 0, 0, 0, 0},
    {"", "", 1000, 1, 1, 19 * S, 0, 81 * S, 0, 0, 0, 0},
    {"", "", 1000, 1, 10, 0, 0, 0, 50 * S, 50 * S, 0, 0},
    /* the interpreter */
    {"gil ", "raise workers, which is 1, up to the number of CPUs, which is 4", 1000, 1, 10, 0,
     20 * S, 80 * S, 0, 0, 0, 0},
    {"gil ", "as many workers (4) as CPUs (4)", 1000, 4, 10, 0, 20 * S, 80 * S, 0, 0, 0, 0},
    {"gil ", "threads that the application has started", 1000, 1, 1, 0, 20 * S, 80 * S, 0, 0, 0, 0},
    /* threads that compute */
    {"computing ", "computed for 60 % of it", 1000, 1, 4, 50 * S, 0, 30 * S, 20 * S, 0, 0, 0},
    {"gil computing ", "raise workers", 1000, 1, 4, 50 * S, 20 * S, 20 * S, 0, 0, 0, 0},
    /* threads that wait: ten requests at once, of which two run */
    {"waiting ", "Raise threads, which is 2: 10 would", 1000, 1, 2, 80 * S, 0, S, 10 * S, 9 * S, 0,
     0},
    /* what seems to wait for something wants a CPU */
    {"computing cpus ", "", 1000, 1, 2, 80 * S, 0, 4 * S, 0, 16 * S, 5 * S, 15 * S},
    /* CPUs */
    {"cpus ", "8 workers are too many for 4 CPUs: lower workers to 4", 1000, 8, 1, 0, 0, 50 * S, 0,
     0, 50 * S, 20 * S},
    {"cpus ", "not more workers (4) than CPUs (4)", 1000, 4, 1, 0, 0, 50 * S, 0, 0, 50 * S, 20 * S},
    {"", "", 1000, 8, 1, 0, 0, 50 * S, 0, 0, 50 * S, 10 * S},
    {"", "", 1000, 8, 1, 0, 0, S, 0, 0, S, S - 1},
};

static void look_at(const struct row *row, struct seen *seen)
{
    uint64_t *parts_ns = seen->window.parts_ns;
    *seen = (struct seen){.workers = row->workers, .threads = row->threads, .cpus = 4};
    parts_ns[LEDGER_THREAD] = row->thread_ns;
    parts_ns[LEDGER_GIL] = row->gil_ns;
    parts_ns[LEDGER_CPU] = row->cpu_ns;
    parts_ns[LEDGER_DATABASE] = row->database_ns;
    parts_ns[LEDGER_OTHER] = row->other_ns;
    seen->window.requests = row->requests;
    seen->window.cpu_ns = row->on_cpu_ns;
    seen->window.delay_ns = row->delay_ns;
    seen->threads_s = seconds(row->gil_ns + row->cpu_ns + row->database_ns + row->other_ns);
    write_period(seen->period, 60 * S);
}

static void test_rules_about_time(void **state)
{
    static void (*const judges[])(struct report *, const struct seen *) = {
        judge_gil, judge_computing, judge_waiting, judge_cpus};
    static const char *const names[] = {"gil ", "computing ", "waiting ", "cpus "};
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        static struct seen seen;
        struct buf out = {0}, said = {0};
        struct report report = {.out = &out, .first = true, .rule = ""};
        look_at(&rows[i], &seen);
        for (size_t k = 0; k < ARRAY_LEN(judges); k++) {
            size_t before = out.len;
            judges[k](&report, &seen);
            if (out.len > before)
                buf_append_str(&said, names[k]);
        }
        buf_append(&said, "", 1);
        buf_append(&out, "", 1);
        if (strcmp(said.data, rows[i].says) != 0 || !strstr(out.data, rows[i].text))
            fail_msg("row %zu: %s: %s", i, said.data, out.data);
        buf_fini(&said);
        buf_fini(&out);
    }
}

static void test_periods(void **state)
{
    static const struct {
        uint64_t ns;
        const char *text;
    } periods[] = {{0, "0.0 s"},           {9 * S, "9.0 s"},      {119 * S, "119 s"},
                   {120 * S, "2 min"},     {7199 * S, "120 min"}, {7200 * S, "2 h"},
                   {90 * 3600 * S, "90 h"}};
    char text[PERIOD_MAX];
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(periods); i++) {
        write_period(text, periods[i].ns);
        assert_string_equal(text, periods[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules_about_time),
        cmocka_unit_test(test_periods),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
