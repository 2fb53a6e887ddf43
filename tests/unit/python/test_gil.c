/* The wait for the GIL: what of all timed waits is counted, and that all of them still work. */
#include <Python.h>

#include "launcher/timedwait.c"
#include "python/gil.c"

#include "system/launch.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define LIMIT_NS (30 * NS_PER_S) /* a wait that should be woken, and is not */

#ifndef __SANITIZE_THREAD__

/* A condition variable between bytes that nobody may write to: an old version of the function takes
 * it for something else. */
struct guarded {
    unsigned char before[64];
    pthread_cond_t cond;
    unsigned char after[64];
    pthread_mutex_t mutex;
    clockid_t clock;
    bool woken;
};

static void guarded_init(struct guarded *g, clockid_t clock)
{
    pthread_condattr_t attributes;
    memset(g, 0xa5, sizeof(*g));
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, clock);
    assert_int_equal(pthread_cond_init(&g->cond, &attributes), 0);
    pthread_condattr_destroy(&attributes);
    assert_int_equal(pthread_mutex_init(&g->mutex, NULL), 0);
    g->clock = clock;
    g->woken = false;
}

static void guarded_fini(struct guarded *g)
{
    for (size_t i = 0; i < sizeof(g->before); i++) {
        assert_int_equal(g->before[i], 0xa5);
        assert_int_equal(g->after[i], 0xa5);
    }
    assert_int_equal(pthread_cond_destroy(&g->cond), 0);
    assert_int_equal(pthread_mutex_destroy(&g->mutex), 0);
}

static struct timespec in_ns(clockid_t clock, uint64_t ns)
{
    struct timespec until;
    clock_gettime(clock, &until);
    ns += (uint64_t)until.tv_nsec;
    until.tv_sec += (time_t)(ns / NS_PER_S);
    until.tv_nsec = (long)(ns % NS_PER_S);
    return until;
}

static void *wake(void *arg)
{
    struct guarded *g = arg;
    pthread_mutex_lock(&g->mutex);
    g->woken = true;
    pthread_cond_signal(&g->cond);
    pthread_mutex_unlock(&g->mutex);
    return NULL;
}

/* With any clock: ends when its time is over and not before, and when it is woken. */
static void check_waits(launch_timedwait *wait, clockid_t clock)
{
    struct guarded g;
    pthread_t waker;
    guarded_init(&g, clock);
    pthread_mutex_lock(&g.mutex);
    struct timespec until = in_ns(clock, 50 * NS_PER_MS);
    uint64_t start_ns = now_ns();
    int result;
    while ((result = wait(&g.cond, &g.mutex, &until)) == 0) /* for no reason, which is allowed */
        ;
    assert_int_equal(result, ETIMEDOUT);
    assert_true(now_ns() - start_ns >= 45 * NS_PER_MS);

    until = in_ns(clock, LIMIT_NS);
    assert_int_equal(pthread_create(&waker, NULL, wake, &g), 0);
    while (!g.woken)
        assert_int_equal(wait(&g.cond, &g.mutex, &until), 0);
    pthread_mutex_unlock(&g.mutex);
    pthread_join(waker, NULL);
    guarded_fini(&g);
}

static void test_waits(void **state)
{
    (void)state;
    check_waits(pthread_cond_timedwait, CLOCK_REALTIME);
    check_waits(pthread_cond_timedwait, CLOCK_MONOTONIC);
}

/* Where the C library's function is not found. */
static void test_without_the_function(void **state)
{
    (void)state;
    assert_ptr_equal(look_up("myserver_no_such_function"), wait_by_guess);
    assert_ptr_not_equal(look_up("pthread_cond_timedwait"), wait_by_guess);
    check_waits(wait_by_guess, CLOCK_REALTIME);
    check_waits(wait_by_guess, CLOCK_MONOTONIC);
}

static void test_waits_of_others_do_not_count(void **state)
{
    (void)state;
    uint64_t before_ns = gil_waited_ns();
    gil_count_this_thread();
    check_waits(pthread_cond_timedwait, CLOCK_MONOTONIC);
    assert_int_equal(gil_waited_ns(), before_ns);
}

/* ---- Python ---- */

static _Atomic bool got;
static uint64_t waited_in_thread_ns;

static void *take_gil(void *arg)
{
    (void)arg;
    gil_count_this_thread();
    PyGILState_STATE gil = PyGILState_Ensure();
    got = true;
    waited_in_thread_ns = gil_waited_ns();
    PyGILState_Release(gil);
    return NULL;
}

static void test_the_wait_for_python_counts(void **state)
{
    (void)state;
    pthread_t thread;
    launch_begin(&(struct launch){.wait_hook = timedwait_hook});
    gil_measure(Py_Initialize);
    Py_InitializeEx(0);
    assert_int_equal(pthread_create(&thread, NULL, take_gil, NULL), 0);
    uint64_t give_up_ns = now_ns() + LIMIT_NS;
    while (!gil_is_wanted() && now_ns() < give_up_ns)
        ;
    assert_true(gil_is_wanted());
    uint64_t start_ns = now_ns();
    while (now_ns() < start_ns + 50 * NS_PER_MS)
        ;
    assert_false(got);
    Py_BEGIN_ALLOW_THREADS pthread_join(thread, NULL);
    Py_END_ALLOW_THREADS assert_true(got);
    assert_true(waited_in_thread_ns >= 45 * NS_PER_MS);
    assert_false(gil_is_wanted());

    /* Extensions are not Python, though Python calls them. */
    uint64_t before_ns = gil_waited_ns();
    check_waits(pthread_cond_timedwait, CLOCK_REALTIME);
    assert_int_equal(gil_waited_ns(), before_ns);
    Py_Finalize();
}

#endif

int main(void)
{
#ifndef __SANITIZE_THREAD__
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_waits),
        cmocka_unit_test(test_without_the_function),
        cmocka_unit_test(test_waits_of_others_do_not_count),
        cmocka_unit_test(test_the_wait_for_python_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
#else
    return 0; /* the sanitizer has a pthread_cond_timedwait of its own */
#endif
}
