/* errand.h: what is done in the interpreter for a thread that must not wait for the GIL. */
#ifndef MYSERVER_PYTHON_ERRAND_H
#define MYSERVER_PYTHON_ERRAND_H

#include "base/base.h"
#include "base/buf.h"

#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>

struct python_thread;

/* A thread of its own dumps the stacks of all Python threads and interrupts `targets`, as soon as
 * it gets the GIL. */
struct errand {
    _Atomic int holders; /* the sender and the errand's thread; the last to leave frees it */
    _Atomic int stage;
    sem_t done;
    struct buf stacks; /* as faulthandler writes them */
    unsigned count;
    struct {
        struct python_thread *thread; /* borrowed, until the process ends */
        uint64_t number;              /* of the request to interrupt */
    } targets[];
};

/* With room for so many targets, which the caller fills in. Leave it with errand_leave. */
struct errand *errand_new(unsigned room);
/* Starts the thread and waits for it. Afterwards e->stacks is filled, unless no thread could be
 * started. When the GIL is not free within 0.2 s, the caller's thread dumps the stacks itself, and
 * the interruption follows whenever the errand gets the GIL. One errand at a time. GIL not held. */
void errand_send(struct errand *e);
void errand_leave(struct errand *e);

/* Writes the name of the thread with this pthread_t. */
typedef void errand_name(struct buf *out, unsigned long ident);
/* Appends the stacks with the names of their threads, without threads that run no Python. Uses up
 * `stacks`. */
void errand_append_stacks(struct buf *out, struct buf *stacks, errand_name *name);

/* Waits until `due_ns` (now_ns); false when that came first. */
bool errand_wait(sem_t *semaphore, uint64_t due_ns);

#endif
