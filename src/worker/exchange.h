/* exchange.h: what a request needs beyond its connection. Exchanges are pooled; an idle connection
 * has none. */
#ifndef MYSERVER_WORKER_EXCHANGE_H
#define MYSERVER_WORKER_EXCHANGE_H

#include "base/base.h"
#include "http/forwarded.h"
#include "http/parse.h"
#include "http/response.h"
#include "http/trace.h"
#include "output.h"
#include "python/costs.h"
#include "python/wsgi.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

struct trash;

/* One request and its answer. Belongs to the connection that has taken it, else to the pool. */
struct exchange {
    struct exchange *next_free;
    unsigned freed_tick; /* value of exchanges.ticks when it was put back */
    struct request request;
    struct parser *parser; /* owned; fills `request` */
    struct response response;
    struct wsgi_call call;
    struct environ_facts facts;
    char client[FORWARDED_ADDRESS_MAX]; /* REMOTE_ADDR */
    bool resolved;                      /* `facts` and `client` are filled */
    bool continued;                     /* 100 Continue was sent */
    bool aborted; /* the answer cannot be completed: close so that the client can see it */
    /* Status with which reply_instead has answered it; logged and counted, and the thread's own
     * answer is discarded. 0: it has not. */
    unsigned instead;
    const char *end; /* reason of a bad end, for the logs; static text; NULL: none */
    bool paced;      /* the body's deadline is set; paced_bytes is its length at that moment */
    uint64_t paced_bytes;
    uint64_t awaits_ms; /* since when all that the body misses is awaited in the kernel; 0: not */
    bool is_slow;       /* it does not come at once: what comes is read */
    size_t arrived;     /* in the kernel when the wait ended, and not read yet */
    struct timespec start_time; /* wall clock, for the access log */
    uint64_t accepted_ns, parsed_ns, started_ns, first_byte_ns, done_ns;
    uint64_t waited_ns;    /* it waited for so long before it was read; a part of accepted_ns */
    struct trace trace;    /* that it belongs to, while it is observed */
    struct costs costs;    /* where the time of its thread went */
    uint32_t pages;        /* that its thread was given (pages.h) */
    uint64_t pages_before; /* 0: that is not looked at */

    struct output output;
    size_t held_bytes; /* its part of held.bytes while the loop sends it */
    /* its part of held.memory_bytes: also what is sent already but cannot be freed separately */
    size_t held_memory_bytes;
    struct _object *tail_object;    /* owned; keeps output.tail alive */
    struct wsgi_unclosed *unclosed; /* owned; the response whose file is being sent; NULL: none */
};

/* All exchanges of a worker that no connection has. */
struct exchanges {
    const struct http_limits *limits; /* borrowed, as `trash` */
    struct trash *trash;
    struct spill_budget spills;
    _Atomic unsigned sent_descriptors; /* of files that are being sent to slow clients, of the
                                        * responses that own them, and of spilled answers */
    pthread_mutex_t lock;              /* protects the fields below, except given_back_before */
    struct exchange *free;
    unsigned free_count;
    unsigned ticks;             /* how often exchange_trim was called */
    unsigned given_back;        /* allocations freed since memory was trimmed */
    unsigned given_back_before; /* leader: given_back at the tick before */
};

/* Borrows both. `all` is zeroed; its `spills` are set by the caller. */
void exchange_init(struct exchanges *all, const struct http_limits *limits, struct trash *trash);
/* After OUTPUT_GONE: marks the answer as one that cannot be completed, and notes and logs why.
 * Called by its owner, as all functions on one exchange. */
void exchange_break_off(struct exchange *e);
/* Takes the exchange that was put back last, or makes a new one. The caller owns it. Any thread. */
struct exchange *exchange_take(struct exchanges *all);
/* Puts back an exchange that is reset. Takes `e`. */
void exchange_put(struct exchanges *all, struct exchange *e);
/* Forgets the request and its answer, but keeps pipelined bytes that follow the request. Not while
 * it is counted in `held`. */
void exchange_reset(struct exchanges *all, struct exchange *e);
/* Resets the exchange, drops its pipelined bytes, and puts it back. Takes `e`. */
void exchange_drop(struct exchanges *all, struct exchange *e);
/* Closes the files that free exchanges keep for the next large body, because they use disk space.
 * Leader. */
void exchange_shed_files(struct exchanges *all);
/* Frees all that are free. At the end, when no connection has an exchange. */
void exchange_free_all(struct exchanges *all);
/* Adds `allocations`, each about as large as a connection, to those freed since the last trim. */
void exchange_note_freed(struct exchanges *all, unsigned allocations);
/* Leader, every tick: gives memory back to the system when a flood of requests is over. */
void exchange_trim(struct exchanges *all);

#endif
