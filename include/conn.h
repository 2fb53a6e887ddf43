/* conn.h: one connection: the only place that sees both the client and the application.
 *
 * Who may touch a connection: `owner` says. CONN_LOOP: the thread that leads the loop.
 * CONN_THREAD: the thread that runs its request; the leader then only notes that bytes came
 * (CONN_NOTED) and stops watching. The watchers are always the leader's. */
#ifndef MYSERVER_CONN_H
#define MYSERVER_CONN_H

#include "access.h"
#include "base.h"
#include "exchange.h"
#include "forwarded.h"
#include "http.h"
#include "output.h"
#include "response.h"
#include "wsgi.h"

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
    CONN_IDLE,      /* nothing of a request has come */
    CONN_READING,   /* head or body */
    CONN_RUNNING,   /* a thread has it */
    CONN_WRITING,   /* the answer is whole; the loop sends what the client is slow to take */
    CONN_LINGERING, /* answered and shut; what still comes is discarded (RFC 9112 9.6) */
};

/* What a thread wants of the loop when it gives a connection back. */
enum conn_next {
    CONN_NEXT_IDLE,
    CONN_NEXT_INPUT,
    CONN_NEXT_WRITE,
    CONN_NEXT_LINGER,
    CONN_NEXT_CLOSE,
    CONN_NEXT_RESET, /* a clean end would make a torn body look whole */
};

enum conn_owner { CONN_LOOP, CONN_THREAD, CONN_NOTED };

/* Where a connection came from. */
struct conn_origin {
    unsigned listener; /* index */
    uint16_t peer_port;
    bool peer_trusted;
    bool proxy_due; /* the PROXY header, which tells the client, must come first */
    char peer[FORWARDED_ADDRESS_MAX];
};

struct conn {
    ev_io reader, writer;
    struct conn_shared *shared;
    struct exchange *exchange; /* NULL while idle */
    TAILQ_ENTRY(conn) all;     /* shared->evictable or ->transferring, by its state */
    TAILQ_ENTRY(conn) link;    /* of the one queue it may be in */
    uint64_t deadline_ms;
    int fd;
    _Atomic int owner; /* enum conn_owner */
    enum conn_state state;
    enum conn_next next;
    bool has_input;           /* pipelined bytes in the exchange are not parsed yet */
    struct conn_queue *queue; /* shared->readable or ->parked when in it, else NULL */
    bool unwatched;           /* the reader is stopped: bytes came that cannot be used yet */
    unsigned requests;
    uint64_t writing_ms;      /* since when the loop sends its answer */
    uint64_t writing_total;   /* what the kernel had been given by then */
    unsigned writing_untaken; /* of which it still had */
    unsigned untaken;         /* of which the client had not taken so much when it last got time */
    uint64_t parked_ns;       /* since when its next request waits unread; 0: it does not */
    struct conn_origin origin;
};

/* What all connections of a worker share. Fields without a note are set once. */
struct conn_shared {
    struct ev_loop *loop;
    const struct config *config;
    struct http_limits limits;
    struct forwarded_trust trust;
    struct access_format *access; /* NULL: off */
    unsigned worker;              /* number, from 1 */
    struct board_worker *board;
    struct pool *pool;
    struct balance *balance;
    int epoll_fd;               /* of the loop */
    int pipe_in, pipe_out;      /* leader: large bodies pass through, empty between; -1: not open */
    bool draining;              /* leader */
    _Atomic bool last_requests; /* draining, for the threads: answer with Connection: close */
    struct conn_queue evictable; /* leader: idle, running or lingering: who may make room is here */
    struct conn_queue transferring; /* leader: reading or writing; who looks for room meets none */
    size_t held_bytes;              /* leader: of whole answers that slow clients have not taken */
    size_t held_memory_bytes;       /* leader: what it takes to keep them */
    uint64_t held_since_ms;         /* leader: they are too many; 0: they are not */
    uint64_t least_rate;            /* leader: bytes in a second; slower ones go then; 0: not yet */
    struct conn_queue readable;     /* leader: bytes came, not read yet */
    struct conn_queue parked;       /* leader: the same, but no thread is free */
    unsigned waiting;               /* leader: how many are in these two */
    unsigned count;                 /* leader */
    unsigned limit;                 /* of count */
    unsigned room;                  /* of descriptors, for connections and their files */
    struct body_budget bodies;
    _Atomic unsigned sent_files; /* that slow clients are being sent */
    pthread_mutex_t free_lock;   /* of the next three */
    struct exchange *free_exchanges;
    unsigned free_count;
    unsigned ticks;             /* of the worker's tick, under free_lock */
    unsigned given_back;        /* allocations freed since memory was trimmed */
    unsigned given_back_before; /* leader: the same, at the tick before */
};

