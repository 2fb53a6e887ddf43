/* exchange.h: what a request needs beyond its connection. Exchanges are pooled; an idle connection
 * has none. */
#ifndef MYSERVER_EXCHANGE_H
#define MYSERVER_EXCHANGE_H

#include "base/base.h"
#include "http/forwarded.h"
#include "http/request.h"
#include "http/response.h"
#include "python/wsgi.h"
#include "worker/output.h"

#include <stdbool.h>
#include <time.h>

struct conn;
struct conn_shared;

/* One request and its answer. Belongs to the connection that has taken it, else to the pool. */
struct exchange {
    struct exchange *next_free;
    unsigned freed_tick; /* value of conn_shared.ticks when it was put back */
    struct http http;
    struct response response;
    struct wsgi_call call;
    struct environ_facts facts;
    char client[FORWARDED_ADDRESS_MAX]; /* REMOTE_ADDR */
    bool resolved;                      /* `facts` and `client` are filled */
    bool continued;                     /* 100 Continue was sent */
    bool aborted; /* the answer cannot be completed: close so that the client can see it */
    /* conn_answer_for has answered, logged and counted it; the thread's own answer is discarded */
    bool answered;
    const char *end; /* reason of a bad end, for the logs; static text; NULL: none */
    bool paced;      /* the body's deadline is set; paced_bytes is its length at that moment */
    uint64_t paced_bytes;
    struct timespec start_time; /* wall clock, for the access log */
    uint64_t accepted_ns, parsed_ns, started_ns, first_byte_ns;

    struct output output;
    size_t held_bytes; /* its part of conn_shared.held_bytes while the loop sends it */
    /* its part of held_memory_bytes: also what is sent already but cannot be freed separately */
    size_t held_memory_bytes;
    struct _object *tail_object; /* owned; keeps output.tail alive */
};

/* After OUTPUT_GONE: marks the answer as one that cannot be completed, and notes and logs why.
 * Called by the owner of the connection. */
void exchange_break_off(struct exchange *e);
/* Takes the exchange that was put back last, or makes a new one. The caller owns it. Any thread. */
struct exchange *exchange_take(struct conn_shared *shared);
/* Puts the connection's exchange, which must be reset, back into the pool. Called by the owner of
 * the connection. */
void exchange_put(struct conn *c);
/* Forgets the request and its answer, but keeps pipelined bytes that follow the request. */
void exchange_reset(struct conn *c);
/* Resets the exchange of the connection, if it has one, drops its pipelined bytes, and puts it
 * back. */
void exchange_drop(struct conn *c);
/* Closes the files that free exchanges keep for the next large body, because they use disk space.
 * Leader. */
void exchange_shed_files(struct conn_shared *shared);
/* Frees all exchanges in the pool. At the end, when no connection has an exchange. */
void exchange_free_all(struct conn_shared *shared);
/* Adds `allocations`, each about as large as a connection, to those freed since the last trim. */
void exchange_note_freed(struct conn_shared *shared, unsigned allocations);
/* Leader, every tick: gives memory back to the system when a flood of requests is over. */
void exchange_trim(struct conn_shared *shared);

#endif
