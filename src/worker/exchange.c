/* exchange.c: what a request needs beyond its connection, pooled.
 *
 * Owns: the free exchanges of a worker, under conn_shared.free_lock. An idle connection has none,
 * so that it stays small. What a flood of requests has allocated is given back to the system when
 * the flood is over. */
#include "worker/exchange.h"
#include "base/log.h"
#include "worker/conn.h"
#include "worker/pool.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

/* Free exchanges that are kept: except in a flood, a worker does not use more at once. */
#define EXCHANGES_KEPT  16
/* Ticks without use after which a free exchange closes the file it keeps for large bodies. */
#define SHED_TICKS      10
/* Freed allocations that count as a flood. A large answer that was held for a slow client counts
 * once for each HELD_PART_BYTES. */
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

/* Last in, first out, so that the same few exchanges are used again and stay in the CPU cache. */
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

void exchange_reset(struct conn *c)
{
    struct exchange *e = c->exchange;
    if (e->tail_object)
        pool_discard(c->shared->pool, e->tail_object);
    e->tail_object = NULL;
    if (e->held_bytes > 0) { /* only while the leader owns the connection */
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
    buf_reset(&c->exchange->http.in); /* pipelined requests, which will not be answered */
    http_reset(&c->exchange->http);   /* also shrinks the buffer, now that it is empty */
    exchange_put(c);
}

void exchange_note_freed(struct conn_shared *shared, unsigned allocations)
{
    pthread_mutex_lock(&shared->free_lock);
    shared->given_back += allocations;
    pthread_mutex_unlock(&shared->free_lock);
}

/* Closes the kept files of exchanges that have been free for at least `unused_ticks`. */
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

/* A flood is over when one tick passes in which nothing more was freed. malloc keeps freed memory
 * that lies below anything still in use: without malloc_trim, 5,000 half heads left 50 MB
 * behind. */
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
