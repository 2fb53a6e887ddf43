/* worker.c: the process that serves.
 *
 * Owns: the loop and what is on it besides connections (listeners, signals, the tick, the inbox,
 * the lifeline), and how the process ends. Accepts one connection at a time and only when a thread
 * is free: so new connections wait in the kernel's queue, which all workers share. Never parses,
 * never runs Python but to stop it. */
#include "worker/worker.h"
#include "balance.h"
#include "base/fds.h"
#include "base/log.h"
#include "base/logfile.h"
#include "config/settings.h"
#include "conn.h"
#include "intake.h"
#include "leads.h"
#include "pages.h"
#include "pool.h"
#include "python/collector.h"
#include "python/ending.h"
#include "python/python.h"
#include "retire.h"
#include "roots.h"
#include "sampler.h"
#include "scratch.h"
#include "shared/board.h"
#include "shared/inbox.h"
#include "sweep.h"
#include "system/backlog.h"
#include "system/listen.h"
#include "system/process.h"
#include "system/types.h"
#include "system/usage.h"
#include "tracer.h"
#include "watch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define TICK_S              0.2
#define ACCEPT_PAUSE_S      0.2 /* after the descriptors ran out */
#define FAREWELL_NS         (2 * NS_PER_S)
#define FULL_QUIET_MS       10000 /* no second warning, until it was not full for so long */
/* What all request bodies of a worker may have in memory; at least four times body-buffer. */
#define BODIES_MEMORY_BYTES (64 * 1024 * 1024)

struct acceptor {
    ev_io watcher;
    unsigned listener;
};

static struct {
    const struct worker_seed *seed;
    struct serving serving;
    struct conn_table table;
    struct pool pool;
    struct balance balance;
    struct acceptor *acceptors; /* [listeners] */
    ev_signal on_term, on_quit;
    struct sigaction heard; /* libev's handler, for both signals */
    bool said_undone;       /* keep_signals has logged its warning */
    ev_async bell;
    ev_timer tick, accept_pause, last_call;
    ev_io inbox, lifeline, signalled;
    int signal_pipe[2]; /* a byte for each signal that has a handler in Python */
    ev_prepare before_sleep;
    bool accepting;
    bool turned_away;         /* the standby leads and does not accept; the next leader does */
    bool listening;           /* the listeners are open */
    unsigned latest_listener; /* index of the one that was accepted from last */
    struct worker_promotion promotion;
    uint64_t full_quiet_until_ms;
    struct age age;
    struct backlog *backlogs; /* [listeners] */
    int netlink_fd;           /* for backlog_waiting */
    struct lag_relief relief;
    uint64_t last_call_until_ms;
    bool said_farewell;   /* taken sockets are shut down */
    uint64_t leave_by_ns; /* when graceful-timeout is over; 0: it does not drain */
} worker;

/* ---- accepting ---- */

/* The standby accepts only where some requests need no thread. */
static bool may_accept(void)
{
    return !worker.pool.led_by_standby || roots_any();
}

static void set_accepting(bool on)
{
    if (on == worker.accepting)
        return;
    worker.accepting = on;
    for (size_t i = 0; i < worker.seed->listeners->count; i++)
        if (on)
            ev_io_start(worker.table.loop, &worker.acceptors[i].watcher);
        else
            ev_io_stop(worker.table.loop, &worker.acceptors[i].watcher);
}

static void accept_again(void)
{
    worker.turned_away = false;
    if (worker.listening && !ev_is_active(&worker.accept_pause))
        set_accepting(true);
}

static void on_before_sleep(struct ev_loop *loop, ev_prepare *watcher, int events)
{
    (void)loop;
    (void)watcher;
    (void)events;
    if (worker.turned_away && !worker.pool.led_by_standby)
        accept_again();
}

