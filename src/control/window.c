/* window.c: what was counted lately.
 *
 * Owns two moments: the window goes from the older one to now. When the newer one has become half a
 * window old, it takes the place of the older one. So a window needs no clock that ticks often, and
 * no history. */
#include "window.h"

#include "system/usage.h"

#include <stdlib.h>
#include <string.h>

#define HALF_NS (1800 * NS_PER_S)
#define LOOK_MS 5000 /* for workers that have loaded the application anew */

/* What the kernel has counted for the worker of a slot. */
struct ran {
    pid_t pid; /* 0: there is none */
    uint64_t cpu_ns, delay_ns;
};

struct moment {
    uint64_t at_ns;        /* 0: there was none */
    struct window counted; /* since the start of the server, but for the times of the kernel */
    struct ran *ran;       /* [board->workers]; owned */
};

static struct {
    struct moment older, newer;
    uint32_t generation; /* the newest that has served; 0: none has */
    uint64_t loading_ns; /* when it began to load the application */
} kept;

/* ---- what is counted now ---- */

static void add_row(struct window *sum, const struct ledger_row *row)
{
    for (unsigned i = 0; i < LEDGER_CLASSES; i++)
        sum->requests += atomic_load_explicit(&row->classes[i], memory_order_acquire);
    sum->queries += atomic_load_explicit(&row->queries, memory_order_relaxed);
    for (unsigned i = 0; i < LEDGER_PARTS; i++)
        sum->parts_ns[i] += atomic_load_explicit(&row->parts_ns[i], memory_order_relaxed);
}

static void add_view(struct window *sum, const struct ledger *ledger, unsigned view)
{
    for (unsigned shard = 0; shard < ledger->shards; shard++)
        add_row(sum, &ledger->shard[shard].rows[view]);
}

static void count_databases(const struct hints *hints, struct window *sum)
{
    for (unsigned i = 0; i < HINTS_DATABASES; i++) {
        const struct hints_database *database = &hints->databases[i];
        sum->databases[i] = (struct window_database){
            atomic_load(&database->opened), atomic_load(&database->opening_ns),
            atomic_load(&database->failed), atomic_load(&database->refused)};
    }
}

static void count(const struct board *board, struct window *sum)
{
    *sum = (struct window){0};
    count_databases(&board->molds[kept.generation % 2].hints, sum);
    for (unsigned i = 0; i < board->workers; i++) {
        sum->access_lines += atomic_load(&board->worker[i].access_lines);
        sum->access_ns += atomic_load(&board->worker[i].access_ns);
    }
    for (unsigned view = 0; view <= LEDGER_VIEWS; view++)
        if (ledger_name(board->ledger, view)) /* reading would give memory to rows without */
            add_view(sum, board->ledger, view);
    for (unsigned i = 0; i < STATEMENTS_REPEATS; i++) {
        const struct statement_repeat *repeat = &board->statements->repeats[i];
        sum->repeats[i] =
            (struct window_repeat){atomic_load(&repeat->requests), atomic_load(&repeat->queries),
                                   atomic_load(&repeat->time_ns)};
    }
}

static struct ran read_ran(const struct board_worker *worker)
{
    struct ran ran = {.pid = atomic_load(&worker->pid)};
    if (ran.pid <= 0 || atomic_load(&worker->state) == BOARD_WORKER_EMPTY)
        return (struct ran){0};
    usage_of_threads(ran.pid, &ran.cpu_ns, &ran.delay_ns);
    return ran;
}

/* ---- moments ---- */

/* The newest generation that serves; 0: none does. */
static uint32_t serving_generation(const struct board *board)
{
    uint32_t newest = 0;
    for (unsigned i = 0; i < board->workers; i++) {
        uint32_t generation = atomic_load(&board->worker[i].generation);
        if (atomic_load(&board->worker[i].state) == BOARD_WORKER_SERVING && generation > newest)
            newest = generation;
    }
    return newest;
}

static void take(const struct board *board, struct moment *moment)
{
    moment->at_ns = now_ns();
    moment->ran = xrealloc(moment->ran, board->workers * sizeof *moment->ran);
    count(board, &moment->counted);
    for (unsigned i = 0; i < board->workers; i++)
        moment->ran[i] = read_ran(&board->worker[i]);
}

static void begin(const struct board *board)
{
    take(board, &kept.older);
    take(board, &kept.newer);
}

/* True: workers serve that have loaded the application after those before them. */
static bool note_generation(const struct board *board)
{
    uint32_t generation = serving_generation(board), before = kept.generation;
    if (generation == 0 || generation == before)
        return false;
    uint64_t loading_ns = atomic_load(&board->molds[generation % 2].hints.began_ns);
    bool is_new = loading_ns != kept.loading_ns;
    kept.generation = generation;
    kept.loading_ns = loading_ns;
    return is_new && before != 0;
}

static void go_on(const struct board *board)
{
    struct moment before = kept.older;
    kept.older = kept.newer;
    kept.newer = before;
    take(board, &kept.newer);
}

int window_keep(const struct board *board)
{
    bool is_new = note_generation(board);
    if (is_new || kept.older.at_ns == 0)
        begin(board);
    else if (now_ns() - kept.newer.at_ns >= HALF_NS)
        go_on(board);
    return LOOK_MS;
}

/* ---- the difference ---- */

/* Numbers on the board may be anything: no difference is below zero. */
static void take_away(uint64_t *now, uint64_t then)
{
    *now = *now > then ? *now - then : 0;
}

/* A worker that was not there has had its whole life in the window. */
static void add_ran(struct window *window, struct ran now, const struct ran *then)
{
    if (now.pid == then->pid) {
        take_away(&now.cpu_ns, then->cpu_ns);
        take_away(&now.delay_ns, then->delay_ns);
    }
    window->cpu_ns += now.cpu_ns;
    window->delay_ns += now.delay_ns;
}

static void take_away_all(struct window *now, const struct window *then)
{
    take_away(&now->requests, then->requests);
    take_away(&now->queries, then->queries);
    take_away(&now->access_lines, then->access_lines);
    take_away(&now->access_ns, then->access_ns);
    for (unsigned i = 0; i < LEDGER_PARTS; i++)
        take_away(&now->parts_ns[i], then->parts_ns[i]);
    for (unsigned i = 0; i < STATEMENTS_REPEATS; i++) {
        take_away(&now->repeats[i].requests, then->repeats[i].requests);
        take_away(&now->repeats[i].queries, then->repeats[i].queries);
        take_away(&now->repeats[i].time_ns, then->repeats[i].time_ns);
    }
    for (unsigned i = 0; i < HINTS_DATABASES; i++) {
        take_away(&now->databases[i].opened, then->databases[i].opened);
        take_away(&now->databases[i].opening_ns, then->databases[i].opening_ns);
        take_away(&now->databases[i].failed, then->databases[i].failed);
        take_away(&now->databases[i].refused, then->databases[i].refused);
    }
}

void window_read(const struct board *board, struct window *window)
{
    (void)window_keep(board);
    const struct moment *since = &kept.older;
    count(board, window);
    take_away_all(window, &since->counted);
    window->passed_ns = now_ns() - since->at_ns;
    window->generation = kept.generation;
    for (unsigned i = 0; i < board->workers; i++)
        add_ran(window, read_ran(&board->worker[i]), &since->ran[i]);
}
