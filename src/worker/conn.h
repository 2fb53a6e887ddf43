/* conn.h: one connection: the only place that sees both the client and the application.
 *
 * `owner` says who may touch a connection. CONN_LOOP: the thread that leads the loop. CONN_THREAD:
 * the thread that runs its request. When bytes come meanwhile, the leader only turns CONN_THREAD
 * into CONN_NOTED and stops the reader. The watchers are always the leader's. */
#ifndef MYSERVER_CONN_H
#define MYSERVER_CONN_H

#include "base/base.h"
#include "http/access.h"
#include "http/forwarded.h"
#include "http/request.h"
#include "http/response.h"
#include "python/wsgi.h"
#include "worker/exchange.h"
#include "worker/output.h"

#include <ev.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/queue.h>

struct board_thread;
struct balance;
struct board_worker;
struct config;
struct pool;
struct pool_thread;

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
    bool peer_trusted;
    bool proxy_due; /* the PROXY header, which names the client, must come first */
    char peer[FORWARDED_ADDRESS_MAX];
};

struct conn {
    ev_io reader, writer;
    struct conn_shared *shared;
    struct exchange *exchange; /* owned; NULL while idle */
    TAILQ_ENTRY(conn) all;     /* in shared->evictable or ->transferring, by its state */
    TAILQ_ENTRY(conn) link;    /* in `queue`, or in a queue of the pool */
    uint64_t deadline_ms;
    int fd;
    _Atomic int owner; /* enum conn_owner */
    enum conn_state state;
    enum conn_next next;
    bool has_input; /* pipelined bytes in the exchange are not parsed yet */
    /* shared->readable or ->parked while it is in one of them, else NULL */
    struct conn_queue *queue;
    bool unwatched; /* the reader is stopped: bytes have come that cannot be used yet */
    unsigned requests;
    uint64_t writing_ms;      /* when the loop began to send its answer */
    uint64_t writing_total;   /* bytes of the answer given to the kernel before that */
    unsigned writing_untaken; /* of these, bytes the client had not taken then */
    unsigned untaken;   /* bytes given to the kernel and not taken when its time was last renewed */
    uint64_t parked_ns; /* since when its next request waits unread; 0: none waits */
    struct conn_origin origin;
};

/* What all connections of a worker share. Fields without a note are set once. "Leader": only the
 * thread that leads the loop reads and writes the field. */
struct conn_shared {
    struct ev_loop *loop;
    const struct config *config;
    struct http_limits limits;
    struct forwarded_trust trust;
    struct access_format *access; /* NULL: off */
    unsigned worker;              /* its number, from 1 */
    struct board_worker *board;
    struct pool *pool;
    struct balance *balance;
    int epoll_fd;          /* of `loop` */
    int pipe_in, pipe_out; /* leader: pipe for large bodies, empty between uses; -1: not open */
    bool draining;         /* leader */
    bool inbox_waits;      /* leader: without a free descriptor nothing is taken out of the inbox */
    /* for the threads, while draining: answer with Connection: close */
    _Atomic bool last_requests;
    /* leader: all that are idle, running or lingering; conn_make_room looks only here */
    struct conn_queue evictable;
    struct conn_queue transferring; /* leader: all that are reading or writing */
    size_t held_bytes;        /* leader: bytes of whole answers that slow clients have not taken */
    size_t held_memory_bytes; /* leader: memory in which these are kept */
    uint64_t held_since_ms;   /* leader: since when held_bytes is above its bound; 0: it is not */
    uint64_t least_rate;      /* leader: bytes per second; held.c ends slower clients; 0: none */
    struct conn_queue readable; /* leader: bytes may have come and are not read yet */
    struct conn_queue parked;   /* leader: the same, and wait until a thread is free */
    unsigned waiting;           /* leader: connections in these two queues */
    unsigned count;             /* leader: open connections */
    unsigned limit;             /* upper bound of `count` */
    unsigned room;              /* descriptors that connections and their files may use together */
    struct body_budget bodies;
    _Atomic unsigned sent_files; /* files that are being sent to slow clients */
    pthread_mutex_t free_lock;   /* protects the fields below, except given_back_before */
    struct exchange *free_exchanges;
    unsigned free_count;
    unsigned ticks;             /* how often the worker's timer has ticked */
    unsigned given_back;        /* allocations freed since memory was trimmed */
    unsigned given_back_before; /* leader: given_back at the tick before */
};