/* The kernel has nothing left to make a connection with. */
static void pause_accepting(int error)
{
    uint64_t now = now_ms();
    if (now >= worker.full_quiet_until_ms)
        log_warning("no connection is accepted for a moment: %s%s", strerror(error),
                    fds_advice(error));
    worker.full_quiet_until_ms = now + FULL_QUIET_MS;
    set_accepting(false);
    ev_timer_set(&worker.accept_pause, ACCEPT_PAUSE_S, 0.);
    ev_timer_start(worker.table.loop, &worker.accept_pause);
}

static void on_accept_error(int error)
{
    if (error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM)
        pause_accepting(error);
    /* else the client has gone, or a sibling was first */
}

/* The limit of connections is reached, and none of them is idle and could be closed. A new one
 * waits in the kernel for a sibling, or for the next tick of this worker. */
static void on_full(void)
{
    uint64_t now = now_ms();
    const struct conn_table *table = &worker.table;
    bool by_files = table->count < table->limit || table->limit == table->room;
    set_accepting(false);
    if (now >= worker.full_quiet_until_ms)
        log_warning("%u connections and none of them idle: more than %s", table->count,
                    by_files ? "RLIMIT_NOFILE has room for wait; raise it (ulimit -n, LimitNOFILE)"
                             : "worker-connections wait");
    worker.full_quiet_until_ms = now + FULL_QUIET_MS;
}

/* Accepts one connection, which is in `readable` then, and not the first there. NULL: none was
 * there, or accept4 failed. */
static struct conn *accept_one(const struct acceptor *acceptor)
{
    const struct listener *listener = &worker.seed->listeners->items[acceptor->listener];
    struct sockaddr_storage peer;
    socklen_t peer_len = sizeof(peer);
    bool is_unix = listener->family == AF_UNIX;
    worker.latest_listener = acceptor->listener;
    int fd = fds_spare(accept4(listener->fd, is_unix ? NULL : (struct sockaddr *)&peer,
                               is_unix ? NULL : &peer_len, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (fd < 0) {
        on_accept_error(errno);
        return NULL;
    }
    struct conn *c = conn_open(&worker.table, fd, acceptor->listener, listener->is_uwsgi,
                               is_unix ? NULL : (struct sockaddr *)&peer);
    c->after_newcomers = balance_note_accepted(&worker.balance);
    return c;
}

static struct conn *accept_newcomer(void *acceptor)
{
    if (!worker.accepting)
        return NULL;
    balance_relieve(&worker.balance);
    if (conn_make_room(&worker.table))
        return accept_one(acceptor);
    on_full();
    return NULL;
}

/* How many listeners come before this one, counted round from the one after latest_listener. */
static size_t turns_until(const struct acceptor *acceptor)
{
    size_t count = worker.seed->listeners->count;
    return (acceptor->listener + count - worker.latest_listener - 1) % count;
}

static void on_acceptable(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)loop;
    (void)events;
    if (!may_accept()) {
        set_accepting(false); /* no thread is free: a sibling accepts, or this one later */
        worker.turned_away = true;
        return;
    }
    struct acceptor *other = worker.pool.newcomer;
    if (!other || turns_until(watcher->data) < turns_until(other))
        worker.pool.newcomer = watcher->data;
}

static void on_accept_pause_end(struct ev_loop *loop, ev_timer *watcher, int events)
{
    (void)loop;
    (void)watcher;
    (void)events;
    worker.table.inbox_waits = false;
    ev_io_start(worker.table.loop, &worker.inbox);
    accept_again();
}

/* Without a free descriptor the connections stay in the inbox until the pause is over. */
static void read_inbox(void)
{
    worker.table.inbox_waits = !balance_adopt(&worker.balance, worker.inbox.fd, &worker.promotion);
    if (!worker.table.inbox_waits)
        return;
    pause_accepting(errno);
    ev_io_stop(worker.table.loop, &worker.inbox);
}

static void on_inbox(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)loop;
    (void)watcher;
    (void)events;
    if (!worker.pool.stopping) /* else the master moves what is in there (inbox_forward) */
        read_inbox();
}

