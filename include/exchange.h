/* exchange.h: what a request needs beyond its connection. Pooled: idle connections have none. */
#ifndef MYSERVER_EXCHANGE_H
#define MYSERVER_EXCHANGE_H

#include "base.h"
#include "forwarded.h"
#include "http.h"
#include "output.h"
#include "response.h"
#include "wsgi.h"

#include <stdbool.h>
#include <time.h>

struct conn;
struct conn_shared;

/* What a request needs beyond its connection. Pooled: idle connections have none. */
struct exchange {
    struct exchange *next_free;
    unsigned freed_tick; /* when it became free, in conn_shared.ticks */
    struct http http;
    struct response response;
    struct wsgi_call call;
    struct environ_facts facts;
    char client[FORWARDED_ADDRESS_MAX]; /* REMOTE_ADDR */
    bool resolved;                      /* `facts` and `client` are filled */
    bool continued;                     /* 100 Continue was sent */
    bool aborted;                       /* the answer cannot be completed: close so that it shows */
    bool answered;   /* by conn_answer_for: logged and counted, the thread's answer is not wanted */
    const char *end; /* how it ended when not well, static text */
    bool paced;      /* the body's deadline is set; since then it has grown from: */
    uint64_t paced_bytes;
    struct timespec start_time; /* wall clock, for the access log */
    uint64_t accepted_ns, parsed_ns, started_ns, first_byte_ns;

    struct output output;
    size_t held_bytes;           /* counted in conn_shared while the loop sends it */
    size_t held_memory_bytes;    /* the same, with what was sent and cannot be freed alone */
    struct _object *tail_object; /* keeps output.tail alive */
};

/* After OUTPUT_GONE: the answer cannot be completed, and why. Whoever owns the connection. */
void exchange_break_off(struct exchange *e);
/* From the free ones, last in first out; or new. */
struct exchange *exchange_take(struct conn_shared *shared);
/* Gives the connection's back; it must be reset. Whoever owns the connection. */
void exchange_put(struct conn *c);
/* Forgets the request; what is pipelined behind it stays. */
void exchange_reset(struct conn *c);
/* Forgets all and gives it back, if there is one. */
void exchange_drop(struct conn *c);
/* Closes the files that are kept for large bodies: they fill the disk. Leader. */
void exchange_shed_files(struct conn_shared *shared);
/* At the end: all that are kept. Nobody has one any more. */
void exchange_free_all(struct conn_shared *shared);
/* So many more allocations of the size of a connection's were freed. */
void exchange_note_freed(struct conn_shared *shared, unsigned allocations);
/* When a flood is over, its memory goes back to the system. Leader, every tick. */
void exchange_trim(struct conn_shared *shared);

#endif
