/* lag.h: answers whose clients lag behind the application. What they have not taken is kept, a
 * little in memory, more in a file (spill.h), so that the thread waits for them only when these are
 * full. What the thread and the loop share: the output, which the loop goes on sending while the
 * application makes the next piece (PEP 3333, "Buffering and Streaming"), and for how long the
 * thread has waited. */
#ifndef MYSERVER_WORKER_LAG_H
#define MYSERVER_WORKER_LAG_H

#include "output.h"

#include <pthread.h>

struct board_seat;
struct conn;

/* Of one turn. */
struct lag {
    const struct board_seat *seat; /* borrowed: the request, for the logs */
    pthread_mutex_t lock;   /* guards `output` and `fd`, and the output itself while it is lent */
    struct output *output;  /* lent to the loop; NULL: none. Only the thread sets it. */
    int fd;                 /* of the client */
    bool gone;              /* the loop has got OUTPUT_GONE */
    _Atomic uint64_t quiet; /* what the thread says of the client, see lag.c; 0: it does not lag */
};

void lag_init(struct lag *lag, const struct board_seat *seat);
void lag_fini(struct lag *lag);

/* By the thread: the loop may send what is in `output` until lag_take_back. */
void lag_lend(struct lag *lag, struct output *output, int fd);
/* OUTPUT_GONE: the loop has found the client gone. Waits for the loop, if that is just sending. */
MUST_CHECK enum output_result lag_take_back(struct lag *lag);
/* Copies pieces that the socket has not taken, if that is little. */
MUST_CHECK bool lag_keeps_in_memory(struct output *o, const struct iovec *pieces, unsigned count);
/* The same where it is much: keeps them in a file. False: that may not grow, and the client must be
 * waited for (lag_wait). True: `*result` is as for output_try; after OUTPUT_BLOCKED they are kept,
 * or the answer is aborted.
 * By the thread that runs the request of `c`, GIL not held. `pace` is zeroed before the first call
 * for an answer. */
MUST_CHECK bool lag_keep(struct lag *lag, struct conn *c, struct output_pace *pace,
                         struct iovec **pieces, unsigned *count, enum output_result *result);
/* Waits until the client has taken so much that the pieces are sent or can be kept. OUTPUT_BLOCKED:
 * they are kept, or the answer is aborted. */
MUST_CHECK enum output_result lag_wait(struct lag *lag, struct conn *c, struct output_pace *pace,
                                       struct iovec **pieces, unsigned *count);

/* The client has taken what was kept, or the answer is made. By the thread. */
void lag_end(struct lag *lag, struct output_pace *pace);

/* All lags of a worker. */
struct lags {
    struct lag **items; /* [count]; borrowed */
    unsigned count;
};

/* Sends what threads have lent, as far as their clients take it. Leader, every tick. */
void lag_send(const struct lags *lags);

/* What the leader knows of the requests that wait. Zeroed at first. */
struct lag_relief {
    uint64_t waits_since_ms;   /* requests have waited at each tick since then, and no thread was
                                * free; 0: none waits */
    uint64_t starved_since_ms; /* requests have waited, and none has ended by itself since then */
    int64_t ended;             /* requests that had ended by themselves by then */
    int64_t told;              /* threads that were told to end their answer */
};
/* Whether the client of a running request lags behind. */
MUST_CHECK bool lag_holds_thread(const struct lags *lags);
/* `waiting` requests wait; `held`: and no thread is free. When that lasts, tells as many of the
 * threads that wait for a client to end the answer, those first whose clients have taken nothing
 * for longest. A thread that was told is free for a moment: that is no end of the wait, for which
 * the clients of the answers behind would have to be waited for again. Leader, every tick. */
void lag_relieve(struct lag_relief *relief, const struct lags *lags, unsigned waiting, bool held);

#endif