/* ---- stopping ---- */

static void set_title(const char *state)
{
    process_set_title("myserver: worker %u [%s] %s", worker.seed->slot + 1,
                      worker.seed->config->app, state);
}

/* The listening socket stays open in the other processes, so close() alone would not take it out of
 * the epoll set, and libev would then replace its epoll descriptor, whose number inbox.c needs. A
 * worker that becomes a mold keeps the socket for its workers. */
static void close_listeners(void)
{
    set_accepting(false);
    ev_timer_stop(worker.table.loop, &worker.accept_pause);
    for (size_t i = 0; i < worker.seed->listeners->count; i++) {
        int fd = worker.seed->listeners->items[i].fd;
        (void)epoll_ctl(worker.table.epoll_fd, EPOLL_CTL_DEL, fd, NULL);
        if (worker.promotion.generation == 0)
            close(fd);
    }
    worker.listening = false;
}

/* When the whole server stops, no mold is needed, and this process closes the listeners that it
 * kept for one: a socket that stays open would go on taking connections. */
static void forgo_promotion(void)
{
    if (worker.promotion.generation == 0 || !atomic_load(&worker.seed->board->stopping))
        return;
    worker.promotion.generation = 0;
    close(worker.promotion.order_fd);
    for (size_t i = 0; i < worker.seed->listeners->count && !worker.listening; i++)
        close(worker.seed->listeners->items[i].fd);
}

static void stop_when_drained(void)
{
    forgo_promotion();
    if (!worker.table.draining || worker.listening || worker.pool.stopping)
        return;
    read_inbox(); /* siblings may have given connections before they saw the drain */
    unsigned stuck = turns_given_up(&worker.pool.turns, false);
    if (worker.table.count > turns_given_up(&worker.pool.turns, true) ||
        pool_is_busy(&worker.pool, stuck))
        return;
    if (stuck == 0) {
        pool_stop(&worker.pool);
        return;
    }
    log_warning("leaving with %u stuck request%s", stuck, stuck == 1 ? "" : "s");
    _exit(EXIT_OK);
}

/* At the stop of the server: accepts all that is in the kernel's queues, since nobody else will
 * answer it, until no handshake is under way; then closes the listeners. backlog_has_handshakes is
 * asked first: a connection that became complete after the last accept4 would be lost. */
static void on_last_call(struct ev_loop *loop, ev_timer *watcher, int events)
{
    (void)events;
    bool more =
        now_ms() < worker.last_call_until_ms && backlog_has_handshakes(worker.seed->listeners);
    for (size_t i = 0; i < worker.seed->listeners->count; i++)
        while (accept_one(&worker.acceptors[i]))
            continue;
    if (more)
        return;
    ev_timer_stop(loop, watcher);
    close_listeners();
    stop_when_drained();
}

/* `last`: no other worker will accept any more, so this one goes on accepting for the last call. */
static void begin_drain(const char *why, bool last)
{
    if (worker.table.draining)
        return;
    read_inbox(); /* the master sends a promotion before the signal to drain */
    log_info("draining: %s", why);
    worker.table.draining = true;
    tracer_stop();
    atomic_store(&worker.table.last_requests, true);
    atomic_store(&worker.seed->board->worker[worker.seed->slot].state, BOARD_WORKER_DRAINING);
    set_title("draining");
    worker.last_call_until_ms = now_ms() + LISTEN_LAST_CALL_MOST_MS;
    worker.leave_by_ns = now_ns() + worker.seed->config->graceful_timeout_ms * NS_PER_MS;
    if (last)
        ev_timer_start(worker.table.loop, &worker.last_call);
    else
        close_listeners();
    if (!atomic_load(&worker.seed->board->stopping))
        balance_drain(&worker.balance);
}

static void on_term(struct ev_loop *loop, ev_signal *watcher, int events)
{
    (void)loop;
    (void)watcher;
    (void)events;
    begin_drain("told to stop", atomic_load(&worker.seed->board->last_call));
    stop_when_drained();
}

