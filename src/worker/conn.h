/* conn.h: one connection: the only place that sees both the client and the application.
 *
 * `owner` says who may touch a connection. CONN_LOOP: the thread that leads the loop. CONN_THREAD:
 * the thread that runs its request. When bytes come meanwhile, the leader only turns CONN_THREAD
 * into CONN_NOTED and stops the reader. The watchers are always the leader's. */
#ifndef MYSERVER_WORKER_CONN_H
#define MYSERVER_WORKER_CONN_H

#include "base/base.h"
#include "exchange.h"
#include "held.h"
#include "http/parse.h"
#include "http/response.h"
#include "output.h"
#include "python/wsgi.h"
#include "serving.h"

#include <ev.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/queue.h>

TAILQ_HEAD(conn_queue, conn);

enum conn_state {
    CONN_IDLE,      /* no byte of a request has been read */
    CONN_READING,   /* part of the head or body was read */
    CONN_RUNNING,   /* a thread has its request */
    CONN_WRITING,   /* the answer is whole; the loop sends what the client has not taken */
    CONN_LINGERING, /* answered and shut; input is discarded (RFC 9112 9.6) */
};

/* What the loop must do with a connection that a thread gives back. */
enum conn_next {
    CONN_NEXT_IDLE,
    CONN_NEXT_INPUT,
    CONN_NEXT_WRITE,
    CONN_NEXT_LINGER,
    CONN_NEXT_CLOSE,
    CONN_NEXT_RESET, /* reset it: after a normal end a cut body would look complete */
};

enum conn_owner { CONN_LOOP, CONN_THREAD, CONN_NOTED };

/* Where a connection came from. */
struct conn_origin {
    unsigned listener; /* index */
    uint16_t peer_port;
    bool is_tcp; /* not a unix socket */
    bool peer_trusted;
    bool is_uwsgi;  /* its listener speaks the uwsgi protocol */
    bool proxy_due; /* the PROXY header, which names the client, must come first */
    char peer[FORWARDED_ADDRESS_MAX];
};

struct conn {
    ev_io reader, writer;
    struct conn_table *table;
    struct exchange *exchange; /* owned; NULL while idle */
    TAILQ_ENTRY(conn) all;     /* in table->evictable or ->transferring, by its state */
    TAILQ_ENTRY(conn) link;    /* in `queue`, or in a queue of the pool */
    uint64_t deadline_ms;
    int fd;
    _Atomic int owner; /* enum conn_owner */
    enum conn_state state;
    enum conn_next next;
    bool has_input; /* pipelined bytes in the exchange are not parsed yet */
    /* table->readable or ->parked while it is in one of them, else NULL */
    struct conn_queue *queue;
    bool taken;     /* the application has taken the socket over, and may have a copy of it */
    bool unwatched; /* the reader is stopped: bytes have come that cannot be used yet */
    unsigned requests;
    uint64_t writing_ms;      /* when the loop began to send its answer */
    uint64_t writing_total;   /* bytes of the answer given to the kernel before that */
    unsigned writing_untaken; /* of these, bytes the client had not taken then */
    unsigned untaken; /* bytes given to the kernel and not taken when its time was last renewed */
    /* since when its next request is known to wait unread; 0: none waits */
    uint64_t waits_since_ns;
    /* while it waits: so many newcomers (conn_table) had come when the loop last looked and did not
     * see it */
    uint64_t after_newcomers;
    struct conn_origin origin;
};

/* All connections of a worker. "Leader": only the thread that leads the loop reads and writes the
 * field. */
struct conn_table {
    const struct serving *serving; /* borrowed */
    struct ev_loop *loop;          /* borrowed */
    int epoll_fd;                  /* of `loop` */
    unsigned limit;                /* upper bound of `count` */
    unsigned room; /* descriptors that connections and their files may use together */
    struct exchanges exchanges;
    struct body_budget bodies;
    struct held held;
    bool draining;    /* leader */
    bool inbox_waits; /* leader: without a free descriptor nothing is taken out of the inbox */
    /* for the threads, while draining: answer with Connection: close */
    _Atomic bool last_requests;
    /* leader: all that are idle, running or lingering; conn_make_room looks only here */
    struct conn_queue evictable;
    struct conn_queue transferring; /* leader: all that are reading or writing */
    /* leader: bytes may have come and are not read yet; who has waited longest is first */
    struct conn_queue readable;
    struct conn_queue parked; /* leader: the same, and wait until a thread is free */
    unsigned waiting;         /* leader: connections in these two queues */
    unsigned count;           /* leader: open connections */
    uint64_t seen_ns;         /* leader, in ev_run: when its callbacks began; 0: none has run yet */
    /* leader: how many clients have ever come, to all workers, at least: those that were accepted,
     * and those that wait in the kernel */
    uint64_t newcomers;
};

