/* ending.c: how a process with Python ends.
 *
 * Owns: the thread that cuts an end which takes too long. It counts only time in which the process
 * was running. */
#include "python/ending.h"
#include "base/log.h"
#include "python/errand.h"
#include "python/python.h"
#include "shared/board.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define SLICE_NS (100 * NS_PER_MS)

static struct {
    atomic_flag is_bound;
    enum exit_status status;
    uint64_t left_ns;
} ending = {.is_bound = ATOMIC_FLAG_INIT};

static void append_thread_name(struct buf *out, unsigned long ident)
{
    buf_printf(out, "thread 0x%lx", ident);
}

static void *cut_main(void *arg)
{
    (void)arg;
    for (uint64_t slice; ending.left_ns > 0; ending.left_ns -= slice) {
        slice = ending.left_ns < SLICE_NS ? ending.left_ns : SLICE_NS;
        nanosleep(&(struct timespec){.tv_nsec = (long)slice}, NULL);
    }
    struct buf text = {0};
    struct errand *e = errand_new(0);
    errand_send(e);
    errand_append_stacks(&text, &e->stacks, append_thread_name);
    log_block(LOG_WARNING, text.data, text.len, "did not finish in time: leaving%s",
              text.len > 0 ? " in the middle of this" : "");
    _exit((int)ending.status);
}

void ending_bound(enum exit_status status, uint64_t due_ns)
{
    uint64_t now = now_ns(), least_ns = now + BOARD_END_LEAST_MS * NS_PER_MS;
    pthread_t thread;
    sigset_t all, before;
    if (atomic_flag_test_and_set(&ending.is_bound))
        return;
    ending.status = status;
    ending.left_ns = (due_ns > least_ns ? due_ns : least_ns) - now;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* no handler of the application runs on it */
    int error = pthread_create(&thread, NULL, cut_main, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) /* then the master ends it */
        log_warning("no thread can be started to bound the end");
}

static void leave_at_once(int number)
{
    (void)number;
    _exit(EXIT_OK);
}

void ending_leave(enum exit_status status, uint64_t due_ns, const char *reason)
{
    signal(SIGQUIT, leave_at_once);
    ending_bound(status, due_ns);
    python_end(reason);
    (void)fflush(stdout); /* of extension modules written in C */
    log_info("stopped");
    _exit((int)status);
}
