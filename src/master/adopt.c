/* adopt.c: what the other processes say on the board.
 *
 * Does not believe the board, which a child can damage: a pid from there is used only when the
 * kernel says that it is a child of the master. Owns no state. */
#include "adopt.h"

#include "base/log.h"
#include "book.h"
#include "pressure.h"
#include "reap.h"
#include "refork.h"
#include "replace.h"
#include "shared/board.h"
#include "trial.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>

/* Whether `pid` is a child of the master. A new worker is not, as long as the middle process of the
 * double fork, its parent, has not ended. */
static bool is_our_child(pid_t pid)
{
    siginfo_t info;
    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

/* `pid` is no child of the master. If it is a worker that was reaped as a stranger before its slot
 * was read, this records its start and its end. */
static void bury_stranger(struct book *b, struct slot *s, pid_t pid)
{
    if (kill(pid, 0) == 0)
        /* it is alive, and still a child of the middle process; a stranger had its pid before */
        return;
    int status;
    if (book_take_stranger(b, pid, &status)) {
        s->pid = pid;
        atomic_fetch_add(&book_shown(b, s)->spawns, 1);
        reap_worker(b, s, status);
    }
}

static void adopt_worker(struct book *b, struct slot *s)
{
    pid_t pid = atomic_load(&book_shown(b, s)->pid);
    if (pid == 0)
        return;
    if (pid < 0) {
        uint32_t generation = s->generation;
        book_clear_slot(b, s);
        if (b->stop == STOP_NOT)
            trial_worker_failed(b, generation, 0);
    } else if (!book_knows(b, pid) && is_our_child(pid)) {
        s->pid = pid;
        s->state = SLOT_STARTING;
        atomic_fetch_add(&book_shown(b, s)->spawns, 1);
        atomic_store(&book_shown(b, s)->spawned_s, (uint64_t)time(NULL));
    } else {
        bury_stranger(b, s, pid);
    }
}

static void on_worker_serves(struct book *b, struct slot *s)
{
    s->state = SLOT_SERVING;
    s->deadline_ms = now_ms() + REAP_PROVEN_MS;
    pressure_weigh(b, s);
    log_info("worker %u (pid %d) serves", book_number(b, s), s->pid);
    if (b->phase == PHASE_TRIAL && s->generation == b->generation)
        trial_passed(b);
    else if (s->generation == b->generation)
        b->mold_starts = (struct delay){0};
}

/* A pid on the board is checked by adopt_worker. */
void adopt_news(struct book *b)
{
    struct mold *loading = book_other_mold(b);
    bool may_be_ready = loading->state == MOLD_LOADING || loading->state == MOLD_DRAINING;
    if (may_be_ready &&
        atomic_load(&board_mold(b->board, loading->generation)->state) == BOARD_MOLD_READY &&
        (loading->state == MOLD_LOADING || refork_adopt(b, loading)))
        trial_begin(b, loading);
    for (unsigned i = 0; i < b->board->workers; i++) {
        struct slot *s = &b->slots[i];
        if (s->state == SLOT_ORDERED)
            adopt_worker(b, s);
        if (s->state == SLOT_STARTING && b->stop == STOP_NOT &&
            atomic_load(&book_shown(b, s)->state) == BOARD_WORKER_SERVING)
            on_worker_serves(b, s);
        reap_let_go(b, s);
        if (s->state == SLOT_SERVING)
            replace_worker(b, s, (enum board_retire)atomic_load(&book_shown(b, s)->retire));
    }
}
