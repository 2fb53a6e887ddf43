/* master.c: starts, replaces and ends the mold and the workers.
 *
 * Owns the listening sockets, the board, the inboxes, the lifeline, and the book: state and
 * deadline of every worker and mold (book.h).
 *
 * One round of the loop: wait for a signal, the bell or the next deadline; write into the book
 * what happened (signals.c, reap.c, upkeep.c); then settle() compares the book with what should be,
 * and takes the steps that are due: the same ones after crashes, at reloads and when TTIN or TTOU
 * came.
 *
 * Never runs Python, never reads a request, never waits for a child. */
#include "master/master.h"

#include "adopt.h"
#include "base/log.h"
#include "base/logfile.h"
#include "book.h"
#include "config/notes.h"
#include "config/origin.h"
#include "config/settings.h"
#include "hang.h"
#include "late.h"
#include "leaver.h"
#include "master/check.h"
#include "mold/mold.h"
#include "mold/reload.h"
#include "pressure.h"
#include "refork.h"
#include "replace.h"
#include "scribe/scribe.h"
#include "shared/board.h"
#include "shared/inbox.h"
#include "shared/order.h"
#include "shared/samples.h"
#include "shared/seed.h"
#include "signals.h"
#include "sizing.h"
#include "stop.h"
#include "system/inherit.h"
#include "system/listen.h"
#include "system/notify.h"
#include "system/privilege.h"
#include "system/process.h"
#include "told.h"
#include "upgrade.h"
#include "upkeep.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* between two looks at connections left in inboxes of workers that have ended */
#define LETTERS_MS   1000
#define MEMORY_EVERY 5    /* looks; for each, the kernel walks all pages of a worker */
#define LATE_MS      5000 /* no load delays the loop by so much: the master was suspended */

/* ---- the steps that are due ---- */

