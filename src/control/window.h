/* window.h: what was counted lately, for advice.
 *
 * The board only counts up, so what it said at one time is kept, and taken away from what it says
 * now. A window is half an hour to an hour long; it begins anew when workers serve that have loaded
 * the application anew, perhaps with other code and other settings. */
#ifndef MYSERVER_CONTROL_WINDOW_H
#define MYSERVER_CONTROL_WINDOW_H

#include "shared/board.h"

/* A statement that requests of a view repeat. */
struct window_repeat {
    uint64_t requests, queries, time_ns;
};

struct window_database {
    uint64_t opened, opening_ns, failed, refused;
};

struct window {
    uint64_t passed_ns;                                 /* its length */
    uint32_t generation;                                /* the newest that serves, or has served */
    uint64_t requests, queries, parts_ns[LEDGER_PARTS]; /* of all views */
    struct window_repeat repeats[STATEMENTS_REPEATS];   /* as in struct statements */
    struct window_database databases[HINTS_DATABASES];  /* as in struct hints */
    uint64_t access_lines, access_ns;                   /* of the access log */
    /* Of all threads of the workers, as the kernel counts: on a CPU, and ready without one. */
    uint64_t cpu_ns, delay_ns;
};

/* Begins, or goes on when it is time. Returns after how many milliseconds to call it again. Reads
 * the board, and at the begin of a window what the kernel says of the workers. */
int window_keep(const struct board *board);
/* What was counted since the window began. Reads /proc for each thread of the workers: some 5 us.
 */
void window_read(const struct board *board, struct window *window);

#endif