/* Takes `fd` (non-blocking, TCP_NODELAY by its listener). Leader. The connection is queued as
 * readable at once: a client that connects has mostly sent already. `peer` is the other end; a NULL
 * address means unix. */
void conn_open(struct conn_shared *shared, int fd, unsigned listener, const struct sockaddr *peer);
/* The same for a connection that another worker had: its peer is known, and since when its next
 * request waits, by the clock that all processes have. */
void conn_adopt(struct conn_shared *shared, int fd, const struct conn_origin *origin,
                uint64_t parked_ns);
/* Whether there is room for one more: at the limit, an idle connection makes room. Leader. */
MUST_CHECK bool conn_make_room(struct conn_shared *shared);
/* The same for the file of a body, which is open already. Leader. */
MUST_CHECK bool conn_make_room_for_file(struct conn_shared *shared);
/* How many more may be opened for files that clients are sent, and for connections that siblings
 * give, before they are the application's. Any thread. */
unsigned conn_spare_descriptors(const struct conn_shared *shared);
/* The answer is with the kernel (or cannot be): logs and counts the request, makes the connection
 * ready for the next, and says what it wants now. Whoever owns the connection. */
enum conn_next conn_end_request(struct conn *c);
/* Answers in the stead of the thread that has the request and has sent nothing; logs and counts.
 * Any thread; the caller sees to it that the connection is not given back meanwhile. */
void conn_answer_for(struct conn *c, unsigned status, const char *why);
/* A thread that does not lead gives the connection back, wanting `next` of the loop. */
void conn_give_back(struct conn *c, enum conn_next next);
/* Takes back a connection that a thread gave back. Leader. */
void conn_resume(struct conn *c);
/* No thread is free: stop watching an idle connection with bytes waiting. Leader. */
void conn_park(struct conn *c);
/* Watches it again, if it is not. Leader. */
void conn_watch(struct conn *c);
/* A thread is free again: all parked ones are readable. They are not watched before they are read:
 * the next moment may park them again, and twice two dozen system calls for each request are not
 * nothing. Leader. */
void conn_unpark_all(struct conn_shared *shared);
/* Closes what has passed its deadline, sheds what a drain no longer waits for. Leader. */
void conn_expire_all(struct conn_shared *shared, uint64_t now);
/* The one way out of the world: unlinks, closes, frees. Leader, owner CONN_LOOP. `why` is for the
 * debug log. */
void conn_close(struct conn *c, const char *why);

/* For intake.c. All of them: leader. */
void conn_set_state(struct conn *c, enum conn_state state);
void conn_dequeue(struct conn *c);
void conn_unwatch(struct conn *c);
/* The loop sends the rest of a whole answer, then ends the request. */
void conn_write(struct conn *c);
/* Answered: shuts our side, and discards what still comes for a while. */
void conn_linger(struct conn *c);
/* Where the client is, by the socket or by a PROXY header. NULL: a unix socket. */
void conn_set_peer(struct conn *c, const struct sockaddr *peer);
/* When `limit_ms` from now is over; 0: never. */
uint64_t conn_deadline(uint64_t limit_ms);

#endif
