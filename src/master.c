/* master.c: starts, replaces and ends the mold and the workers.
 *
 * Owns the listening sockets, the board, the inboxes, and one book (struct master) of who is
 * alive, for what, and until when. The book is private: a child can spoil the board but not
 * what the master believes, and a pid from the board is taken only if the kernel says that it
 * is a child of ours.
 *
 * One round of the loop: wait for a signal, the bell or the next deadline; write into the book
 * what happened; then settle(): compare the book with what should be, and take the steps that
 * are due. Nothing else orders or drains workers, so that crashes, reloads and changes of
 * their number all go the same way.
 *
 * Never runs Python, never reads a request, never waits for a child. */
#include "master.h"

#include "board.h"
#include "buf.h"
#include "config.h"
#include "listen.h"
#include "log.h"
#include "mold.h"
#include "process.h"
#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define NEVER            UINT64_MAX
#define QUICK_STOP_MS    1000 /* for a worker to leave by itself */
#define PROVEN_MS        1000 /* a worker that served this long did not fail at start */
#define FIRST_DELAY_MS   100  /* before the second retry; the first is at once */
#define LONGEST_DELAY_MS 10000
#define LATE_MS          5000 /* no load delays our loop so long: we were suspended */
#define START_TRIES      3
#define STRANGERS_MAX    64

enum slot_state {
    SLOT_EMPTY,
    SLOT_ORDERED,  /* the mold was told; no pid yet */
    SLOT_STARTING, /* forked */
    SLOT_SERVING,
    SLOT_DRAINING, /* told to leave */
};

struct slot {
    enum slot_state state;
    pid_t pid; /* 0 while EMPTY or ORDERED */
    uint32_t generation;
    bool proven;          /* served for PROVEN_MS */
    uint64_t deadline_ms; /* of its state; see slot_is_late */
};

enum mold_state {
    MOLD_NONE,
    MOLD_LOADING,
    MOLD_READY,
    MOLD_ENDING, /* told to leave, or killed */
};

struct mold {
    enum mold_state state;
    pid_t pid;
    int order_fd; /* -1: closed */
    uint32_t generation;
    uint64_t deadline_ms;
};

/* Retries: the first at once, then ever later. */
struct delay {
    unsigned failures;
    uint64_t not_before_ms;
};

enum stop { STOP_NOT, STOP_GRACEFUL, STOP_QUICK };

/* A child that was reaped before we knew what it was. */
struct stranger {
    pid_t pid;
    int status;
};

struct master {
    const struct config *config;
    struct listeners listeners;
    char *names; /* of the listeners, for the log; owned */
    struct board *board;
    struct worker_inbox *inboxes;
    int signal_fd;
    int lifeline_fds[2]; /* read end for the others; nobody else may keep the write end */

    struct slot *slots; /* [board->workers] */
    unsigned wanted;    /* workers */
    struct delay orders;
    struct mold molds[2];   /* by generation % 2 */
    uint32_t generation;    /* of the mold that orders go to; 0: there was none yet */
    uint32_t oldest;        /* workers of older generations are outdated */
    uint32_t oldest_before; /* what to go back to when the trial fails */
    struct delay mold_starts;
    bool trial;         /* no worker of `generation` has served yet */
    bool reload_wanted; /* HUP came */
    bool reloading;     /* the mold that loads, or is on trial, is a reload */
    bool replacing;     /* a reload succeeded, and outdated workers are still there */
    bool served;        /* some worker has: the start was good */
    enum stop stop;
    int exit_status;
    struct stranger strangers[STRANGERS_MAX];
    unsigned strangers_seen;
};

/* ---- the book ---- */

static unsigned number_of(const struct master *m, const struct slot *s)
{
    return (unsigned)(s - m->slots) + 1;
}

static struct board_worker *board_of(const struct master *m, const struct slot *s)
{
    return &m->board->worker[s - m->slots];
}

static struct mold *current_mold(struct master *m)
{
    return &m->molds[m->generation % 2];
}

/* The one that loads; during the trial the one before, kept to go back to. */
static struct mold *other_mold(struct master *m)
{
    return &m->molds[(m->generation + 1) % 2];
}

