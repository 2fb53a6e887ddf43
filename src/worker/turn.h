/* turn.h: one request being run for the application: its seat on the board, who may answer it, its
 * deadline, and the Python thread state that runs it. Seats are numbered; a seat is used by one
 * request at a time. Which thread runs it, and how, the pool decides (pool.h).
 *
 * Two may answer: whoever runs the request, and the watch, when the deadline has passed. One
 * compare and swap of `word` decides. */
#ifndef MYSERVER_WORKER_TURN_H
#define MYSERVER_WORKER_TURN_H

#include "base/base.h"
#include "lag.h"
#include "python/costs.h"
#include "python/python.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>

struct board_seat;
struct conn;
struct turns;

/* How far the request is: the two low bits of turn.word. Whoever runs it goes from NONE to OPEN,
 * SENDING and back to NONE; the watch may only change OPEN to ANSWERED. */
enum turn_state { TURN_NONE, TURN_OPEN, TURN_SENDING, TURN_ANSWERED };
#define TURN_STATE(word)         ((enum turn_state)((word)&3))
#define TURN_NUMBER(word)        ((word) >> 2)
#define TURN_WORD(number, state) ((number) << 2 | (uint64_t)(state))

/* Zeroed, then filled by the pool. */
struct turn {
    struct turns *all;
    unsigned number;         /* of the seat, from 0; logs say number + 1 */
    struct board_seat *seat; /* borrowed */
    pthread_t thread;        /* which runs it */
    struct python_thread python;
    struct lag lag;
    struct costs_clock costs;
    uint64_t ran_ns; /* how long its last request ran */

    _Atomic uint64_t word;     /* number of the request, and its state */
    _Atomic uint64_t given_up; /* the watch writes: number of the request that it gave up last */
    uint64_t expired;          /* only the watch: number of the request that passed its deadline */
    uint64_t request;          /* only who runs it: number of the latest request, from 1 */
    struct conn *conn;         /* of the request; the watch uses it only to answer */
    _Atomic int fd;            /* the client's socket; -1: none */
    _Atomic bool taken;        /* the application has taken it over */
};

/* All turns of a worker. */
struct turns {
    struct turn **items; /* [count]; owned by the pool */
    unsigned count;
    pthread_mutex_t answering; /* held while another thread uses the connection of a request */
    sem_t wake;                /* wakes the watch */
};

void turns_init(struct turns *turns, struct turn **items, unsigned count);
void turns_fini(struct turns *turns);
/* How many of them the watch has given up and are still in that request. `with_client`: only those
 * whose client has not got its whole answer before (turn_begin_close). */
unsigned turns_given_up(const struct turns *turns, bool with_client);

/* Around a request, by who runs it. `deadline_ns` (now_ns) 0: none. */
void turn_begin(struct turn *turn, struct conn *conn, uint64_t deadline_ns);
/* The same for what the application does after its client has got the answer. */
void turn_begin_close(struct turn *turn, uint64_t deadline_ns);
/* Before the first byte of the answer. False: the watch has answered, and nothing may be sent.
 * After true the watch will not answer. */
MUST_CHECK bool turn_claim(struct turn *turn);
/* The watch has answered, for instance while the GIL was still waited for. */
bool turn_is_answered(const struct turn *turn);
/* Ends what turn_begin began. False when the watch has answered: the request is logged and counted
 * already. The connection may be given back only after this. */
MUST_CHECK bool turn_end(struct turn *turn);
/* Sets a new deadline, `limit_ns` from now; 0: none. By who runs it. */
void turn_set_limit(struct turn *turn, uint64_t limit_ns);
/* The application takes over the client's socket: nothing limits the request any more. By who runs
 * it, when it may answer. */
void turn_take(struct turn *turn);
/* Shuts down the socket that the application has taken over for request `number`, so that it sees
 * an end. False: it has none, or the request has ended. Any thread. */
bool turn_shut_taken(struct turn *turn, uint64_t number);
/* The same for all of them; returns how many there are. */
unsigned turns_shut_taken(const struct turns *turns);
/* Stops the deadline while the client is waited for, which has limits of its own. */
uint64_t turn_pause(struct turn *turn);
/* Takes what turn_pause returned. */
void turn_resume(struct turn *turn, uint64_t paused);

/* By the watch: claims the answer of request `number`. True: it answers, and holds `answering`
 * until it calls turn_unlock. `*is_running`: the request has not ended. */
MUST_CHECK bool turn_lock_to_answer(struct turn *turn, uint64_t number, bool *is_running);
void turn_unlock(struct turn *turn);

#endif
