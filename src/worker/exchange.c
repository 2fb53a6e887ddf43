/* exchange.c: what a request needs beyond its connection, pooled.
 *
 * Owns: the free exchanges of a worker, under their lock. An idle connection has none,
 * so that it stays small. What a flood of requests has allocated is given back to the system when
 * the flood is over. */
#include "exchange.h"
#include "base/blocks.h"
#include "base/log.h"
#include "leads.h"
#include "python/trash.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

/* Free exchanges that are kept: except in a flood, a worker does not use more at once. */
#define EXCHANGES_KEPT 16
/* Ticks without use after which a free exchange closes the file it keeps for large bodies, and
 * memory for these goes back to the system. */
#define SHED_TICKS     10
/* Freed allocations that count as a flood. */
#define FLOOD_CONNS    256

void exchange_init(struct exchanges *all, const struct http_limits *limits, struct trash *trash)
{
    all->limits = limits;
    all->trash = trash;
    pthread_mutex_init(&all->lock, NULL);
}

struct exchange *exchange_take(struct exchanges *all)
{
    pthread_mutex_lock(&all->lock);
    struct exchange *e = all->free;
    if (e) {
        all->free = e->next_free;
        all->free_count--;
    }
    pthread_mutex_unlock(&all->lock);
    if (e)
        return e;
    e = xcalloc(1, sizeof(*e));
    e->parser = parser_new(&e->request, all->limits);
    output_init(&e->output, &all->sent_descriptors, &all->spills);
    return e;
}

void exchange_break_off(struct exchange *e)
{
    int error = e->output.file_error;
    e->aborted = true;
    e->end = error ? "file failed" : "client closed";
    if (error)
        log_error("%.*s: the file that was being sent %s%s", (int)e->request.path.length,
                  request_at(&e->request, e->request.path),
                  error == ENODATA ? "became shorter" : "cannot be read: ",
                  error == ENODATA ? "" : strerror(error));
}

static void free_exchange(struct exchanges *all, struct exchange *e)
{
    if (e->call.start_response)
        trash_discard(all->trash, e->call.start_response);
    if (e->call.writer)
        trash_discard(all->trash, e->call.writer);
    parser_free(e->parser);
    response_fini(&e->response);
    output_fini(&e->output);
    free(e);
}

void exchange_free_all(struct exchanges *all)
{
    while (all->free) {
        struct exchange *e = all->free;
        all->free = e->next_free;
        free_exchange(all, e);
    }
    blocks_trim(0);
}

/* Last in, first out, so that the same few exchanges are used again and stay in the CPU cache. */
void exchange_put(struct exchanges *all, struct exchange *e)
{
    pthread_mutex_lock(&all->lock);
    bool keep = all->free_count < EXCHANGES_KEPT;
    if (keep) {
        e->next_free = all->free;
        e->freed_tick = all->ticks;
        all->free = e;
        all->free_count++;
    } else {
        all->given_back++;
    }
    pthread_mutex_unlock(&all->lock);
    if (!keep)
        free_exchange(all, e);
}

void exchange_reset(struct exchanges *all, struct exchange *e)
{
    assert(e->held_bytes == 0);
    if (e->tail_object)
        trash_discard(all->trash, e->tail_object);
    e->tail_object = NULL;
    if (e->unclosed) {
        atomic_fetch_sub_explicit(&all->sent_descriptors, 1, memory_order_relaxed);
        trash_add_unclosed(all->trash, e->unclosed);
    }
    e->unclosed = NULL;
    parser_reset(e->parser);
    response_reset(&e->response);
    output_reset(&e->output);
    e->resolved = e->continued = e->aborted = e->paced = e->is_slow = false;
    e->awaits_ms = 0;
    e->arrived = 0;
    e->call.head_sent = e->call.taken = false;
    e->end = NULL;
    e->accepted_ns = e->parsed_ns = e->started_ns = e->first_byte_ns = e->done_ns = 0;
    e->waited_ns = e->pages_before = 0;
    e->instead = 0;
    e->costs = (struct costs){0};
    e->trace = (struct trace){0};
}

void exchange_drop(struct exchanges *all, struct exchange *e)
{
    exchange_reset(all, e);
    buf_reset(&e->request.in); /* pipelined requests, which will not be answered */
    parser_reset(e->parser);   /* also shrinks the buffer, now that it is empty */
    exchange_put(all, e);
}

void exchange_note_freed(struct exchanges *all, unsigned allocations)
{
    pthread_mutex_lock(&all->lock);
    all->given_back += allocations;
    pthread_mutex_unlock(&all->lock);
}

/* Closes the kept files of exchanges that have been free for at least `unused_ticks`. */
static void shed_files(struct exchanges *all, unsigned unused_ticks)
{
    pthread_mutex_lock(&all->lock);
    for (struct exchange *e = all->free; e; e = e->next_free)
        if (all->ticks - e->freed_tick >= unused_ticks)
            body_shed(&e->request.body);
    pthread_mutex_unlock(&all->lock);
}

void exchange_shed_files(struct exchanges *all)
{
    assert_leads();
    shed_files(all, 0);
}

/* A flood is over when one tick passes in which nothing more was freed. malloc keeps freed memory
 * that lies below anything still in use: without malloc_trim, 5,000 half heads left 50 MB
 * behind. */
void exchange_trim(struct exchanges *all)
{
    assert_leads();
    shed_files(all, SHED_TICKS);
    blocks_trim(SHED_TICKS);
    pthread_mutex_lock(&all->lock);
    all->ticks++;
    bool over = all->given_back >= FLOOD_CONNS && all->given_back == all->given_back_before;
    if (over)
        all->given_back = 0;
    all->given_back_before = all->given_back;
    pthread_mutex_unlock(&all->lock);
    if (over)
        malloc_trim(0);
}
