/* stop.c: how the server stops: who is told to leave, in which order, and by when.
 *
 * Owns no state. Never waits: that the processes have ended, reap.c learns. */
#include "stop.h"

#include "base/log.h"
#include "book.h"
#include "config/settings.h"
#include "leaver.h"
#include "shared/board.h"
#include "system/listen.h"
#include "system/notify.h"
#include "upgrade.h"

#include <signal.h>

static void begin_stop(struct book *b)
{
    /* Before any worker is told to leave: workers read here whether siblings go on serving. */
    atomic_store(&b->board->leave_by_ns, now_ns() + b->config->graceful_timeout_ms * NS_PER_MS);
    atomic_store(&b->board->stopping, true);
    upgrade_call_off(&b->upgrade);
    /* While two masters serve, the other one goes on and accepts the connections that wait in the
     * kernel. */
    if (!b->upgrade.left && b->upgrade.predecessor == 0) {
        notify_send("STOPPING=1");
        atomic_store(&b->board->last_call, true);
        listen_begin_close(&b->listeners);
    }
    /* Nobody would answer a client that connects from now on: closing lets the kernel refuse it. */
    listen_close(&b->listeners, true);
}

static void end_molds(struct book *b)
{
    for (unsigned i = 0; i < ARRAY_LEN(b->molds); i++)
        if (b->molds[i].state == MOLD_READY && leaver_has_room(b))
            leaver_take_mold(b, &b->molds[i]);
        else
            book_kill_mold(&b->molds[i]);
}

static void stop_gracefully(struct book *b)
{
    log_info("stopping");
    begin_stop(b);
    b->stop = STOP_GRACEFUL;
    end_molds(b);
}

static void stop_quickly(struct book *b)
{
    if (b->stop == STOP_NOT) {
        log_info("stopping at once");
        begin_stop(b);
    } else {
        log_info("stopping at once, not waiting any longer");
    }
    b->stop = STOP_QUICK;
    atomic_store(&b->board->leave_by_ns, now_ns() + BOOK_QUICK_MS * NS_PER_MS);
    end_molds(b);
    leaver_hurry(b);
    for (unsigned i = 0; i < b->board->workers; i++) {
        struct slot *s = &b->slots[i];
        if (s->pid > 0 && !(s->state == SLOT_STARTING && book_call_off_slot(b, s)))
            book_drain_slot(b, s, SIGQUIT, BOOK_QUICK_MS);
    }
}

void stop_server(struct book *b, bool quick)
{
    b->stop_due_ms = 0;
    if (quick && b->stop != STOP_QUICK)
        stop_quickly(b);
    else if (b->stop == STOP_NOT)
        stop_gracefully(b);
}

/* Who decides by /readyz can only turn away from a server that it has seen serving. A master that
 * serves beside another one leaves its clients to that one. */
static bool may_delay(const struct book *b)
{
    return b->config->shutdown_delay_ms > 0 && b->stop == STOP_NOT && !b->told_to_stop &&
           !b->upgrade.left && b->upgrade.predecessor == 0 && board_is_served(b->board);
}

static void begin_delay(struct book *b)
{
    log_info("stopping in %.1f s: /readyz says so, requests are served until then; a second TERM "
             "does not wait",
             (double)b->config->shutdown_delay_ms / 1000);
    b->stop_due_ms = now_ms() + b->config->shutdown_delay_ms;
    atomic_store(&b->board->leaving, true);
    upgrade_call_off(&b->upgrade);
}

void stop_told(struct book *b)
{
    if (b->stop_due_ms)
        stop_server(b, false);
    else if (may_delay(b))
        begin_delay(b);
    else
        stop_server(b, b->told_to_stop);
    b->told_to_stop = true;
}

void stop_interrupted(struct book *b)
{
    if (b->stop_due_ms)
        stop_server(b, false);
    else
        stop_server(b, true);
}

void stop_look(struct book *b)
{
    if (b->stop_due_ms && now_ms() >= b->stop_due_ms)
        stop_server(b, false);
}

void stop_for_successor(struct book *b)
{
    pidfile_close(&b->pidfile);
    atomic_store(&b->board->upgraded, true);
    book_release_control(b);
    stop_server(b, false);
}