/* Takes `fd` (non-blocking, TCP_NODELAY set on its listener). Leader. The connection is queued as
 * readable at once, because most clients have sent a request by then. `peer` is the address of the
 * other end; NULL: a unix socket. */
struct conn *conn_open(struct conn_table *table, int fd, unsigned listener, bool is_uwsgi,
                       const struct sockaddr *peer);
/* The same for a connection that another worker gave: `origin` tells its peer, `waits_since_ns`
 * since when its next request waits (CLOCK_MONOTONIC, the same in all processes; 0: none waits),
 * and `after_newcomers` after whom. */
void conn_adopt(struct conn_table *table, int fd, const struct conn_origin *origin,
                uint64_t waits_since_ns, uint64_t after_newcomers);
/* Whether there is room for one more connection. Leader. */
MUST_CHECK bool conn_has_room(const struct conn_table *table);
/* The same; at the limit, closes an idle one. Leader. */
MUST_CHECK bool conn_make_room(struct conn_table *table);
/* The connection that has been idle for longest and whose client has sent nothing since; NULL:
 * there is none. Leader. */
struct conn *conn_find_idle(struct conn_table *table);
/* The same for the file of a body, which is open and counted already. Leader. */
MUST_CHECK bool conn_make_room_for_file(struct conn_table *table);
/* Whether one more body may go from memory to a file on the disk. Leader. */
bool conn_may_unload(const struct conn_table *table);
/* How many descriptors may still be used for files that are sent to clients and for connections
 * that siblings give, before they are taken from the application. Any thread. */
unsigned conn_spare_descriptors(const struct conn_table *table);
/* Whether an answer may be spilled into a file: slow readers alone must not keep new clients out.
 * Any thread. */
bool conn_may_spill(const struct conn_table *table);
/* The kernel has the whole answer, or it cannot be completed: logs and counts the request, resets
 * the exchange for the next one, and returns what must be done with the connection. Called by its
 * owner. */
enum conn_next conn_end_request(struct conn *c);
/* By the thread that has run the request and does not lead: gives the connection back, with what
 * the loop must do next. False: the loop has to be told, with conn_resume. */
MUST_CHECK bool conn_give_back(struct conn *c, enum conn_next next);
/* Takes back a connection that a thread has given back. Leader. */
void conn_resume(struct conn *c);
/* No thread is free: stops watching an idle connection that has unread bytes. Leader. */
void conn_park(struct conn *c);
/* Starts the reader again, if it is stopped. Leader. */
void conn_watch(struct conn *c);
/* A thread is free again: moves all parked connections to the readable queue. Their readers start
 * only when they are read: they may be parked again a moment later, and two dozen connections would
 * cost two system calls each for every request. Leader. */
void conn_unpark_all(struct conn_table *table);
/* Ends an answer that the loop sends: `why` is for the logs. Leader. */
void conn_break_off(struct conn *c, const char *why);
/* Logs and counts the request of `c`, which the process ends without answering it whole. By the
 * owner; the connection is of no use then. */
void conn_cut(struct conn *c, const char *why);
/* Before the process ends at once: logs and counts the requests that are being read and the answers
 * that the loop is sending. Of those that threads run the master does it (obituary.h). Leader. */
void conn_record_all(struct conn_table *table, const char *why);
/* The only function that ends a connection: unlinks it, closes the socket, frees it. Leader, owner
 * CONN_LOOP. `why` is for the debug log. */
void conn_close(struct conn *c, const char *why);

/* ---- for intake.c and sweep.c; leader ---- */

void conn_set_state(struct conn *c, enum conn_state state);
void conn_dequeue(struct conn *c);
/* Queues it to be read, if it is in no queue. */
void conn_queue_readable(struct conn *c);
void conn_unwatch(struct conn *c);
/* The loop sends the rest of the whole answer, then ends the request. */
void conn_write(struct conn *c);
/* Shuts the sending side, then discards what the client still sends, for 5 s. */
void conn_linger(struct conn *c);
/* Sets the peer's address, from the socket or a PROXY header. NULL: a unix socket. */
void conn_set_peer(struct conn *c, const struct sockaddr *peer);
/* Puts back the exchange, if there is one; it is reset. */
void conn_put_exchange(struct conn *c);
/* Bytes have come that were not read. */
bool conn_has_unread(const struct conn *c);
/* The client has taken some of its answer: it has send-timeout again. */
void conn_give_time_to_take(struct conn *c);
/* Descriptors that connections and their files use now. Any thread. */
unsigned conn_count_descriptors(const struct conn_table *table);
/* Closes a connection that waits for nothing. False: there is none. */
bool conn_close_quiet(struct conn_table *table);
/* The time, as now_ms(), when `limit_ms` have passed; UINT64_MAX (never) for 0. */
uint64_t conn_deadline(uint64_t limit_ms);

#endif
