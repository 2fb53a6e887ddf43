/* exchange.c: what a request needs beyond its connection, pooled.
 *
 * Owns: the free exchanges of a worker, under their lock. Idle connections have none, so that they
 * stay small; what a flood of requests took is given back to the system when it is over. */
#include "exchange.h"
#include "conn.h"
#include "log.h"
#include "pool.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

/* More than a worker has in use at once but in a flood, whose memory is given back. */
#define EXCHANGES_KEPT  16
/* Ticks after which the file of a large body is closed. */
#define SHED_TICKS      10
/* As many as make a flood; a large answer that was held counts for each part of it. */
#define FLOOD_CONNS     256
#define HELD_PART_BYTES (128 * 1024)

struct exchange *exchange_take(struct conn_shared *shared)
{
    pthread_mutex_lock(&shared->free_lock);
    struct exchange *e = shared->free_exchanges;
    if (e) {
        shared->free_exchanges = e->next_free;
        shared->free_count--;
    }
    pthread_mutex_unlock(&shared->free_lock);
    if (e)
        return e;
    e = xcalloc(1, sizeof(*e));
    http_init(&e->http, &shared->limits);
    output_init(&e->output, &shared->sent_files);
    return e;
}

void exchange_break_off(struct exchange *e)
{
    int error = e->output.file_error;
    e->aborted = true;
    e->end = error ? "file failed" : "client closed";
    if (error)
        log_error("%.*s: the file that was being sent %s%s", (int)e->http.path.length,
                  http_at(&e->http, e->http.path),
                  error == ENODATA ? "became shorter" : "cannot be read: ",
                  error == ENODATA ? "" : strerror(error));
}

static void free_exchange(struct conn_shared *shared, struct exchange *e)
{
    if (e->call.start_response)
        pool_discard(shared->pool, e->call.start_response);
    if (e->call.writer)
        pool_discard(shared->pool, e->call.writer);
    http_fini(&e->http);
    response_fini(&e->response);
    output_fini(&e->output);
    free(e);
}

void exchange_free_all(struct conn_shared *shared)
{
    while (shared->free_exchanges) {
        struct exchange *e = shared->free_exchanges;
        shared->free_exchanges = e->next_free;
        free_exchange(shared, e);
    }
}

/* Last-in first-out, so that few of them are warm in the cache and used by all. */
void exchange_put(struct conn *c)
{
    struct conn_shared *shared = c->shared;
    struct exchange *e = c->exchange;
    c->exchange = NULL;
    pthread_mutex_lock(&shared->free_lock);
    bool keep = shared->free_count < EXCHANGES_KEPT;
    if (keep) {
        e->next_free = shared->free_exchanges;
        e->freed_tick = shared->ticks;
        shared->free_exchanges = e;
        shared->free_count++;
    } else {
        shared->given_back++;
    }
    pthread_mutex_unlock(&shared->free_lock);
    if (!keep)
        free_exchange(shared, e);
}

/* Forgets the request; what is pipelined behind it stays. */
void exchange_reset(struct conn *c)
{
    struct exchange *e = c->exchange;
    if (e->tail_object)
        pool_discard(c->shared->pool, e->tail_object);
    e->tail_object = NULL;
    if (e->held_bytes > 0) { /* then the leader has it */
        c->shared->held_bytes -= e->held_bytes;
        c->shared->held_memory_bytes -= e->held_memory_bytes;
        exchange_note_freed(c->shared, (unsigned)(e->held_bytes / HELD_PART_BYTES));
    }
    e->held_bytes = 0;
    http_reset(&e->http);
    response_reset(&e->response);
    output_reset(&e->output);
    e->resolved = e->continued = e->aborted = e->answered = e->paced = false;
    e->end = NULL;
    e->accepted_ns = e->parsed_ns = e->started_ns = e->first_byte_ns = 0;
}

void exchange_drop(struct conn *c)
{
    if (!c->exchange)
        return;
    exchange_reset(c);
    buf_reset(&c->exchange->http.in); /* pipelined bytes that nobody will answer */
    http_reset(&c->exchange->http);   /* and their memory */
    exchange_put(c);
}

void exchange_note_freed(struct conn_shared *shared, unsigned allocations)
{
    pthread_mutex_lock(&shared->free_lock);
    shared->given_back += allocations;
    pthread_mutex_unlock(&shared->free_lock);
}

/* Of those that nobody has used for so many ticks. */
static void shed_files(struct conn_shared *shared, unsigned unused_ticks)
{
    pthread_mutex_lock(&shared->free_lock);
    for (struct exchange *e = shared->free_exchanges; e; e = e->next_free)
        if (shared->ticks - e->freed_tick >= unused_ticks)
            body_shed(&e->http.body);
    pthread_mutex_unlock(&shared->free_lock);
}

void exchange_shed_files(struct conn_shared *shared)
{
    shed_files(shared, 0);
}

/* When a flood is over. malloc keeps what was freed below anything that is still in use: 5,000
 * half heads left 50 MB behind. */
void exchange_trim(struct conn_shared *shared)
{
    shed_files(shared, SHED_TICKS);
    pthread_mutex_lock(&shared->free_lock);
    shared->ticks++;
    bool over =
        shared->given_back >= FLOOD_CONNS && shared->given_back == shared->given_back_before;
    if (over)
        shared->given_back = 0;
    shared->given_back_before = shared->given_back;
    pthread_mutex_unlock(&shared->free_lock);
    if (over)
        malloc_trim(0);
}