/* Takes `fd` (non-blocking, TCP_NODELAY set on its listener). Leader. The connection is queued as
 * readable at once, because most clients have sent a request by then. `peer` is the address of the
 * other end; NULL: a unix socket. */
void conn_open(struct conn_shared *shared, int fd, unsigned listener, const struct sockaddr *peer);
/* The same for a connection that another worker gave: `origin` tells its peer, `parked_ns` since
 * when its next request waits (CLOCK_MONOTONIC, the same in all processes; 0: none waits). */
void conn_adopt(struct conn_shared *shared, int fd, const struct conn_origin *origin,
                uint64_t parked_ns);
/* Whether there is room for one more connection; at the limit, closes an idle one. Leader. */
MUST_CHECK bool conn_make_room(struct conn_shared *shared);
/* The same for the file of a body, which is open and counted already. Leader. */
MUST_CHECK bool conn_make_room_for_file(struct conn_shared *shared);
/* How many descriptors may still be used for files that are sent to clients and for connections
 * that siblings give, before they are taken from the application. Any thread. */
unsigned conn_spare_descriptors(const struct conn_shared *shared);
/* The kernel has the whole answer, or it cannot be completed: logs and counts the request, resets
 * the exchange for the next one, and returns what must be done with the connection. Called by its
 * owner. */
enum conn_next conn_end_request(struct conn *c);
/* Answers in place of the thread that has the request and has sent nothing; logs and counts it. Any
 * thread; the caller ensures that the connection is not given back meanwhile. */
void conn_answer_for(struct conn *c, unsigned status, const char *why);
/* A thread that does not lead gives the connection back; the loop must then do `next`. */
void conn_give_back(struct conn *c, enum conn_next next);
/* Takes back a connection that a thread has given back. Leader. */
void conn_resume(struct conn *c);
/* No thread is free: stops watching an idle connection that has unread bytes. Leader. */
void conn_park(struct conn *c);
/* Starts the reader again, if it is stopped. Leader. */
void conn_watch(struct conn *c);
/* A thread is free again: moves all parked connections to the readable queue. Their readers start
 * only when they are read: they may be parked again a moment later, and two dozen connections would
 * cost two system calls each for every request. Leader. */
void conn_unpark_all(struct conn_shared *shared);
/* Ends connections that have passed their deadline, closes idle ones sooner while the worker
 * drains, and makes room where too many descriptors are used. Leader, every tick. */
void conn_expire_all(struct conn_shared *shared, uint64_t now);
/* Logs and counts the request of `c`, which the process ends without answering it whole. By the
 * owner; the connection is of no use then. */
void conn_cut(struct conn *c, const char *why);
/* Before the process ends at once: logs and counts the requests that are being read and the answers
 * that the loop is sending. Of those that threads run the master does it (cut.h). Leader. */
void conn_record_all(struct conn_shared *shared, const char *why);
/* The only function that ends a connection: unlinks it, closes the socket, frees it. Leader, owner
 * CONN_LOOP. `why` is for the debug log. */
void conn_close(struct conn *c, const char *why);

/* For intake.c. Leader. */
void conn_set_state(struct conn *c, enum conn_state state);
void conn_dequeue(struct conn *c);
void conn_unwatch(struct conn *c);
/* The loop sends the rest of the whole answer, then ends the request. */
void conn_write(struct conn *c);
/* Shuts the sending side, then discards what the client still sends, for 5 s. */
void conn_linger(struct conn *c);
/* Sets the peer's address, from the socket or a PROXY header. NULL: a unix socket. */
void conn_set_peer(struct conn *c, const struct sockaddr *peer);
/* The time, as now_ms(), when `limit_ms` have passed; UINT64_MAX (never) for 0. */
uint64_t conn_deadline(uint64_t limit_ms);

#endif