static void on_quit(struct ev_loop *loop, ev_signal *watcher, int events)
{
    (void)loop;
    (void)watcher;
    (void)events;
    log_info("stopping at once, %u connections are closed", worker.table.count);
    pool_cut_waiting(&worker.pool, "stopped at once");
    conn_record_all(&worker.table, "stopped at once");
    _exit(EXIT_OK);
}

static void on_lifeline(struct ev_loop *loop, ev_io *watcher, int events)
{
    (void)events;
    ev_io_stop(loop, watcher);
    begin_drain("the master is gone", true);
    watch_leave_by(worker.leave_by_ns);
    stop_when_drained();
}

/* Restores the handlers of SIGTERM and SIGQUIT when the application has set its own, as some
 * libraries do at the first request: the master could not stop this worker any more. */
static void keep_signals(void)
{
    static const int numbers[] = {SIGTERM, SIGQUIT};
    struct sigaction now;
    process_ignore_failed_writes(); /* in scripts SIGPIPE often gets its default action */
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        if (sigaction(numbers[i], NULL, &now) < 0 || now.sa_handler == worker.heard.sa_handler)
            continue;
        (void)sigaction(numbers[i], &worker.heard, NULL);
        if (!worker.said_undone) /* once: the application may do it in each request */
            log_warning("the application has handled %s, by which the master stops this worker: "
                        "that is undone",
                        numbers[i] == SIGTERM ? "SIGTERM" : "SIGQUIT");
        worker.said_undone = true;
    }
}

/* ---- the loop ---- */

/* Clients that wait to be accepted. */
static unsigned count_newcomers(void)
{
    size_t listeners = worker.listening ? worker.seed->listeners->count : 0;
    unsigned count = 0;
    for (size_t i = 0; i < listeners; i++)
        count += backlog_waiting(&worker.backlogs[i], worker.seed->listeners->items[i].fd,
                                 worker.netlink_fd);
    return count;
}

/* Ends answers whose clients take nothing while requests wait. */
static void relieve(void)
{
    const struct pool *pool = &worker.pool;
    if (worker.relief.waits_since_ms == 0 &&
        !(pool->led_by_standby && lag_holds_thread(&pool->lags)))
        return;
    lag_relieve(&worker.relief, &pool->lags, pool_count_waiting(&worker.pool) + count_newcomers(),
                pool->led_by_standby);
}

/* So long before graceful-timeout is over, applications that have taken over a socket see its end,
 * and can leave before the master kills the worker. */
static uint64_t farewell_ns(void)
{
    uint64_t limit_ns = worker.seed->config->graceful_timeout_ms * NS_PER_MS;
    return limit_ns / 2 < FAREWELL_NS ? limit_ns / 2 : FAREWELL_NS;
}

static void end_taken_sockets(void)
{
    if (!worker.leave_by_ns || worker.said_farewell ||
        now_ns() + farewell_ns() < worker.leave_by_ns)
        return;
    worker.said_farewell = true;
    unsigned count = turns_shut_taken(&worker.pool.turns);
    if (count > 0)
        log_info("graceful-timeout is nearly over: %u socket%s that the application has taken over "
                 "%s shut down",
                 count, count == 1 ? "" : "s", count == 1 ? "is" : "are");
}

static void on_tick(struct ev_loop *loop, ev_timer *watcher, int events)
{
    (void)loop;
    (void)watcher;
    (void)events;
    logfile_follow(); /* so that what the application prints goes to the reopened files too */
    log_say_left_out();
    watch_note_loop();
    keep_signals();
    sweep(&worker.table, now_ms());
    end_taken_sockets();
    intake_shed_pipe(&worker.table);
    age_look(&worker.age, worker.seed->board, worker.seed->slot);
    pool_refuse_behind_stuck(&worker.pool);
    pool_refuse_late(&worker.pool);
    if (!worker.table.draining)
        tracer_look();
    lag_send(&worker.pool.lags);
    relieve();
    if (worker.table.draining && !atomic_load(&worker.seed->board->stopping))
        balance_drain(&worker.balance);
    stop_when_drained();
    if (may_accept())
        accept_again();
}