static bool is_outdated(const struct master *m, const struct slot *s)
{
    return s->generation < m->oldest || s->generation > m->generation;
}

static void count_failure(struct delay *d)
{
    d->failures++;
    uint64_t wait_ms = 0;
    if (d->failures > 1)
        wait_ms = FIRST_DELAY_MS << (d->failures - 2 < 10 ? d->failures - 2 : 10);
    if (wait_ms > LONGEST_DELAY_MS)
        wait_ms = LONGEST_DELAY_MS;
    d->not_before_ms = now_ms() + wait_ms;
}

/* "signal 11 (SIGSEGV)" or "exit status 1"; valid until the next call. */
static const char *status_text(int status)
{
    static char text[64];
    if (WIFSIGNALED(status)) {
        const char *name = sigabbrev_np(WTERMSIG(status));
        snprintf(text, sizeof text, "signal %d (SIG%s)%s", WTERMSIG(status), name ? name : "?",
                 WCOREDUMP(status) ? ", core dumped" : "");
    } else {
        snprintf(text, sizeof text, "exit status %d", WEXITSTATUS(status));
    }
    return text;
}

/* ---- ending ---- */

static void end_mold(struct mold *mold, int number, uint64_t deadline_ms)
{
    if (mold->state == MOLD_NONE)
        return;
    if (mold->order_fd >= 0)
        close(mold->order_fd);
    mold->order_fd = -1;
    mold->state = MOLD_ENDING;
    mold->deadline_ms = deadline_ms;
    kill(mold->pid, number);
}

static void drain_slot(struct slot *s, int number, uint64_t limit_ms)
{
    assert(s->pid > 0); /* 0 would be our whole process group */
    s->state = SLOT_DRAINING;
    s->deadline_ms = now_ms() + limit_ms;
    kill(s->pid, number);
}

static void begin_stop(struct master *m)
{
    /* Before any worker is told to leave: it reads there whether others will go on. */
    atomic_store(&m->board->stopping, true);
    /* Nobody who connects from now on would be answered: let the kernel say so. */
    listen_close(&m->listeners, true);
}

static void stop_gracefully(struct master *m)
{
    uint64_t deadline_ms = now_ms() + m->config->graceful_timeout_ms;
    log_info("stopping");
    begin_stop(m);
    m->stop = STOP_GRACEFUL;
    for (unsigned i = 0; i < ARRAY_LEN(m->molds); i++) {
        bool loading = m->molds[i].state == MOLD_LOADING;
        end_mold(&m->molds[i], loading ? SIGKILL : SIGTERM, deadline_ms);
    }
}

static void stop_quickly(struct master *m)
{
    if (m->stop == STOP_NOT) {
        log_info("stopping at once");
        begin_stop(m);
    } else {
        log_info("stopping at once, not waiting any longer");
    }
    m->stop = STOP_QUICK;
    for (unsigned i = 0; i < ARRAY_LEN(m->molds); i++)
        end_mold(&m->molds[i], SIGKILL, NEVER);
    for (unsigned i = 0; i < m->board->workers; i++)
        if (m->slots[i].pid > 0)
            drain_slot(&m->slots[i], SIGQUIT, QUICK_STOP_MS);
}

static void on_stop_signal(struct master *m, bool quick)
{
    if (m->stop == STOP_NOT && !quick)
        stop_gracefully(m);
    else if (m->stop != STOP_QUICK)
        stop_quickly(m);
}

static void refuse_to_start(struct master *m, enum exit_status status, const char *why)
{
    log_critical("cannot start: %s", why);
    m->exit_status = (int)status;
    stop_quickly(m);
}

/* Why a mold that ended with `status` did not load the application; it said more itself. */
static const char *load_failure(int status)
{
    static char text[128];
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_CONFIG)
        return "Python did not start";
    if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_APP)
        return "the application could not be loaded";
    snprintf(text, sizeof text, "the mold died while it loaded the application: %s",
             status_text(status));
    return text;
}

/* ---- generations ---- */

