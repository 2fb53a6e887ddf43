/* order.h: what the master writes to the order pipe of a mold, one struct at a time. At the end of
 * the pipe the mold ends what it has, and leaves. */
#ifndef MYSERVER_SHARED_ORDER_H
#define MYSERVER_SHARED_ORDER_H

#include <stdint.h>

enum mold_order_kind {
    MOLD_FORK,     /* a worker for `slot` */
    MOLD_NO_MORE,  /* nothing to fork follows: the mold closes the listening sockets */
    MOLD_SERVES,   /* the first worker of the generation does: its hooks are in force */
    MOLD_REPLACED, /* another generation serves, and its hooks are in force */
    MOLD_GONE,     /* the worker of `slot`, the process `pid`, has ended: for hooks */
};
struct mold_order {
    uint32_t kind; /* enum mold_order_kind */
    uint32_t slot;
    int32_t pid;
    uint32_t end;    /* enum board_end */
    int32_t status;  /* of waitpid, if `end` is a crash */
    uint32_t number; /* of MOLD_GONE, from 1; wraps around. See hooks_taken in board.h */
};

#endif