static void on_bell(struct ev_loop *loop, ev_async *watcher, int events)
{
    (void)loop;
    (void)watcher;
    (void)events; /* nothing to do: ev_run returns, and the leader looks at its queues */
}

static void on_signalled(struct ev_loop *loop, ev_io *watcher, int events)
{
    char numbers[256];
    (void)loop;
    (void)events;
    while (read(watcher->fd, numbers, sizeof(numbers)) > 0)
        continue;
    pool_signalled(&worker.pool);
}

/* Without it a handler would run only with the next request, since an idle worker runs no Python.
 */
static void watch_python_signals(void)
{
    if (pipe2(worker.signal_pipe, O_NONBLOCK | O_CLOEXEC) < 0) {
        log_critical("the pipe of the signals cannot be made: %s", strerror(errno));
        _exit(EXIT_CRASH);
    }
    ev_io_init(&worker.signalled, on_signalled, worker.signal_pipe[0], EV_READ);
    ev_io_start(worker.table.loop, &worker.signalled);
    python_watch_signals(worker.signal_pipe[1]);
    python_run_handlers(); /* of one that has come before */
}

/* inbox.c needs libev's epoll descriptor, and libev has no call for it: it is the first epoll
 * descriptor with a number above `after`, since open_loop has just created it. */
static int next_epoll_fd(int after)
{
    char path[64], target[64];
    for (int fd = after + 1; fd < 65536; fd++) {
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        ssize_t len = readlink(path, target, sizeof(target) - 1);
        if (len < 0)
            continue;
        target[len] = '\0';
        if (strcmp(target, "anon_inode:[eventpoll]") == 0)
            return fd;
    }
    return -1;
}

/* What libev prints its errors to; llhttp would, if it ever did: see the Makefile. */
FILE *libev_stderr;

static void open_loop(void)
{
    libev_stderr = stderr;
    int lowest = open("/dev/null", O_RDONLY | O_CLOEXEC); /* the lowest number that is free */
    close(lowest);
    worker.table.loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    worker.table.epoll_fd = next_epoll_fd(lowest - 1);
    if (!worker.table.loop || worker.table.epoll_fd < 0) {
        log_critical("the event loop cannot be made: %s", strerror(errno));
        _exit(EXIT_CRASH);
    }
}

static void watch_listeners(void)
{
    const struct listeners *listeners = worker.seed->listeners;
    worker.acceptors = xcalloc(listeners->count, sizeof(*worker.acceptors));
    worker.backlogs = xcalloc(listeners->count, sizeof(*worker.backlogs));
    backlog_init(worker.backlogs, listeners);
    worker.netlink_fd = fds_spare(backlog_open(listeners));
    for (size_t i = 0; i < listeners->count; i++) {
        struct acceptor *acceptor = &worker.acceptors[i];
        acceptor->listener = (unsigned)i;
        acceptor->watcher.data = acceptor;
        ev_io_init(&acceptor->watcher, on_acceptable, listeners->items[i].fd, EV_READ);
        acceptor->watcher.data = acceptor;
    }
    worker.listening = true;
    set_accepting(true);
}