/* The trial of a new mold is over: its workers serve. */
static void end_trial(struct master *m)
{
    const struct config *c = m->config;
    m->trial = false;
    m->mold_starts = (struct delay){0};
    current_mold(m)->deadline_ms = NEVER;
    end_mold(other_mold(m), SIGTERM, now_ms() + QUICK_STOP_MS);
    if (!m->served)
        log_info("ready: serving %s with %u worker%s of %u thread%s on %s", c->app, m->wanted,
                 m->wanted == 1 ? "" : "s", c->threads, c->threads == 1 ? "" : "s", m->names);
    else if (m->reloading)
        log_info("reload: generation %u serves, replacing the workers before it", m->generation);
    m->replacing = m->replacing || m->reloading;
    m->served = true;
    m->reloading = false;
}

/* A mold or its first worker failed before the trial was over. */
static void fail_trial(struct master *m, const char *why)
{
    end_mold(current_mold(m), SIGKILL, NEVER);
    if (!m->served) {
        refuse_to_start(m, EXIT_APP, why);
        return;
    }
    log_error("reload failed: %s; generation %u goes on", why, m->generation - 1);
    m->generation--;
    m->oldest = m->oldest_before;
    m->trial = false;
    m->reloading = false;
    m->orders = (struct delay){0};
}

static void adopt_mold(struct master *m, struct mold *mold)
{
    mold->state = MOLD_READY;
    m->generation = mold->generation;
    m->trial = true;
    m->orders = (struct delay){0};
    if (m->reloading) {
        m->oldest_before = m->oldest;
        m->oldest = mold->generation;
    } else if (m->served) {
        mold->deadline_ms = NEVER; /* no workers are missing, so none may ever be ordered */
    }
}

static void on_load_failed(struct master *m, int status)
{
    if (!m->served) {
        bool config = WIFEXITED(status) && WEXITSTATUS(status) == EXIT_CONFIG;
        refuse_to_start(m, config ? EXIT_CONFIG : EXIT_APP, load_failure(status));
        return;
    }
    count_failure(&m->mold_starts);
    if (m->reloading)
        log_error("reload failed: %s; generation %u goes on", load_failure(status), m->generation);
    else
        log_error("no new mold: %s; the workers go on", load_failure(status));
    m->reloading = false;
}

/* ---- deaths ---- */

static void clear_slot(struct master *m, struct slot *s)
{
    struct board_worker *shown = board_of(m, s);
    *s = (struct slot){.state = SLOT_EMPTY, .deadline_ms = NEVER};
    atomic_store(&shown->state, BOARD_WORKER_EMPTY);
    atomic_store(&shown->free_threads, 0);
    atomic_store(&shown->connections, 0);
    for (unsigned i = 0; i < m->board->threads; i++)
        atomic_store(&board_thread(m->board, (unsigned)(s - m->slots), i)->phase, BOARD_IDLE);
}

static void on_start_failure(struct master *m, uint32_t generation)
{
    count_failure(&m->orders);
    if (!m->trial || generation != m->generation)
        return;
    if (m->reloading)
        fail_trial(m, "its first worker died at start");
    else if (!m->served && m->orders.failures >= START_TRIES)
        fail_trial(m, "no worker lives long enough to serve");
}

static void on_worker_exit(struct master *m, struct slot *s, int status)
{
    bool told = s->state == SLOT_DRAINING;
    bool failed = !told && !s->proven;
    uint32_t generation = s->generation;
    /* A worker that was told to leave and is killed late is a warning already. */
    if (told && (WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0))
        log_info("worker %u (pid %d) left", number_of(m, s), s->pid);
    else
        log_error("worker %u (pid %d) died: %s", number_of(m, s), s->pid, status_text(status));
    clear_slot(m, s);
    if (failed && m->stop == STOP_NOT)
        on_start_failure(m, generation);
}

/* The mold of these orders is gone. A middle process may live on: whoever comes first, it or
 * we, decides by the slot's pid whether there is a worker. */
static void give_up_orders(struct master *m, uint32_t generation)
{
    for (unsigned i = 0; i < m->board->workers; i++) {
        struct slot *s = &m->slots[i];
        int32_t none = 0;
        if (s->state == SLOT_ORDERED && s->generation == generation)
            atomic_compare_exchange_strong(&board_of(m, s)->pid, &none, -1);
    }
}

