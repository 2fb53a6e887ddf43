/* errand.c: what is done in the interpreter for a thread that must not wait for the GIL.
 *
 * Owns: an errand, until its sender and its thread have left it. */
#include "python/errand.h"
#include "python/python.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define GIL_PATIENCE_NS (200 * NS_PER_MS) /* 40 switch intervals; after that C code holds it */

enum errand_stage {
    ERRAND_SENT,
    ERRAND_DUMPING, /* the errand's thread or the sender dumps the stacks, or has done so */
    ERRAND_DONE,
};

void errand_leave(struct errand *e)
{
    if (atomic_fetch_sub(&e->holders, 1) > 1)
        return;
    buf_fini(&e->stacks);
    sem_destroy(&e->done);
    free(e);
}

static bool may_dump(struct errand *e)
{
    int sent = ERRAND_SENT;
    return atomic_compare_exchange_strong(&e->stage, &sent, ERRAND_DUMPING);
}

static void run_errand(void *context)
{
    struct errand *e = context;
    if (may_dump(e))
        python_dump_stacks(&e->stacks);
    for (unsigned i = 0; i < e->count; i++)
        python_interrupt(e->targets[i].thread, e->targets[i].number);
}

static void *errand_main(void *arg)
{
    struct errand *e = arg;
    python_visit(run_errand, e);
    atomic_store(&e->stage, ERRAND_DONE);
    sem_post(&e->done);
    errand_leave(e);
    return NULL;
}

struct errand *errand_new(unsigned room)
{
    struct errand *e = xcalloc(1, sizeof(*e) + room * sizeof(e->targets[0]));
    atomic_init(&e->holders, 1);
    sem_init(&e->done, 0, 0);
    return e;
}

bool errand_wait(sem_t *semaphore, uint64_t due_ns)
{
    struct timespec until = {(time_t)(due_ns / NS_PER_S), (long)(due_ns % NS_PER_S)};
    int failed;
    do
        failed = sem_clockwait(semaphore, CLOCK_MONOTONIC, &until);
    while (failed && errno == EINTR);
    return !failed;
}

void errand_send(struct errand *e)
{
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    atomic_fetch_add(&e->holders, 1);
    bool sent = pthread_create(&thread, &attributes, errand_main, e) == 0;
    pthread_attr_destroy(&attributes);
    if (!sent) {
        atomic_fetch_sub(&e->holders, 1);
        return;
    }
    (void)errand_wait(&e->done, now_ns() + GIL_PATIENCE_NS);
    /* C code holds the GIL, so no Python stack changes while it is read. */
    if (may_dump(e)) {
        python_dump_stacks(&e->stacks);
        return;
    }
    while (atomic_load(&e->stage) != ERRAND_DONE)
        (void)errand_wait(&e->done, UINT64_MAX / 2);
}

void errand_append_stacks(struct buf *out, struct buf *stacks, errand_name *name)
{
    char *rest, *header = NULL;
    buf_append(stacks, "", 1);
    for (char *line = strtok_r(stacks->data, "\n", &rest); line;
         line = strtok_r(NULL, "\n", &rest)) {
        if (line[0] != ' ') {
            header = strstr(line, "hread 0x") ? line : NULL;
            continue;
        }
        if (strstr(line, "<no Python frame>"))
            continue;
        if (header) {
            name(out, strtoul(strstr(header, "0x"), NULL, 16));
            buf_append_str(out, ", most recent call first:\n");
        }
        header = NULL;
        buf_printf(out, "%s\n", line);
    }
}