static void watch(void)
{
    struct ev_loop *loop = worker.table.loop;
    ev_signal_init(&worker.on_term, on_term, SIGTERM);
    ev_signal_start(loop, &worker.on_term);
    ev_signal_init(&worker.on_quit, on_quit, SIGQUIT);
    ev_signal_start(loop, &worker.on_quit);
    (void)sigaction(SIGTERM, NULL, &worker.heard);
    ev_async_init(&worker.bell, on_bell);
    ev_async_start(loop, &worker.bell);
    ev_timer_init(&worker.tick, on_tick, TICK_S, TICK_S);
    ev_timer_start(loop, &worker.tick);
    ev_prepare_init(&worker.before_sleep, on_before_sleep);
    ev_prepare_start(loop, &worker.before_sleep);
    ev_timer_init(&worker.accept_pause, on_accept_pause_end, ACCEPT_PAUSE_S, 0.);
    ev_timer_init(&worker.last_call, on_last_call, LISTEN_LAST_CALL_MS / 1000.,
                  LISTEN_LAST_CALL_MS / 1000.);
    leads_set(true);
    balance_init(&worker.balance, &worker.table, worker.seed);
    ev_io_init(&worker.inbox, on_inbox, worker.seed->inboxes[worker.seed->slot].read_fd, EV_READ);
    ev_io_start(loop, &worker.inbox);
    ev_io_init(&worker.lifeline, on_lifeline, worker.seed->lifeline_fd, EV_READ);
    ev_io_start(loop, &worker.lifeline);
    watch_python_signals();
    watch_listeners();
}

static struct access_format *compile_access_format(const struct config *config)
{
    char *error = NULL;
    if (!config->access_logfile)
        return NULL;
    struct access_format *format = access_compile(config->access_logformat, &error);
    assert(format); /* checked at start */
    return format;
}

static void set_connection_limit(void)
{
    unsigned wanted = worker.seed->config->worker_connections;
    unsigned room = fds_for_clients(worker.seed->config->threads);
    if (wanted > room)
        log_warning("worker-connections is %u, but RLIMIT_NOFILE leaves room for %u", wanted, room);
    worker.table.room = room;
    worker.table.limit = wanted && wanted < room ? wanted : room;
}

static void set_serving(const struct config *config)
{
    struct serving *serving = &worker.serving;
    struct conn_table *table = &worker.table;
    *serving = (struct serving){
        .config = config,
        .limits = {.request_line_bytes = config->limit_request_line_bytes,
                   .field_bytes = config->limit_request_field_size_bytes,
                   .head_bytes = 65536,
                   .fields = config->limit_request_fields,
                   .body_bytes = config->limit_request_body_bytes,
                   .body_memory_bytes = config->body_buffer_bytes,
                   .tmp_dir = scratch_place()->dir,
                   .bodies = &table->bodies},
        .access = compile_access_format(config),
        .exclude =
            exclude_compile(config->access_log_exclude.items, config->access_log_exclude.count),
        .worker = worker.seed->slot + 1,
        .board = &worker.seed->board->worker[worker.seed->slot],
        .ledger = config->observe ? worker.seed->board->ledger : NULL,
    };
    const char *wrong = forwarded_parse(&serving->trust, config->forwarded_allow_ips);
    assert(!wrong); /* checked at start */
}

static void set_table(const struct config *config)
{
    struct conn_table *table = &worker.table;
    table->serving = &worker.serving;
    table->bodies.memory_max_bytes = 4 * config->body_buffer_bytes > BODIES_MEMORY_BYTES
                                         ? 4 * config->body_buffer_bytes
                                         : BODIES_MEMORY_BYTES;
    table->bodies.memfd_max_bytes = scratch_place()->memory_bytes;
    table->exchanges.spills =
        (struct spill_budget){.tmp_dir = scratch_place()->dir,
                              .answer_max_bytes = config->limit_response_file_bytes,
                              .max_bytes = scratch_answers_bytes(config)};
    exchange_init(&table->exchanges, &worker.serving.limits, &worker.pool.trash);
    TAILQ_INIT(&table->evictable);
    TAILQ_INIT(&table->transferring);
    TAILQ_INIT(&table->readable);
    TAILQ_INIT(&table->parked);
    age_begin(&worker.age, worker.seed);
}

