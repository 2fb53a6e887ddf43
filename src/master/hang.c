/* hang.c: kills workers that are stopped or hang.
 *
 * A worker's own watch acts on missed deadlines of requests, and puts off the deadline of the whole
 * worker as long as the loop turns (watch.h). A deadline that stays in the past means that the
 * worker is stopped, or that its loop hangs. The report about it comes from the board and /proc.
 *
 * Owns nothing. Counts only time in which the master itself ran, so that no worker is killed
 * because the machine was suspended. Runs in the master only. */
#include "hang.h"

#include "base/buf.h"
#include "base/log.h"
#include "book.h"
#include "shared/board.h"
#include "shared/report.h"

#include <signal.h>

#define WATCH_MS 1000 /* a watch that is later than this puts its deadlines off */
#define GRACE_MS 4000 /* after the master first sees a missed deadline */

static uint64_t first_deadline_ms(const struct book *b, const struct slot *s)
{
    uint64_t first_ns = atomic_load(&book_shown(b, s)->deadline_ns);
    for (unsigned i = 0; i < b->board->seats; i++) {
        const struct board_seat *thread = board_seat(b->board, book_number(b, s) - 1, i);
        uint64_t deadline_ns = atomic_load(&thread->deadline_ns);
        if (atomic_load(&thread->phase) == BOARD_RUNNING && deadline_ns &&
            (!first_ns || deadline_ns < first_ns))
            first_ns = deadline_ns;
    }
    return first_ns ? first_ns / NS_PER_MS + WATCH_MS : BOOK_NEVER;
}

static void kill_hanging(struct book *b, struct slot *s)
{
    struct buf text = {0};
    report_kernel(&text, s->pid, s->pid);
    buf_append_str(&text, "\n");
    report_running(&text, b->board, book_number(b, s) - 1, REPORT_ALL, s->pid);
    log_block(
        LOG_CRITICAL, text.data, text.len,
        "worker %u (pid %d) is stopped or hangs, and does nothing about its deadlines: killing it",
        book_number(b, s), s->pid);
    buf_fini(&text);
    s->retire = BOARD_RETIRE_STUCK;
    book_drain_slot(b, s, SIGKILL, BOOK_QUICK_MS);
}

static void look_at(struct book *b, struct slot *s)
{
    uint64_t now = now_ms();
    if (s->state != SLOT_SERVING || first_deadline_ms(b, s) > now)
        s->suspect_ms = 0;
    else if (!s->suspect_ms)
        s->suspect_ms = now + GRACE_MS;
    else if (s->suspect_ms <= now)
        kill_hanging(b, s);
}

void hang_look(struct book *b)
{
    for (unsigned i = 0; i < b->board->workers; i++)
        look_at(b, &b->slots[i]);
}

uint64_t hang_due_ms(const struct book *b)
{
    uint64_t due = BOOK_NEVER;
    for (unsigned i = 0; i < b->board->workers; i++) {
        const struct slot *s = &b->slots[i];
        if (s->state != SLOT_SERVING)
            continue;
        uint64_t own = s->suspect_ms ? s->suspect_ms : first_deadline_ms(b, s);
        due = own < due ? own : due;
    }
    return due;
}
