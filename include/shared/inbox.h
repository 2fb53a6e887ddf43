/* inbox.h: letters from process to process: a datagram socket pair per worker slot, made by the
 * master before the first fork. Any worker may write to it, the slot's worker reads. With a letter
 * goes a descriptor: a connection that one worker gives to another, or the pipe with orders for a
 * worker that is to become the mold. */
#ifndef MYSERVER_SHARED_INBOX_H
#define MYSERVER_SHARED_INBOX_H

#include "base/base.h"

#include <stdbool.h>

#define INBOX_ABOUT_BYTES 128

struct board_worker;

struct worker_inbox {
    int read_fd;
    int write_fd;
};

struct letter {
    /* 0: the descriptor is a connection; else it is the pipe with orders for the mold of this
     * generation */
    uint32_t generation;
    /* what the giver tells of the connection; only workers know what it means */
    _Alignas(8) char about[INBOX_ABOUT_BYTES];
};

enum inbox_result {
    INBOX_EMPTY,
    INBOX_LETTER, /* `letter` and `fd` are filled; the caller owns fd */
    INBOX_WAKE,   /* the datagram only wakes the reader */
    INBOX_LOST,   /* the descriptor of this letter was lost, which is logged */
    INBOX_FULL,   /* no descriptor is free to receive one: nothing was taken; errno says why */
};

/* In the master: opens an inbox for each of `count` slots. The caller owns the array. Failure ends
 * the program. */
struct worker_inbox *inbox_open_all(unsigned count);
void inbox_close_all(struct worker_inbox *all, unsigned count);

/* Sends a copy of `fd`. False: the inbox is full, and nothing has changed; errno says why. Any
 * process. */
MUST_CHECK bool inbox_send(int write_fd, const struct letter *letter, int fd);
/* Takes the next letter. By the process that reads the inbox. */
MUST_CHECK enum inbox_result inbox_take(int read_fd, struct letter *letter, int *fd);
/* Wakes the worker that reads the inbox of `write_fd`. Any process. */
void inbox_wake(int write_fd);

/* In the master: moves the connections in the inbox `from`, which no worker reads, to the inbox
 * `to`, and updates `taken` and `given` of the two slots. Stops at a connection that does not fit
 * into `to` and puts it back into `from`. Promotions are dropped. */
void inbox_forward(const struct worker_inbox *from, struct board_worker *from_slot,
                   const struct worker_inbox *to, struct board_worker *to_slot);
/* In the master: tells the worker to become the mold of `generation` when it has drained. The
 * worker gets a copy of `order_fd`, from which it will read its orders. False: for instance the
 * inbox is full; errno says why. */
MUST_CHECK bool inbox_promote(const struct worker_inbox *to, uint32_t generation, int order_fd);

#endif