/* Frees what worker_main has built. */
static void take_apart(void)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* libev restores the default actions */
    ev_signal_stop(worker.table.loop, &worker.on_term);
    ev_signal_stop(worker.table.loop, &worker.on_quit);
    (void)process_take_signals(false);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    python_watch_signals(-1);
    close(worker.signal_pipe[0]);
    close(worker.signal_pipe[1]);
    watch_stop();
    collector_begin(NULL, 0);
    sampler_stop();
    tracer_join();
    sampler_join();
    exchange_free_all(&worker.table.exchanges);
    intake_close_pipe();
    pool_fini(&worker.pool);
    ev_loop_destroy(worker.table.loop);
    free(worker.acceptors);
    free(worker.backlogs);
    if (worker.netlink_fd >= 0)
        close(worker.netlink_fd);
    access_free(worker.serving.access);
    exclude_free(worker.serving.exclude);
    forwarded_fini(&worker.serving.trust);
}

void worker_prepare(const struct config *config)
{
    scratch_find(config);
    roots_load(config);
    if (roots_any())
        types_load();
}

/* By how much its memory has changed is told from here on. */
static void note_beginning(struct board_worker *board)
{
    struct usage usage = {0};
    if (worker.seed->config->control)
        usage = usage_read(getpid());
    atomic_store(&board->beginning.requests, atomic_load(&board->requests));
    atomic_store(&board->beginning.private_bytes, usage.private_bytes);
    atomic_store(&board->beginning.of_mold_bytes, usage.still_shared_bytes);
}

struct worker_promotion worker_main(const struct worker_seed *seed)
{
    struct board_worker *board = &seed->board->worker[seed->slot];
    memset(&worker, 0, sizeof(worker)); /* left over from a mold that was a worker */
    worker.seed = seed;
    ledger_begin(seed->board->ledger, seed->slot);
    trace_start();
    costs_start(seed->board);
    collector_begin(seed->board, seed->slot);
    atomic_store(&seed->board->observed->is_set, seed->config->observe);
    atomic_store(&seed->board->observed->steady_hz, seed->config->profile_rate);
    tracer_begin(seed->board, seed->slot);
    pages_begin(seed->config->observe && seed->config->preload
                    ? &board_mold(seed->board, seed->generation)->hints
                    : NULL);
    fds_fill_streams(); /* the application may have closed some at import */
    set_serving(seed->config);
    set_table(seed->config);
    scratch_say(seed);
    open_loop();
    pool_init(&worker.pool, &worker.table, &worker.balance, board,
              board_seat(seed->board, seed->slot, 0), seed->config->threads);
    worker.pool.bell = &worker.bell;
    worker.pool.accept = accept_newcomer;
    worker.pool.count_waiting = count_newcomers;
    watch();
    watch_start(&worker.pool.turns, seed->config, seed->board, seed->slot);
    sampler_start(&worker.pool.turns, seed->config, seed->board, seed->slot);
    set_connection_limit();
    note_beginning(board);
    uint32_t starting = BOARD_WORKER_STARTING;
    if (!atomic_compare_exchange_strong(&board->state, &starting, BOARD_WORKER_SERVING))
        _exit(EXIT_OK); /* the master has called this worker off (book_call_off_slot) */
    board_ring(seed->board);
    set_title("serving");

    pool_serve(&worker.pool);
    assert(worker.table.count == 0);
    take_apart();
    if (worker.promotion.generation == 0)
        worker_end();
    return worker.promotion;
}

/* The master gives the slot to another worker as soon as it sees that this one ends. */
void worker_end(void)
{
    struct board_worker *board = &worker.seed->board->worker[worker.seed->slot];
    uint32_t end = atomic_load(&board->drains_for); /* before the slot is another worker's */
    if (end == BOARD_END_CRASH || end >= BOARD_END_COUNT)
        end = BOARD_END_STOP; /* the master has crashed, and told nothing */
    set_title("ending");
    atomic_store(&board->state, BOARD_WORKER_ENDING);
    board_ring(worker.seed->board);
    ending_leave(EXIT_OK, worker.leave_by_ns, board_end_names[end]);
}
