/* costs.c: the time of a running request, divided into parts.
 *
 * Owns: which clock runs on which thread. Reading the CPU clock of a thread is a system call, so it
 * is read at most every 250 us: a request that is shorter counts as computing but for what is known
 * otherwise, which is what such requests do. */
#include "python/costs.h"

#include "python/allocs.h"
#include "python/gil.h"
#include "shared/board.h"
#include "system/usage.h"

#include <pthread.h>
#include <time.h>

#define CPU_READ_NS   250000
/* Of requests that take less, it is not asked how long they wanted a CPU: that is a file of /proc.
 */
#define DELAY_READ_NS (10 * NS_PER_MS)

static struct ledger *ledger;
static struct statements *statements;
static struct observed *observed;
static bool has_routes;
static _Thread_local struct costs_clock *running;

static uint64_t thread_cpu_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

struct costs_spent costs_of_thread(void)
{
    struct costs_spent spent = {.gil_ns = gil_waited_ns()};
    usage_of_thread(&spent.cpu_ns, &spent.delay_ns);
    spent.cpu_ns = thread_cpu_ns(); /* the other one is as old as the last tick of the kernel */
    return spent;
}

/* The CPU time of the thread at `now`, perhaps estimated. */
static uint64_t read_cpu(struct costs_clock *clock, uint64_t now)
{
    uint64_t since_ns = now - clock->read_wall_ns;
    if (LIKELY(since_ns < CPU_READ_NS))
        return clock->read_cpu_ns + since_ns;
    clock->read_wall_ns = now;
    clock->read_cpu_ns = thread_cpu_ns();
    return clock->read_cpu_ns;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* How much of `rest_ns`, which gets less, is `wanted_ns`. An estimate of the CPU time may have been
 * ahead of the clock. */
static uint64_t take(uint64_t *rest_ns, uint64_t wanted_ns)
{
    uint64_t taken_ns = (int64_t)wanted_ns > 0 ? least(*rest_ns, wanted_ns) : 0;
    *rest_ns -= taken_ns;
    return taken_ns;
}

/* Adds what has passed since the last switch. */
static void settle(struct costs_clock *clock, uint64_t now)
{
    uint64_t *parts = clock->costs->parts_ns, rest_ns = now - clock->wall_ns;
    uint64_t gil_ns = gil_waited_ns(), cpu_ns = read_cpu(clock, now);
    if (LIKELY(observed_is_on(observed, OBSERVED_GIL)))
        parts[LEDGER_GIL] += take(&rest_ns, gil_ns - clock->gil_ns);
    if (clock->doing == LEDGER_QUERIES) {
        parts[LEDGER_DATABASE] += rest_ns;
    } else if (clock->doing == LEDGER_SENDS) {
        parts[LEDGER_SEND] += rest_ns;
    } else {
        parts[LEDGER_CPU] += take(&rest_ns, cpu_ns - clock->cpu_ns);
        parts[LEDGER_OTHER] += rest_ns;
    }
    clock->wall_ns = now;
    clock->gil_ns = gil_ns;
    clock->cpu_ns = cpu_ns;
}

/* How long the thread has wanted a CPU in vain. Asked at most every DELAY_READ_NS. */
static void read_delay(struct costs_clock *clock, uint64_t now)
{
    uint64_t cpu_ns;
    if (LIKELY(now - clock->delay_wall_ns < DELAY_READ_NS))
        return;
    clock->delay_wall_ns = now;
    usage_of_thread(&cpu_ns, &clock->delay_ns);
}

/* What is known only at the end was counted as waiting for something else. */
static void add_rest(uint64_t *parts, const struct costs_spent *rest)
{
    parts[LEDGER_CPU] += take(&parts[LEDGER_OTHER], rest->cpu_ns);
    parts[LEDGER_GIL] += take(&parts[LEDGER_OTHER], rest->gil_ns);
    parts[LEDGER_RUNQUEUE] += take(&parts[LEDGER_OTHER], rest->delay_ns);
}

static void settle_rest(struct costs_clock *clock, uint64_t now)
{
    uint64_t before_ns = clock->delay_ns;
    read_delay(clock, now);
    clock->elsewhere.delay_ns += clock->delay_ns - before_ns;
    add_rest(clock->costs->parts_ns, &clock->elsewhere);
    clock->elsewhere = (struct costs_spent){0};
}

static void show(struct costs_clock *clock, enum ledger_doing doing, uint64_t now)
{
    clock->doing = doing;
    atomic_store_explicit(&clock->seat->doing_since_ns, now, memory_order_relaxed);
    atomic_store_explicit(&clock->seat->doing, doing, memory_order_relaxed);
}

void costs_begin(struct costs_clock *clock, struct costs *costs, struct board_seat *seat,
                 uint64_t now)
{
    if (UNLIKELY(!observed_is_on(observed, OBSERVED_VIEWS)))
        return;
    costs->known = true;
    clock->costs = costs;
    clock->seat = seat;
    clock->wall_ns = now;
    clock->gil_ns = gil_waited_ns();
    clock->cpu_ns = read_cpu(clock, now);
    read_delay(clock, now);
    show(clock, LEDGER_RUNS, now);
    running = clock;
    if (UNLIKELY(atomic_load_explicit(&allocs_noted, memory_order_relaxed)))
        costs->blocks = allocs_begin_request();
}

void costs_flush(struct costs_clock *clock)
{
    struct query_log *log = &clock->queries;
    for (unsigned i = 0; i < log->count; i++) {
        const struct query *query = &log->items[i];
        statements_add(statements, query->place, query->hash, clock->costs->view, &query->use);
        if (query->repeat == STATEMENTS_NONE)
            continue;
        uint32_t repeat = statements_repeat_of(statements, query->repeat, clock->costs->view);
        if (repeat != STATEMENTS_NONE)
            statements_add_repeat(statements, repeat, &query->use);
    }
    log->count = 0;
}

struct statements *costs_statements(void)
{
    return statements;
}

const char *costs_view_name(unsigned view)
{
    return ledger ? ledger_name(ledger, view) : NULL;
}

void costs_end(struct costs_clock *clock, uint64_t now)
{
    settle(clock, now);
    settle_rest(clock, now);
    if (clock->queries.count)
        costs_flush(clock);
    if (UNLIKELY(clock->costs->blocks))
        allocs_end_request();
    clock->costs = NULL;
    running = NULL;
    atomic_store_explicit(&clock->seat->view, 0, memory_order_relaxed);
    show(clock, LEDGER_RUNS, 0);
}

enum ledger_doing costs_switch(struct costs_clock *clock, enum ledger_doing doing)
{
    enum ledger_doing before = clock->doing;
    uint64_t now = now_ns();
    settle(clock, now);
    show(clock, doing, now);
    return before;
}

bool costs_now(struct costs *so_far, uint64_t *waited_ns)
{
    struct costs_clock *clock = running;
    uint64_t now = now_ns();
    if (!clock)
        return false;
    clock->read_wall_ns = 0; /* no estimate */
    settle(clock, now);
    struct costs_spent rest = clock->elsewhere;
    struct costs_clock later = *clock;
    read_delay(&later, now);
    rest.delay_ns += later.delay_ns - clock->delay_ns;
    *so_far = *clock->costs;
    add_rest(so_far->parts_ns, &rest);
    *waited_ns = atomic_load_explicit(&clock->seat->started_ns, memory_order_relaxed) -
                 atomic_load_explicit(&clock->seat->accepted_ns, memory_order_relaxed);
    return true;
}

struct costs_clock *costs_running(void)
{
    return running;
}

void costs_set_view(struct text name)
{
    if (!running)
        return;
    unsigned view = ledger_view(ledger, name.data, name.len);
    running->costs->view = view + 1;
    atomic_store_explicit(&running->seat->view, view + 1, memory_order_relaxed);
}

void costs_expect_views(void)
{
    has_routes = true;
}

bool costs_have_routes(void)
{
    return has_routes;
}

void costs_elsewhere(const struct costs_spent *spent)
{
    if (!running)
        return;
    running->elsewhere.cpu_ns += spent->cpu_ns;
    running->elsewhere.gil_ns += spent->gil_ns;
    running->elsewhere.delay_ns += spent->delay_ns;
}

/* The clock, the seat and the ledger are the parent's. */
static void forget(void)
{
    running = NULL;
    gil_show_wait(NULL);
}

bool costs_observe(enum observed_part part, uint32_t view)
{
    return observed_is_on(observed, part) && observed_is_for(observed, part, view);
}

void costs_start(struct board *board)
{
    static bool is_registered;
    ledger = board->ledger;
    statements = board->statements;
    observed = board->observed;
    atomic_store(&observed->names_views, has_routes);
    if (!is_registered && pthread_atfork(NULL, NULL, forget) != 0)
        die(EXIT_CRASH, "no memory for the handlers of forks");
    is_registered = true;
}
