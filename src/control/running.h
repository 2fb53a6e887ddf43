/* running.h: the requests that run now, as the board has them. */
#ifndef MYSERVER_CONTROL_RUNNING_H
#define MYSERVER_CONTROL_RUNNING_H

#include "shared/board.h"

/* A request that runs; copied from the board. Times are now_ns(). */
struct running {
    char method[BOARD_METHOD_MAX];
    char path[BOARD_PATH_MAX];
    char client[BOARD_CLIENT_MAX];
    uint64_t accepted_ns, started_ns, doing_since_ns;
    uint32_t statement; /* that it waits for: its place; STATEMENTS_NONE: none is known */
    const char *view;   /* NULL: not known */
    const char *doing;  /* "gil", or what ledger.h calls it */
};

bool running_is(const struct board_seat *seat);
/* Copies what is run at a seat. False when nothing is, or another request than before. Works while
 * the worker is stopped. */
bool running_read(const struct board *board, const struct board_seat *seat,
                  struct running *running);

#endif