static void on_mold_exit(struct master *m, struct mold *mold, int status)
{
    enum mold_state before = mold->state;
    bool current = mold == current_mold(m);
    pid_t pid = mold->pid;
    if (mold->order_fd >= 0)
        close(mold->order_fd);
    give_up_orders(m, mold->generation);
    mold->state = MOLD_NONE;
    mold->pid = 0;
    mold->order_fd = -1;
    mold->deadline_ms = NEVER;
    if (before == MOLD_ENDING)
        return;
    if (before == MOLD_LOADING) {
        on_load_failed(m, status);
        return;
    }
    log_error("the mold (pid %d) died: %s", pid, status_text(status));
    count_failure(&m->mold_starts);
    if (current && m->trial && (m->reloading || !m->served))
        fail_trial(m, "the mold died before a worker served");
}

static void remember_stranger(struct master *m, pid_t pid, int status)
{
    m->strangers[m->strangers_seen++ % STRANGERS_MAX] = (struct stranger){pid, status};
}

/* Besides our own, orphans of the application become our children: those are only reaped. */
static void on_child_exit(struct master *m, pid_t pid, int status)
{
    for (unsigned i = 0; i < ARRAY_LEN(m->molds); i++)
        if (m->molds[i].pid == pid) {
            on_mold_exit(m, &m->molds[i], status);
            return;
        }
    for (unsigned i = 0; i < m->board->workers; i++)
        if (m->slots[i].pid == pid) {
            on_worker_exit(m, &m->slots[i], status);
            return;
        }
    remember_stranger(m, pid, status);
}

static void reap(struct master *m)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        on_child_exit(m, pid, status);
}

/* ---- what the board says ---- */

static bool is_known(const struct master *m, pid_t pid)
{
    bool known = pid == m->molds[0].pid || pid == m->molds[1].pid;
    for (unsigned i = 0; i < m->board->workers && !known; i++)
        known = m->slots[i].pid == pid;
    return known;
}

