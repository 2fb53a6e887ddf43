/* costs.h: what a request costs while a thread runs it: the time of the thread, divided into parts.
 *
 * A clock belongs to a turn and to the thread that runs it. It is switched whenever the thread
 * begins to do something else; what has passed since the switch before is then added to the parts.
 * A wait for the interpreter is taken out wherever it happens (gil.h). */
#ifndef MYSERVER_PYTHON_COSTS_H
#define MYSERVER_PYTHON_COSTS_H

#include "base/base.h"
#include "shared/ledger.h"
#include "shared/observed.h"
#include "shared/statements.h"

#include <stdbool.h>

struct board;
struct board_seat;

/* Of one request. Zeroed before it begins. */
struct costs {
    bool known; /* all the time of its thread is in the parts */
    uint64_t parts_ns[LEDGER_PARTS];
    uint32_t view; /* from ledger_view, + 1; 0: not known */
    uint32_t queries;
    struct ledger_pauses pauses;
    uint32_t blocks; /* its number while memory is traced (allocs.h); 0: it has none */
};

/* What a thread has used in its life, or of that. */
struct costs_spent {
    uint64_t cpu_ns, gil_ns, delay_ns;
};

#define QUERY_LOG_MAX     64
#define QUERY_CURSORS_MAX 8

/* What a request has made of one statement; see queries.h. */
struct query {
    uint64_t hash;
    uint32_t place, repeat; /* in the board's statements; STATEMENTS_NONE: not repeated */
    struct statement_use use;
    uint64_t this_ns;                          /* the last one, with the fetching of its rows */
    int64_t first_parameters, last_parameters; /* hashes */
};

struct query_log {
    unsigned count, newest;
    struct query items[QUERY_LOG_MAX];
    struct {
        const void *cursor;
        uint64_t hash;
    } cursors[QUERY_CURSORS_MAX]; /* the last ones that have run a statement, in a ring */
};

/* Of one turn. Zeroed at first. */
struct costs_clock {
    struct costs *costs;     /* borrowed; of the request that runs, NULL: none does */
    struct board_seat *seat; /* borrowed */
    enum ledger_doing doing;
    /* At the last switch; the CPU time and the wait for the GIL are those of the thread's life. */
    uint64_t wall_ns, cpu_ns, gil_ns;
    uint64_t read_wall_ns, read_cpu_ns; /* when the thread's CPU clock was last read, and it said */
    uint64_t delay_wall_ns, delay_ns;   /* the same of the time in which no CPU was free for it */
    struct costs_spent elsewhere;       /* see costs_elsewhere; not in the parts yet */
    struct query_log queries;
};

/* Once in a process that will run requests: what is counted goes to the board, and a process that
 * the application forks counts nothing. */
void costs_start(struct board *board);
/* Whether a part is on, for a request of this view (from ledger_view, + 1; 0: not known). */
bool costs_observe(enum observed_part part, uint32_t view);
/* Around a request, on the thread that runs it; times are now_ns(). Nothing while the account of
 * the views is off, and costs_end only after a costs_begin that has set clock->costs. */
void costs_begin(struct costs_clock *clock, struct costs *costs, struct board_seat *seat,
                 uint64_t now);
void costs_end(struct costs_clock *clock, uint64_t now);
/* The request does something else from now on. Returns what it did before. Costs 0.1 us, and 0.4 us
 * more where 250 us have passed since the thread's CPU clock was read: in between the thread counts
 * as computing. On the thread of the request. */
enum ledger_doing costs_switch(struct costs_clock *clock, enum ledger_doing doing);
/* What the request of the calling thread has cost so far, and how long it had waited before its
 * thread ran it, from its first byte on. False: the thread runs none, or it is not observed. */
MUST_CHECK bool costs_now(struct costs *so_far, uint64_t *waited_ns);
/* The clock of the request that the calling thread runs; NULL: it runs none, or is not observed. */
struct costs_clock *costs_running(void);
struct statements *costs_statements(void);
/* The name of a view from ledger_view; NULL: none has that number. */
const char *costs_view_name(unsigned view);
/* Adds what the request has made of statements to the board, and forgets it. */
void costs_flush(struct costs_clock *clock);
/* The request that the calling thread runs is of this view. */
void costs_set_view(struct text name);
/* From now on the application's framework calls costs_set_view for each request that has a view. */
void costs_expect_views(void);
bool costs_have_routes(void);
/* What another thread has done for the request while the calling thread waited for it. */
void costs_elsewhere(const struct costs_spent *spent);
/* Of the calling thread, in its life. */
struct costs_spent costs_of_thread(void);

#endif