/* In a new child: closes what only the master may hold; the pipes among it tell of its death. */
static void close_own(const struct book *b)
{
    const int fds[] = {b->signal_fd,        b->lifeline_fds[1], b->pidfile.fd,
                       b->upgrade.heard_fd, b->upgrade.tell_fd, b->sources.fd};
    for (unsigned i = 0; i < ARRAY_LEN(fds); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    notify_forget();
    for (unsigned i = 0; i < ARRAY_LEN(b->molds); i++)
        if (b->molds[i].order_fd >= 0)
            close(b->molds[i].order_fd);
    for (unsigned i = 0; i < BOOK_LEAVERS_MAX; i++)
        if (b->leavers[i].pid > 0 && b->leavers[i].order_fd >= 0)
            close(b->leavers[i].order_fd);
}

/* In a child that is not the scribe, which alone reads what is printed. */
static void leave_reading(const struct book *b)
{
    if (b->printed_fd >= 0)
        close(b->printed_fd);
}

/* For die() in a mold: the reason of a failed reload must be in the log. */
static void log_last_words(const char *sentence)
{
    log_error("%s", sentence);
}

static enum seed_cause cause_of(const struct book *b, uint32_t generation)
{
    if (generation == 1)
        return b->upgrade.predecessor > 0 ? SEED_UPGRADE : SEED_START;
    return b->cause == CAUSE_RELOAD ? SEED_RELOAD : SEED_OTHER;
}

static NORETURN void become_mold(const struct book *b, uint32_t generation, int order_fd)
{
    struct control_sockets control = b->control;
    close_own(b);
    leave_reading(b);
    listen_close(&control.http, false);
    listen_close(&control.stats, false);
    static struct config fresh; /* static: the workers forked from this mold use it */
    log_set_process("mold");
    die_through(log_last_words);
    if (b->reread) {
        config_reload_read(&fresh, b->config);
        check_generation(&fresh);
        atomic_store(&board_mold(b->board, generation)->workers, fresh.workers);
        atomic_store(&board_mold(b->board, generation)->workers_min, fresh.workers_min);
    }
    struct worker_seed seed = {
        .config = b->reread ? &fresh : b->config,
        .listeners = (struct listeners *)&b->listeners,
        .board = b->board,
        .inboxes = b->inboxes,
        .generation = generation,
        .cause = cause_of(b, generation),
        .lifeline_fd = b->lifeline_fds[0],
    };
    mold_main(&seed, order_fd);
}

static void on_mold_not_forked(struct book *b)
{
    log_error("%scannot start a mold: %s", book_reloads(b) ? "reload failed: " : "",
              strerror(errno));
    book_count_failure(&b->mold_starts);
    book_settle(b);
    notify_reloaded();
}

static void start_mold(struct book *b)
{
    uint32_t generation = b->generation + 1;
    b->cause = b->reload_wanted && b->served ? CAUSE_RELOAD : CAUSE_NEED;
    b->reload_wanted = false;
    int order_fds[2];
    if (pipe2(order_fds, O_CLOEXEC) != 0) {
        on_mold_not_forked(b);
        return;
    }
    fcntl(order_fds[1], F_SETFL, O_NONBLOCK);
    board_begin_mold(b->board, generation);
    pid_t pid = fork();
    if (pid == 0) {
        close(order_fds[1]);
        become_mold(b, generation, order_fds[0]);
    }
    close(order_fds[0]);
    b->reread = true;
    if (pid < 0) {
        close(order_fds[1]);
        on_mold_not_forked(b);
        return;
    }
    uint64_t due_ms = now_ms() + b->config->startup_timeout_ms;
    b->phase = PHASE_LOADING;
    *book_other_mold(b) = (struct mold){MOLD_LOADING, pid, order_fds[1], generation, due_ms, false};
}

static void settle_molds(struct book *b)
{
    /* A mold in MOLD_DRAINING is still a worker with running requests, and is not killed. */
    if (b->reload_wanted && book_other_mold(b)->state == MOLD_LOADING) {
        /* It may have read the code from before the last change: another one is started. */
        book_kill_mold(book_other_mold(b));
        book_settle(b);
    }
    /* A trial keeps the other place for the mold before, to go back to if it fails. */
    bool busy =
        book_other_mold(b)->state != MOLD_NONE || b->phase == PHASE_TRIAL || !leaver_has_room(b);
    if (busy)
        return;
    bool missing =
        book_current_mold(b)->state == MOLD_NONE && now_ms() >= b->mold_starts.not_before_ms;
    if (b->reload_wanted) {
        log_info("reloading");
        notify_reloading();
    }
    if (b->reload_wanted || missing)
        start_mold(b);
}

/* Only the log and what others print may stay open: else it would keep ports from being closed. */
static NORETURN void become_scribe(struct book *b)
{
    close_own(b);
    close(b->lifeline_fds[0]);
    listen_close(&b->listeners, false);
    listen_close(&b->control.http, false);
    listen_close(&b->control.stats, false);
    process_set_title("myserver: scribe [%s]", b->config->app);
    scribe_main(b->board, b->printed_fd);
}

/* Before any other process is forked, which then prints into the stream that the scribe reads. */
static void settle_scribe(struct book *b)
{
    if (b->printed_fd < 0 || b->scribe_pid > 0 || now_ms() < b->scribe_starts.not_before_ms)
        return;
    pid_t pid = fork();
    if (pid == 0)
        become_scribe(b);
    if (pid < 0) {
        log_error("cannot start the scribe: %s", strerror(errno));
        book_count_failure(&b->scribe_starts);
    } else {
        b->scribe_pid = pid;
        b->scribe_started_ms = now_ms();
    }
}

static NORETURN void become_control(struct book *b)
{
    close_own(b);
    leave_reading(b);
    struct control_seed seed = {
        .config = b->config,
        .board = b->board,
        .listeners = &b->listeners,
        .sockets = &b->control,
        .lifeline_fd = b->lifeline_fds[0],
    };
    control_main(&seed);
}

static void settle_control(struct book *b)
{
    if (!control_is_wanted(&b->control) || b->control_pid > 0 || b->upgrade.predecessor > 0 ||
        b->upgrade.left || now_ms() < b->control_starts.not_before_ms)
        return;
    pid_t pid = fork();
    if (pid == 0)
        become_control(b);
    if (pid < 0) {
        log_error("cannot start the control process: %s", strerror(errno));
        book_count_failure(&b->control_starts);
    } else {
        b->control_pid = pid;
        b->control_started_ms = now_ms();
    }
}

/* When HUP has ended a pause, no worker may start with the code from before the HUP; with `reload`,
 * who asks after a change gets the new code, and waits for it. Exception: a generation on trial,
 * because the next mold cannot load before the trial has ended. */
static bool waits_for_code(struct book *b)
{
    return b->wants_anew && b->phase != PHASE_TRIAL &&
           (b->reload_wanted || book_other_mold(b)->state == MOLD_LOADING ||
            sources_have_news(&b->sources));
}

static bool may_order(struct book *b, const struct book_tally *t)
{
    if (book_current_mold(b)->state != MOLD_READY || now_ms() < b->orders.not_before_ms ||
        waits_for_code(b))
        return false;
    /* While it is not known that workers can start at all, only one starts at a time. */
    if (t->starting > 0 && (b->phase == PHASE_TRIAL || b->orders.failures > 0))
        return false;
    if (t->active < b->scale.wanted)
        return true;
    /* The first worker of a trial does not wait for draining ones: the trial could time out. */
    bool is_first = b->phase == PHASE_TRIAL && t->fresh == 0;
    return t->fresh < b->scale.wanted && (t->alive <= b->scale.wanted || is_first);
}

static bool order_worker(struct book *b)
{
    struct mold *mold = book_current_mold(b);
    for (unsigned i = 0; i < b->board->workers; i++) {
        struct slot *s = &b->slots[i];
        if (s->state != SLOT_EMPTY)
            continue;
        atomic_store(&b->board->worker[i].pid, 0);
        struct mold_order order = {.kind = MOLD_FORK, .slot = i};
        if (write(mold->order_fd, &order, sizeof order) != (ssize_t)sizeof order)
            return false; /* EPIPE: the mold is dead, and SIGCHLD will tell */
        *s = (struct slot){.state = SLOT_ORDERED,
                           .generation = mold->generation,
                           .deadline_ms = now_ms() + b->config->startup_timeout_ms};
        b->wants_anew = false;
        return true;
    }
    return false;
}

/* Whether `s` is to drain before `other`: outdated workers first, of these the older generation,
 * then who retired earlier. True when neither is outdated. */
static bool goes_before(const struct book *b, const struct slot *s, const struct slot *other)
{
    if (!book_is_outdated(b, s) || !book_is_outdated(b, other))
        return book_is_outdated(b, s) || !book_is_outdated(b, other);
    return s->generation != other->generation ? s->generation < other->generation
                                              : s->retired_ms < other->retired_ms;
}

/* The serving worker to drain next: an outdated one, else the one with the highest number. */
static struct slot *pick_superfluous(struct book *b)
{
    struct slot *pick = NULL;
    for (unsigned i = 0; i < b->board->workers; i++) {
        struct slot *s = &b->slots[i];
        if (s->state == SLOT_SERVING && (!pick || goes_before(b, s, pick)))
            pick = s;
    }
    return pick;
}

static void drain_superfluous(struct book *b)
{
    struct slot *s = pick_superfluous(b);
    assert(s); /* the caller has seen that more serve than are wanted */
    if (s->retire != BOARD_RETIRE_REFORK || !refork_begin(b, s))
        book_drain_slot(b, s, SIGTERM, b->config->graceful_timeout_ms);
}

static void drain_all(struct book *b, int number, uint64_t limit_ms)
{
    for (unsigned i = 0; i < b->board->workers; i++) {
        struct slot *s = &b->slots[i];
        if (s->state == SLOT_STARTING && book_call_off_slot(b, s))
            continue;
        if (s->state == SLOT_STARTING || s->state == SLOT_SERVING)
            book_drain_slot(b, s, number, limit_ms);
    }
}

static void settle_workers(struct book *b)
{
    if (waits_for_code(b))
        drain_all(b, SIGTERM, b->config->graceful_timeout_ms);
    struct book_tally t = book_count(b);
    for (; may_order(b, &t) && order_worker(b); t = book_count(b))
        continue;
    for (; t.serving > b->scale.wanted; t = book_count(b))
        drain_superfluous(b);
    for (unsigned i = 0; i < b->board->workers && b->phase != PHASE_TRIAL; i++)
        if (b->slots[i].state == SLOT_STARTING && book_is_older(b, &b->slots[i]))
            (void)!book_call_off_slot(b, &b->slots[i]); /* false: it serves; it drains later */
    if (b->replacing && b->phase != PHASE_TRIAL && t.older == 0) {
        log_info("reloaded: all workers are of generation %u", b->generation);
        b->replacing = false;
        if (!book_reloads(b) && !b->reload_wanted)
            notify_reloaded();
    }
}

/* Logged once, when all workers serve for the first time. */
static void say_ready(struct book *b)
{
    const struct config *c = b->config;
    char *urls = listen_urls(&b->listeners);
    log_info("ready: %s serves %s with %u worker%s of %u thread%s", urls, c->app, b->scale.wanted,
             b->scale.wanted == 1 ? "" : "s", c->threads, c->threads == 1 ? "" : "s");
    free(urls);
    b->said_ready = true;
}

/* When a worker serves; in an upgrade when all do, for then the predecessor leaves. */
static void settle_announcement(struct book *b)
{
    struct book_tally t = book_count(b);
    if (b->served && !b->announced &&
        (b->upgrade.predecessor == 0 || t.serving >= b->scale.wanted)) {
        b->announced = true;
        pidfile_write(&b->pidfile); /* first: the predecessor removes a file that has its own pid */
        upgrade_take_over(&b->upgrade);
        notify_send("READY=1");
    }
    if (b->announced)
        pidfile_write(&b->pidfile);
    if (b->announced && !b->said_ready && b->scale.wanted > 0 && t.serving >= b->scale.wanted)
        say_ready(b);
    if (b->upgrade.predecessor == 0)
        notify_status("%u of %u workers serve, generation %u", t.serving, b->scale.wanted,
                      b->generation);
}

static void settle_stop(struct book *b)
{
    if (b->stop == STOP_QUICK)
        drain_all(b, SIGQUIT, BOOK_QUICK_MS);
    else
        drain_all(b, SIGTERM, b->config->graceful_timeout_ms);
}

/* Moves connections given to a worker that is gone to one that serves. Not when the server stops:
 * then each worker reads its inbox right before it ends. What comes even later, from a sibling that
 * was preempted between its look at the board and its send, is closed unread with the server. */
static void settle_inboxes(struct book *b)
{
    unsigned heir = 0, workers = b->board->workers;
    for (unsigned i = 0; i < workers; i++) {
        if (b->slots[i].state != SLOT_EMPTY)
            continue;
        for (unsigned tried = 0; tried < workers && b->slots[heir].state != SLOT_SERVING; tried++)
            heir = (heir + 1) % workers;
        if (b->slots[heir].state == SLOT_SERVING)
            inbox_forward(&b->inboxes[i], &b->board->worker[i], &b->inboxes[heir],
                          &b->board->worker[heir]);
    }
}

static void settle(struct book *b)
{
    settle_scribe(b);
    told_settle(b); /* before leaver_settle, which may close the pipe */
    leaver_settle(b);
    if (b->stop != STOP_NOT) {
        settle_stop(b);
        settle_control(b);
        return;
    }
    settle_molds(b);
    settle_workers(b);
    settle_inboxes(b);
    settle_announcement(b);
    settle_control(b); /* after settle_announcement: a successor starts it when it has taken over */
}

/* ---- the loop ---- */

static void earlier(uint64_t *deadline_ms, uint64_t other_ms)
{
    if (other_ms < *deadline_ms)
        *deadline_ms = other_ms;
}

/* Whether an inbox that no worker reads still has connections. A sibling counts a connection in
 * `given` before it sends it, so it may arrive after the worker has ended and the master has
 * emptied the inbox; or no other inbox had room. Nothing else wakes the master for these. */
static bool has_letters(const struct book *b)
{
    for (unsigned i = 0; i < b->board->workers; i++) {
        const struct board_worker *shown = &b->board->worker[i];
        if (b->slots[i].state == SLOT_EMPTY &&
            atomic_load(&shown->given) != atomic_load(&shown->taken))
            return true;
    }
    return false;
}

/* The earliest time, as now_ms(), at which there is something to do; BOOK_NEVER: none. */
static uint64_t next_deadline_ms(const struct book *b)
{
    uint64_t next = BOOK_NEVER, now = now_ms();
    for (unsigned i = 0; i < b->board->workers; i++)
        earlier(&next, b->slots[i].deadline_ms);
    for (unsigned i = 0; i < ARRAY_LEN(b->molds); i++)
        earlier(&next, b->molds[i].deadline_ms);
    for (unsigned i = 0; i < BOOK_LEAVERS_MAX; i++)
        if (b->leavers[i].pid > 0)
            earlier(&next, b->leavers[i].deadline_ms);
    if (b->orders.not_before_ms > now)
        earlier(&next, b->orders.not_before_ms);
    if (b->control_starts.not_before_ms > now)
        earlier(&next, b->control_starts.not_before_ms);
    if (b->scribe_starts.not_before_ms > now)
        earlier(&next, b->scribe_starts.not_before_ms);
    if (b->mold_starts.not_before_ms > now)
        earlier(&next, b->mold_starts.not_before_ms);
    earlier(&next, b->upkeep.due_ms);
    earlier(&next, b->sources.due_ms);
    earlier(&next, hang_due_ms(b));
    earlier(&next, sizing_due_ms(b));
    earlier(&next, b->watchdog_due_ms);
    if (b->stop_due_ms)
        earlier(&next, b->stop_due_ms);
    if (b->stop == STOP_NOT && has_letters(b))
        earlier(&next, now + LETTERS_MS);
    return next;
}

static void silence_bell(struct book *b)
{
    (void)!read(b->board->bell_fd, &(uint64_t){0}, sizeof(uint64_t));
}

static void wait_for_news(struct book *b)
{
    struct pollfd fds[] = {{b->signal_fd, POLLIN, 0},
                           {b->board->bell_fd, POLLIN, 0},
                           {b->upgrade.heard_fd, POLLIN, 0},
                           {b->sources.fd, POLLIN, 0}};
    uint64_t start = now_ms(), due = next_deadline_ms(b);
    uint64_t wait_ms = due > start ? due - start : 0;
    struct timespec timeout = {(time_t)(wait_ms / 1000), (long)(wait_ms % 1000 * NS_PER_MS)};
    ppoll(fds, ARRAY_LEN(fds), due == BOOK_NEVER ? NULL : &timeout, NULL);
    /* From the end of the last wait: the master may have been stopped outside of ppoll too. */
    uint64_t now = now_ms(), passed_ms = now - (b->looked_ms ? b->looked_ms : start);
    if (due != BOOK_NEVER && passed_ms > wait_ms + LATE_MS) {
        log_warning("stopped or suspended for some of the last %.1f s: all deadlines are put off",
                    (double)passed_ms / 1000);
        book_push_deadlines(b, passed_ms);
    }
    b->looked_ms = now;
}

static bool has_memory_limit(const struct book *b)
{
    for (unsigned i = 0; i < b->board->workers; i++) {
        uint64_t limit = atomic_load(&b->board->worker[i].max_memory_bytes);
        if (limit == CONFIG_AUTO ? b->pressure.is_limited : limit > 0)
            return true;
    }
    return false;
}

static void look_at_sources(struct book *b)
{
    sources_hear(&b->sources);
    b->wants_anew |= sources_have_news(&b->sources);
    if (sources_see_change(&b->sources, b->config) && b->stop == STOP_NOT)
        b->reload_wanted = b->wants_anew = true;
}

/* Once a second: touched files, and now and then the memory of the workers. */
static void look_after(struct book *b)
{
    bool sees_files = b->config->touch_reload.count > 0;
    bool is_needed = b->stop == STOP_NOT && (sees_files || has_memory_limit(b));
    if (!upkeep_is_due(&b->upkeep, is_needed))
        return;
    b->reload_wanted |= upkeep_sees_change(&b->upkeep, b->config);
    if (++b->looks % MEMORY_EVERY == 0)
        replace_heavy(b);
    if (b->pressure.is_limited)
        pressure_look(b);
}

static void pat_watchdog(struct book *b)
{
    if (now_ms() < b->watchdog_due_ms)
        return;
    notify_send("WATCHDOG=1");
    b->watchdog_due_ms = now_ms() + notify_watchdog_ms();
}

static void run(struct book *b)
{
    for (settle(b); !book_is_over(b); settle(b)) {
        wait_for_news(b);
        silence_bell(b);
        signals_take(b);
        adopt_news(b);
        late_look(b);
        hang_look(b);
        sizing_look(b);
        look_at_sources(b);
        look_after(b);
        stop_look(b);
        if (upgrade_hear(&b->upgrade))
            stop_for_successor(b);
        upgrade_look(&b->upgrade, book_current_mold(b)->pid);
        pat_watchdog(b);
    }
}

/* ---- beginning and end ---- */

static void open_sockets(struct book *b)
{
    const struct config *c = b->config;
    inherit_init();
    if (listen_activated(&b->listeners))
        log_info("the sockets that systemd has opened take the place of bind");
    else
        listen_open(&b->listeners, "bind", &c->bind, c, c->backlog, c->socket_mode);
}

/* As many slots as TTIN may fill, and one more for a replacement. */
static void make_slots(struct book *b)
{
    unsigned asked = b->config->workers;
    unsigned most = asked > 8 ? asked * 2 : asked + 8;
    b->board = board_new(most + 1, b->config->threads, asked);
    b->board->samples = samples_new(most + 1, b->config->threads);
    b->slots = xcalloc(b->board->workers, sizeof *b->slots);
    for (unsigned i = 0; i < b->board->workers; i++)
        b->slots[i].deadline_ms = BOOK_NEVER;
    for (unsigned i = 0; i < ARRAY_LEN(b->molds); i++)
        b->molds[i] = (struct mold){.order_fd = -1, .deadline_ms = BOOK_NEVER};
    scale_begin(&b->scale, asked, b->config->workers_min, most);
    atomic_store(&b->board->molds[0].workers, asked); /* the first mold copies "generation 0" */
    atomic_store(&b->board->molds[0].workers_min, b->config->workers_min);
    atomic_store(&b->board->master_pid, getpid());
}

static void open_logs(const struct config *c)
{
    log_set_json(strcmp(c->log_format, "json") == 0);
    bool is_given = c->user && geteuid() == 0; /* `user` may have put links there */
    char *wrong =
        c->access_logfile ? logfile_open(LOGFILE_ACCESS, c->access_logfile, !is_given) : NULL;
    if (wrong)
        config_origin_die(EXIT_CONFIG, "access-logfile", NULL, "%s", wrong);
    wrong = logfile_open(LOGFILE_ERROR, c->error_logfile, !is_given);
    if (wrong)
        config_origin_die(EXIT_CONFIG, "error-logfile", NULL, "%s", wrong);
}

/* Last of all: until then what is wrong is said on the streams that the program was given. */
static void wrap_streams(struct book *b)
{
    b->printed_fd = -1;
    if (strcmp(b->config->log_format, "json") != 0)
        return;
    b->printed_fd = logfile_wrap();
    if (b->printed_fd < 0)
        die(EXIT_CRASH, "cannot wrap what is printed in JSON: %s", strerror(errno));
    die_through(log_last_words);
}

/* After everything is open that may need root's rights. */
static void drop_privileges(struct book *b)
{
    const struct config *c = b->config;
    struct privilege p;
    privilege_init(&p, c);
    pidfile_open(&b->pidfile, c->pid, b->upgrade.predecessor > 0, p.uid, p.gid);
    privilege_give_sockets(&p, &b->listeners);
    privilege_give_sockets(&p, &b->control.http);
    privilege_give_sockets(&p, &b->control.stats);
    privilege_give_log(&p, LOGFILE_ERROR, "error-logfile");
    privilege_give_log(&p, LOGFILE_ACCESS, "access-logfile");
    privilege_drop(&p);
    if (geteuid() == 0)
        log_warning("requests are served as root: set user to another");
}

static void master_init(struct book *b, const struct config *c)
{
    *b = (struct book){.config = c};
    process_ignore_failed_writes(); /* of the log, to begin with */
    log_set_process("master");
    log_set_level((enum log_level)c->log_level);
    if (c->umask != CONFIG_UNSET)
        umask(c->umask);
    notify_init();
    upgrade_init(&b->upgrade, &b->listeners, &b->control.http, &b->control.stats);
    open_sockets(b);
    open_logs(c);
    config_notes_log();
    control_open(&b->control, c);
    inherit_close_rest();
    drop_privileges(b);
    make_slots(b);
    logfile_share(&b->board->log_opening);
    b->inboxes = inbox_open_all(b->board->workers);
    if (pipe2(b->lifeline_fds, O_CLOEXEC) != 0)
        die(EXIT_CRASH, "cannot make a pipe: %s", strerror(errno));
    process_become_master();
    process_set_title("myserver: master [%s]", c->app);
    signals_open(b);
    upkeep_init(&b->upkeep, c);
    sources_init(&b->sources, c);
    pressure_init(b);
    b->watchdog_due_ms = notify_watchdog_ms() > 0 ? now_ms() : BOOK_NEVER;
    for (size_t i = 0; i < b->listeners.count; i++)
        log_info("listening on %s", b->listeners.items[i].name);
    wrap_streams(b);
}

static void close_control(struct book *b)
{
    book_end_control(b); /* last of all: health checks are answered until the workers have ended */
    listen_close(&b->control.http, true);
    listen_close(&b->control.stats, true);
}

static void master_fini(struct book *b)
{
    close_control(b);
    book_end_scribe(b);
    inbox_close_all(b->inboxes, b->board->workers);
    close(b->lifeline_fds[0]);
    close(b->lifeline_fds[1]);
    close(b->signal_fd);
    free(b->slots);
    upkeep_fini(&b->upkeep);
    sources_fini(&b->sources);
    pidfile_close(&b->pidfile);
    samples_free(b->board->samples);
    board_free(b->board);
}

int master_run(const struct config *config)
{
    struct book b;
    master_init(&b, config);
    run(&b);
    log_info("stopped");
    master_fini(&b);
    return b.exit_status;
}