/* Not yet while the middle process, its parent, is on its way out. */
static bool is_our_child(pid_t pid)
{
    siginfo_t info;
    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

/* It lived so short that it was reaped before its slot was read. */
static void bury_stranger(struct master *m, struct slot *s, pid_t pid)
{
    if (kill(pid, 0) == 0)
        return; /* it lives, below the middle process; its number was a stranger's before */
    for (unsigned i = 0; i < STRANGERS_MAX; i++)
        if (m->strangers[i].pid == pid) {
            int status = m->strangers[i].status;
            m->strangers[i].pid = 0;
            s->pid = pid;
            on_worker_exit(m, s, status);
            return;
        }
}

static void adopt_worker(struct master *m, struct slot *s)
{
    pid_t pid = atomic_load(&board_of(m, s)->pid);
    if (pid == 0)
        return;
    if (pid < 0) {
        uint32_t generation = s->generation;
        clear_slot(m, s);
        if (m->stop == STOP_NOT)
            on_start_failure(m, generation);
    } else if (!is_known(m, pid) && is_our_child(pid)) {
        s->pid = pid;
        s->state = SLOT_STARTING;
        atomic_fetch_add(&board_of(m, s)->spawns, 1);
    } else {
        bury_stranger(m, s, pid);
    }
}

static void on_worker_serves(struct master *m, struct slot *s)
{
    s->state = SLOT_SERVING;
    s->deadline_ms = now_ms() + PROVEN_MS;
    log_info("worker %u (pid %d) serves", number_of(m, s), s->pid);
    if (m->trial && s->generation == m->generation)
        end_trial(m);
}

/* What it claims is checked: see adopt_worker. */
static void read_board(struct master *m)
{
    struct mold *loading = other_mold(m);
    if (loading->state == MOLD_LOADING &&
        atomic_load(&m->board->molds[loading->generation % 2].state) == BOARD_MOLD_READY)
        adopt_mold(m, loading);
    for (unsigned i = 0; i < m->board->workers; i++) {
        struct slot *s = &m->slots[i];
        if (s->state == SLOT_ORDERED)
            adopt_worker(m, s);
        if (s->state == SLOT_STARTING && m->stop == STOP_NOT &&
            atomic_load(&board_of(m, s)->state) == BOARD_WORKER_SERVING)
            on_worker_serves(m, s);
    }
}

/* ---- deadlines ---- */

/* A mold that forks nothing is of no use, and its end brings another. */
static void on_order_late(struct master *m, struct slot *s)
{
    struct mold *mold = &m->molds[s->generation % 2];
    if (mold->state == MOLD_NONE || mold->generation != s->generation) {
        clear_slot(m, s);
        return;
    }
    log_error("the mold does not fork worker %u: killing the mold", number_of(m, s));
    kill(mold->pid, SIGKILL);
}

static void slot_is_late(struct master *m, struct slot *s)
{
    s->deadline_ms = NEVER;
    switch (s->state) {
    case SLOT_EMPTY:
        break;
    case SLOT_ORDERED:
        on_order_late(m, s);
        break;
    case SLOT_STARTING:
        log_error("worker %u (pid %d) does not get ready: killing it", number_of(m, s), s->pid);
        kill(s->pid, SIGKILL);
        break;
    case SLOT_SERVING:
        s->proven = true;
        m->orders = (struct delay){0};
        break;
    case SLOT_DRAINING:
        log_warning("worker %u (pid %d) did not finish in time: killing it", number_of(m, s),
                    s->pid);
        kill(s->pid, SIGKILL);
        break;
    }
}

static void mold_is_late(struct master *m, struct mold *mold)
{
    mold->deadline_ms = NEVER;
    switch (mold->state) {
    case MOLD_NONE:
        break;
    case MOLD_LOADING:
        log_error("the application is not loaded within the startup-timeout: killing the mold");
        kill(mold->pid, SIGKILL);
        break;
    case MOLD_READY:
        fail_trial(m, "no worker serves within the startup-timeout");
        break;
    case MOLD_ENDING:
        kill(mold->pid, SIGKILL);
        break;
    }
}

static void meet_deadlines(struct master *m)
{
    uint64_t now = now_ms();
    for (unsigned i = 0; i < m->board->workers; i++)
        if (m->slots[i].deadline_ms <= now)
            slot_is_late(m, &m->slots[i]);
    for (unsigned i = 0; i < ARRAY_LEN(m->molds); i++)
        if (m->molds[i].deadline_ms <= now)
            mold_is_late(m, &m->molds[i]);
}

static void earlier(uint64_t *deadline_ms, uint64_t other_ms)
{
    if (other_ms < *deadline_ms)
        *deadline_ms = other_ms;
}

static uint64_t next_deadline(const struct master *m)
{
    uint64_t next = NEVER, now = now_ms();
    for (unsigned i = 0; i < m->board->workers; i++)
        earlier(&next, m->slots[i].deadline_ms);
    for (unsigned i = 0; i < ARRAY_LEN(m->molds); i++)
        earlier(&next, m->molds[i].deadline_ms);
    if (m->orders.not_before_ms > now)
        earlier(&next, m->orders.not_before_ms);
    if (m->mold_starts.not_before_ms > now)
        earlier(&next, m->mold_starts.not_before_ms);
    return next;
}

/* We were stopped or suspended, and so, perhaps, were the others: nobody is late for that. */
static void push_deadlines(struct master *m, uint64_t by_ms)
{
    for (unsigned i = 0; i < m->board->workers; i++)
        if (m->slots[i].deadline_ms != NEVER)
            m->slots[i].deadline_ms += by_ms;
    for (unsigned i = 0; i < ARRAY_LEN(m->molds); i++)
        if (m->molds[i].deadline_ms != NEVER)
            m->molds[i].deadline_ms += by_ms;
}

/* ---- the steps that are due ---- */

static NORETURN void become_mold(const struct master *m, uint32_t generation, int order_fd)
{
    close(m->signal_fd);
    close(m->lifeline_fds[1]);
    for (unsigned i = 0; i < ARRAY_LEN(m->molds); i++)
        if (m->molds[i].order_fd >= 0)
            close(m->molds[i].order_fd);
    struct worker_seed seed = {
        .config = m->config,
        .listeners = (struct listeners *)&m->listeners,
        .board = m->board,
        .inboxes = m->inboxes,
        .generation = generation,
        .lifeline_fd = m->lifeline_fds[0],
    };
    mold_main(&seed, order_fd);
}

static void on_mold_not_forked(struct master *m)
{
    log_error("%scannot start a mold: %s", m->reloading ? "reload failed: " : "", strerror(errno));
    count_failure(&m->mold_starts);
    m->reloading = false;
}

static void start_mold(struct master *m)
{
    uint32_t generation = m->generation + 1;
    m->reloading = m->reload_wanted && m->served;
    m->reload_wanted = false;
    int order_fds[2];
    if (pipe2(order_fds, O_CLOEXEC) != 0) {
        on_mold_not_forked(m);
        return;
    }
    fcntl(order_fds[1], F_SETFL, O_NONBLOCK);
    atomic_store(&m->board->molds[generation % 2].state, BOARD_MOLD_LOADING);
    pid_t pid = fork();
    if (pid == 0) {
        close(order_fds[1]);
        become_mold(m, generation, order_fds[0]);
    }
    close(order_fds[0]);
    if (pid < 0) {
        close(order_fds[1]);
        on_mold_not_forked(m);
        return;
    }
    *other_mold(m) = (struct mold){MOLD_LOADING, pid, order_fds[1], generation,
                                   now_ms() + m->config->startup_timeout_ms};
}

static void settle_molds(struct master *m)
{
    if (m->reload_wanted && other_mold(m)->state == MOLD_LOADING)
        end_mold(other_mold(m), SIGKILL,
                 NEVER); /* it may have read the code before the last change */
    /* A trial that may end by going back needs the other place for the mold to go back to. */
    bool busy = other_mold(m)->state != MOLD_NONE || (m->trial && (m->reloading || !m->served));
    if (busy)
        return;
    bool missing = current_mold(m)->state == MOLD_NONE && now_ms() >= m->mold_starts.not_before_ms;
    if (m->reload_wanted)
        log_info("reloading");
    if (m->reload_wanted || missing)
        start_mold(m);
}

struct tally {
    unsigned alive;    /* all */
    unsigned active;   /* not draining */
    unsigned fresh;    /* active and not outdated */
    unsigned starting; /* ordered or starting, not outdated */
    unsigned serving;
    unsigned outdated;
};

static struct tally count(const struct master *m)
{
    struct tally t = {0};
    for (unsigned i = 0; i < m->board->workers; i++) {
        const struct slot *s = &m->slots[i];
        if (s->state == SLOT_EMPTY)
            continue;
        bool active = s->state != SLOT_DRAINING, outdated = is_outdated(m, s);
        t.alive++;
        t.active += active;
        t.fresh += active && !outdated;
        t.starting += active && !outdated && s->state != SLOT_SERVING;
        t.serving += s->state == SLOT_SERVING;
        t.outdated += outdated;
    }
    return t;
}

static bool may_order(struct master *m, const struct tally *t)
{
    if (current_mold(m)->state != MOLD_READY || now_ms() < m->orders.not_before_ms)
        return false;
    /* While it is not known that workers can start at all, one tries. */
    if (t->starting > 0 && (m->trial || m->orders.failures > 0))
        return false;
    if (t->active < m->wanted)
        return true;
    return t->fresh < m->wanted && t->alive <= m->wanted;
}

static bool order_worker(struct master *m)
{
    struct mold *mold = current_mold(m);
    for (unsigned i = 0; i < m->board->workers; i++) {
        struct slot *s = &m->slots[i];
        if (s->state != SLOT_EMPTY)
            continue;
        atomic_store(&m->board->worker[i].pid, 0);
        struct mold_order order = {.slot = i};
        if (write(mold->order_fd, &order, sizeof order) != (ssize_t)sizeof order)
            return false; /* EPIPE: it is dead, SIGCHLD is on its way */
        *s = (struct slot){.state = SLOT_ORDERED,
                           .generation = mold->generation,
                           .deadline_ms = now_ms() + m->config->startup_timeout_ms};
        return true;
    }
    return false;
}

/* The one to do without: an outdated one, else that with the highest number. */
static struct slot *pick_superfluous(struct master *m)
{
    struct slot *pick = NULL;
    for (unsigned i = 0; i < m->board->workers; i++) {
        struct slot *s = &m->slots[i];
        if (s->state == SLOT_SERVING &&
            (pick == NULL || is_outdated(m, s) || !is_outdated(m, pick)))
            pick = s;
    }
    return pick;
}

static void settle_workers(struct master *m)
{
    struct tally t = count(m);
    for (; may_order(m, &t) && order_worker(m); t = count(m))
        continue;
    for (; t.serving > m->wanted; t = count(m))
        drain_slot(pick_superfluous(m), SIGTERM, m->config->graceful_timeout_ms);
    for (unsigned i = 0; i < m->board->workers && !m->trial; i++)
        if (m->slots[i].state == SLOT_STARTING && is_outdated(m, &m->slots[i]))
            drain_slot(&m->slots[i], SIGKILL, QUICK_STOP_MS);
    if (m->replacing && !m->trial && t.outdated == 0) {
        log_info("reloaded: all workers are of generation %u", m->generation);
        m->replacing = false;
    }
}

static void settle_stop(struct master *m)
{
    bool quick = m->stop == STOP_QUICK;
    for (unsigned i = 0; i < m->board->workers; i++) {
        struct slot *s = &m->slots[i];
        if (s->state == SLOT_STARTING || s->state == SLOT_SERVING)
            drain_slot(s, quick ? SIGQUIT : SIGTERM,
                       quick ? QUICK_STOP_MS : m->config->graceful_timeout_ms);
    }
}

static void settle(struct master *m)
{
    if (m->stop != STOP_NOT) {
        settle_stop(m);
        return;
    }
    settle_molds(m);
    settle_workers(m);
}

static bool is_over(const struct master *m)
{
    bool over = m->stop != STOP_NOT;
    for (unsigned i = 0; i < ARRAY_LEN(m->molds); i++)
        over = over && m->molds[i].state == MOLD_NONE;
    for (unsigned i = 0; i < m->board->workers; i++)
        over = over && m->slots[i].state == SLOT_EMPTY;
    return over;
}

/* ---- the loop ---- */

static void change_wanted(struct master *m, int by)
{
    unsigned most = m->board->workers - 1;
    if ((by < 0 && m->wanted == 1) || (by > 0 && m->wanted == most)) {
        log_warning("still %u worker%s: the number can go from 1 to %u", m->wanted,
                    m->wanted == 1 ? "" : "s", most);
        return;
    }
    m->wanted = (unsigned)((int)m->wanted + by);
    log_info("now %u worker%s", m->wanted, m->wanted == 1 ? "" : "s");
}

static void on_signal(struct master *m, uint32_t number)
{
    switch (number) {
    case SIGCHLD:
        reap(m);
        break;
    case SIGTERM:
        on_stop_signal(m, false);
        break;
    case SIGINT:
    case SIGQUIT:
        on_stop_signal(m, true);
        break;
    case SIGHUP:
        m->reload_wanted = true;
        break;
    case SIGTTIN:
        change_wanted(m, 1);
        break;
    case SIGTTOU:
        change_wanted(m, -1);
        break;
    }
}

static void take_signals(struct master *m)
{
    struct signalfd_siginfo info;
    while (read(m->signal_fd, &info, sizeof info) == (ssize_t)sizeof info)
        on_signal(m, info.ssi_signo);
}

static void silence_bell(struct master *m)
{
    uint64_t rings;
    ssize_t got = read(m->board->bell_fd, &rings, sizeof rings);
    (void)got;
}

static void wait_for_news(struct master *m)
{
    struct pollfd fds[] = {{m->signal_fd, POLLIN, 0}, {m->board->bell_fd, POLLIN, 0}};
    uint64_t start = now_ms(), due = next_deadline(m);
    uint64_t wait_ms = due > start ? due - start : 0;
    struct timespec timeout = {(time_t)(wait_ms / 1000), (long)(wait_ms % 1000 * NS_PER_MS)};
    ppoll(fds, ARRAY_LEN(fds), due == NEVER ? NULL : &timeout, NULL);
    uint64_t waited_ms = now_ms() - start;
    if (due != NEVER && waited_ms > wait_ms + LATE_MS) {
        log_warning("stopped or suspended for some of the last %.1f s: all deadlines are put off",
                    (double)waited_ms / 1000);
        push_deadlines(m, waited_ms);
    }
}

static void run(struct master *m)
{
    for (settle(m); !is_over(m); settle(m)) {
        wait_for_news(m);
        silence_bell(m);
        take_signals(m);
        read_board(m);
        meet_deadlines(m);
    }
}

/* ---- beginning and end ---- */

static void open_sockets(struct master *m)
{
    const struct config *c = m->config;
    listen_open(&m->listeners, &c->bind, c->backlog, c->socket_mode);
    struct buf names = {0};
    for (size_t i = 0; i < m->listeners.count; i++)
        buf_printf(&names, "%s%s", i > 0 ? ", " : "", m->listeners.items[i].name);
    m->names = xasprintf("%.*s", (int)names.len, names.data);
    buf_fini(&names);
}

static void open_inboxes(struct master *m)
{
    m->inboxes = xcalloc(m->board->workers, sizeof *m->inboxes);
    for (unsigned i = 0; i < m->board->workers; i++) {
        int fds[2];
        if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0)
            die(EXIT_CRASH, "cannot make a socket pair: %s", strerror(errno));
        m->inboxes[i] = (struct worker_inbox){.read_fd = fds[0], .write_fd = fds[1]};
    }
}

