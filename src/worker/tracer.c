/* tracer.c: traces the memory of the worker for a while.
 *
 * Owns the thread and its time: it ends the trace by itself, when the time is over, when nobody
 * says any more that it is wanted, and when the worker is told to stop. What is traced, and how,
 * python/growth.h knows. */
#include "tracer.h"

#include "base/log.h"
#include "leads.h"
#include "python/errand.h"
#include "python/growth.h"
#include "python/python.h"
#include "shared/board.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How long it may go on when nobody wants it any more. */
#define LOOK_NS (100 * NS_PER_MS)

static struct {
    struct growth *growth;
    unsigned slot;
    uint64_t number; /* of the trace */
    pthread_t thread;
    bool started;       /* and not joined */
    _Atomic bool ended; /* it can be joined at once */
    _Atomic bool stopping;
    sem_t wake;
} tracer;

/* Waits until `due_ns`. NULL, or why the trace ends before. */
static const char *wait_until(uint64_t due_ns)
{
    for (;;) {
        uint64_t now = now_ns();
        if (atomic_load(&tracer.stopping))
            return "it was told to stop, for a reload, for recycling or with the server";
        if (atomic_load(&tracer.growth->wanted_until_ns) < now)
            return "nobody has asked for it any more";
        if (now >= due_ns)
            return NULL;
        (void)errand_wait(&tracer.wake, now + LOOK_NS < due_ns ? now + LOOK_NS : due_ns);
    }
}

/* Takes `wrong`. True: it is NULL. */
static bool is_well(char *wrong)
{
    if (!wrong)
        return true;
    growth_fail(tracer.growth, tracer.number, "%s", wrong);
    free(wrong);
    return false;
}

static bool has_waited_until(uint64_t due_ns)
{
    const char *why = wait_until(due_ns);
    if (why)
        growth_fail(tracer.growth, tracer.number, "%s", why);
    return !why;
}

static void trace(void)
{
    struct growth *growth = tracer.growth;
    struct buf result = {0};
    uint64_t begin_ns = now_ns(), lasts_ns = atomic_load(&growth->lasts_ns);
    if (has_waited_until(begin_ns + lasts_ns / 2) && is_well(growth_mark()) &&
        has_waited_until(begin_ns + lasts_ns) &&
        is_well(growth_result(&result, growth->type, growth->pages)))
        growth_finish(growth, tracer.number, (struct text){result.data, result.len});
    buf_fini(&result);
}

static void *tracer_main(void *arg)
{
    (void)arg;
    pthread_setname_np(pthread_self(), "tracer");
    if (is_well(growth_begin())) {
        log_info("the memory of this worker is traced for %llu s: it serves slower meanwhile",
                 (unsigned long long)(atomic_load(&tracer.growth->lasts_ns) / NS_PER_S));
        trace();
        growth_stop();
        log_info("the memory of this worker is no longer traced");
    }
    atomic_store(&tracer.ended, true);
    return NULL;
}

static void start(void)
{
    sigset_t all, before;
    sem_init(&tracer.wake, 0, 0);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* no handler of the application runs on it */
    int error = pthread_create(&tracer.thread, NULL, tracer_main, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    tracer.started = !error;
    if (error)
        growth_fail(tracer.growth, tracer.number, "a thread cannot be started: %s",
                    strerror(error));
}

void tracer_begin(struct board *board, unsigned slot)
{
    memset(&tracer, 0, sizeof tracer); /* left over from a mold that was a worker */
    tracer.growth = board->growth;
    tracer.slot = slot;
}

void tracer_look(void)
{
    assert_leads();
    if (tracer.started && atomic_load(&tracer.ended)) {
        pthread_join(tracer.thread, NULL);
        tracer.started = false;
        atomic_store(&tracer.ended, false);
    }
    if (tracer.started)
        return;
    tracer.number = growth_take(tracer.growth, tracer.slot, getpid());
    if (tracer.number)
        start();
}

void tracer_stop(void)
{
    atomic_store(&tracer.stopping, true);
    if (tracer.started)
        sem_post(&tracer.wake);
}

void tracer_join(void)
{
    if (!tracer.started)
        return;
    struct python_thread caller;
    python_thread_adopt(&caller);
    pthread_join(tracer.thread, NULL);
    python_acquire(&caller);
    tracer.started = false;
}