/* Slots for TTIN to fill, and one over for replacing. */
static void make_slots(struct master *m)
{
    unsigned asked = m->config->workers;
    unsigned most = asked > 8 ? asked * 2 : asked + 8;
    m->board = board_new(most + 1, m->config->threads);
    m->slots = xcalloc(m->board->workers, sizeof *m->slots);
    for (unsigned i = 0; i < m->board->workers; i++)
        m->slots[i].deadline_ms = NEVER;
    for (unsigned i = 0; i < ARRAY_LEN(m->molds); i++)
        m->molds[i] = (struct mold){.order_fd = -1, .deadline_ms = NEVER};
    m->wanted = asked;
    atomic_store(&m->board->master_pid, getpid());
}

static void take_over_signals(struct master *m)
{
    static const int handled[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGCHLD, SIGTTIN, SIGTTOU};
    sigset_t set;
    sigemptyset(&set);
    for (unsigned i = 0; i < ARRAY_LEN(handled); i++)
        sigaddset(&set, handled[i]);
    process_block_signals(&set);
    /* Sent by habit to servers that reopen logs or upgrade: not a reason to die. */
    signal(SIGUSR1, SIG_IGN);
    signal(SIGUSR2, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    m->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (m->signal_fd < 0)
        die(EXIT_CRASH, "cannot make a signalfd: %s", strerror(errno));
}

static void master_init(struct master *m, const struct config *c)
{
    *m = (struct master){.config = c};
    log_set_process("master");
    log_set_level((enum log_level)c->log_level);
    open_sockets(m);
    int error = log_open(c->error_logfile);
    if (error != 0)
        die(EXIT_CONFIG, "error-logfile: cannot open %s: %s", c->error_logfile, strerror(error));
    make_slots(m);
    open_inboxes(m);
    if (pipe2(m->lifeline_fds, O_CLOEXEC) != 0)
        die(EXIT_CRASH, "cannot make a pipe: %s", strerror(errno));
    process_become_master();
    process_set_title("myserver: master [%s]", c->app);
    take_over_signals(m);
    for (size_t i = 0; i < m->listeners.count; i++)
        log_info("listening on %s", m->listeners.items[i].name);
}

static void master_fini(struct master *m)
{
    for (unsigned i = 0; i < m->board->workers; i++) {
        close(m->inboxes[i].read_fd);
        close(m->inboxes[i].write_fd);
    }
    close(m->lifeline_fds[0]);
    close(m->lifeline_fds[1]);
    close(m->signal_fd);
    free(m->inboxes);
    free(m->slots);
    free(m->names);
    board_free(m->board);
}

int master_run(const struct config *config)
{
    struct master m;
    master_init(&m, config);
    run(&m);
    log_info("stopped");
    master_fini(&m);
    return m.exit_status;
}
