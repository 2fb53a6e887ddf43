/* book.h: what the master knows about its processes: which are alive, in which state, and until
 * when each must reach the next. Private memory of the master. reap.c, adopt.c, late.c and
 * signals.c write into it what happened; master.c acts on it. */
#ifndef MYSERVER_MASTER_BOOK_H
#define MYSERVER_MASTER_BOOK_H

#include "base/base.h"
#include "control/control.h"
#include "demand.h"
#include "scale.h"
#include "shared/board.h"
#include "shared/order.h"
#include "sources.h"
#include "system/listen.h"
#include "system/pidfile.h"
#include "upgrade.h"
#include "upkeep.h"

#include <stdbool.h>
#include <sys/types.h>

struct config;
struct worker_inbox;

#define BOOK_NEVER         UINT64_MAX
#define BOOK_QUICK_MS      1000 /* time for a process to leave when told to hurry */
#define BOOK_STRANGERS_MAX 64

enum slot_state {
    SLOT_EMPTY,
    SLOT_ORDERED,  /* the mold was told to fork it; no pid yet */
    SLOT_STARTING, /* forked, does not serve yet */
    SLOT_SERVING,
    SLOT_DRAINING, /* told to leave */
};

struct slot {
    enum slot_state state;
    pid_t pid; /* 0 while EMPTY or ORDERED */
    uint32_t generation;
    bool proven;          /* has served for PROVEN_MS */
    bool killed;          /* the master has sent it SIGKILL */
    bool asked;           /* it is late to serve, and was asked for its stacks */
    bool heavy;           /* the last sample of its memory was above the limit */
    uint64_t first_bytes; /* its private memory when it began to serve; see pressure.h */
    enum board_retire retire;
    uint64_t retired_ms; /* when `retire` was set; 0: it is not set */
    /* for its state: when it passes, late.c does what is due in that state */
    uint64_t deadline_ms;
    /* it has missed a deadline, and is hanging if that is still so at this time; 0: none missed */
    uint64_t suspect_ms;
};

enum mold_state {
    MOLD_NONE,
    MOLD_LOADING,
    MOLD_DRAINING, /* still a worker, which drains to become this mold; see refork.h */
    MOLD_READY,
    MOLD_ENDING, /* killed */
};

struct mold {
    enum mold_state state;
    pid_t pid;
    int order_fd; /* -1: closed */
    uint32_t generation;
    uint64_t deadline_ms;
    bool asked; /* it or its first worker is late, and was asked for its stacks */
};

/* A process that has given up its place in the book and ends: a worker that has answered
 * everything, or a mold that orders no longer go to. The mold is told to end when the last worker
 * of its generation is gone, who may need what it has. See leaver.h. */
struct leaver {
    pid_t pid;       /* 0: none */
    unsigned number; /* of the worker; 0: it is a mold */
    uint32_t generation;
    int order_fd; /* of a mold that was not told to end; else -1 */
    bool killed;
    enum board_end end; /* of a worker */
    uint64_t deadline_ms;
};
#define BOOK_LEAVERS_MAX 64
#define BOOK_ENDED_MAX   256

/* Retries: the first at once, then with growing delays. */
struct delay {
    unsigned failures;
    uint64_t not_before_ms;
};

enum stop { STOP_NOT, STOP_GRACEFUL, STOP_QUICK };

/* How far a change of generation is. */
enum phase {
    PHASE_SETTLED, /* none is under way */
    PHASE_LOADING, /* a mold loads */
    PHASE_TRIAL,   /* it has loaded, and no worker of `generation` has served yet */
};

/* Why a mold was started. */
enum cause {
    CAUSE_NEED, /* the server starts, or its mold has died */
    CAUSE_RELOAD,
    CAUSE_REFORK,
};

/* How long the memory of the control group has been short; see pressure.h. */
struct pressure {
    bool is_limited; /* there was a limit when the server started */
    unsigned looks;  /* in a row at which memory was short */
    bool said;       /* that no worker has grown; again when memory was not short meanwhile */
};

/* A child that was reaped before the master knew what it was. */
struct stranger {
    pid_t pid;
    int status;
};

struct book {
    const struct config *config; /* borrowed */
    struct listeners listeners;
    struct board *board;
    struct worker_inbox *inboxes;
    struct control_sockets control;
    pid_t control_pid; /* 0: does not run */
    uint64_t control_started_ms;
    struct delay control_starts;
    int printed_fd;   /* see logfile_wrap; -1: nothing is wrapped */
    pid_t scribe_pid; /* 0: does not run */
    uint64_t scribe_started_ms;
    struct delay scribe_starts;
    int signal_fd;
    /* the other processes have the read end; only the master has the write end */
    int lifeline_fds[2];

    struct slot *slots; /* [board->workers] */
    struct scale scale; /* how many workers there should be */
    struct demand demand;
    uint64_t sizing_due_ms; /* see sizing.h */
    /* HUP has ended a pause, or the code has changed: no worker of the old application starts or
     * goes on, unless the reload fails */
    bool wants_anew;
    struct delay orders;
    struct mold molds[2]; /* see book_mold */
    struct leaver leavers[BOOK_LEAVERS_MAX];
    uint32_t generation;    /* of the mold that orders go to; 0: there was none yet */
    uint32_t oldest;        /* workers of older generations are outdated */
    uint32_t oldest_before; /* the value of `oldest` to restore when the trial fails */
    uint32_t hooked;        /* the last that has served: its hooks are in force; see told.h */
    /* workers that have ended, until the hooks know; the first `ended_told` are told */
    struct mold_order ended[BOOK_ENDED_MAX];
    unsigned ended_count, ended_told;
    uint32_t ended_number; /* of the last */
    pid_t hooks_pid;       /* who was told */
    struct delay mold_starts;
    enum phase phase;
    enum cause cause; /* of the change of generation that is under way */
    struct upkeep upkeep;
    struct sources sources;
    unsigned looks; /* so far, at files and memory */
    struct pressure pressure;
    struct upgrade upgrade;
    struct pidfile pidfile;
    uint64_t looked_ms; /* when the master's last ppoll returned; 0: not yet */
    /* the service manager and the master before this one were told that this one serves */
    bool announced;
    bool said_ready;          /* the log says that all workers serve, once */
    uint64_t watchdog_due_ms; /* next WATCHDOG=1; BOOK_NEVER: the service manager expects none */
    bool reread;        /* the next mold is not the first one, so it reads the settings itself */
    bool reload_wanted; /* HUP came, or a file changed */
    uint32_t refork_refused; /* no worker of this generation may become the mold */
    bool replacing;          /* a reload succeeded, and outdated workers are still alive */
    bool served;             /* some worker has served: the start was good */
    enum stop stop;
    bool told_to_stop;    /* SIGTERM came; a second one stops at once */
    uint64_t stop_due_ms; /* when shutdown-delay is over; 0: it does not run */
    int exit_status;
    struct stranger strangers[BOOK_STRANGERS_MAX];
    unsigned strangers_seen;
};

/* How many workers there are. */
struct book_tally {
    unsigned alive;    /* all */
    unsigned active;   /* not draining */
    unsigned fresh;    /* active and not outdated */
    unsigned starting; /* ordered or starting, not outdated */
    unsigned serving;
    unsigned older; /* of a generation that is not wanted any more; draining ones too */
};

/* The worker's number in the log and in process titles: the slot's index + 1. */
unsigned book_number(const struct book *b, const struct slot *s);
/* The slot's place on the board. */
struct board_worker *book_shown(const struct book *b, const struct slot *s);
/* The place in the book of the mold of `generation`, or of the one before the last. */
struct mold *book_mold(struct book *b, uint32_t generation);
/* The mold that orders go to. */
struct mold *book_current_mold(struct book *b);
/* The other mold: the one that loads, or during a trial the mold before, which serves again if the
 * trial fails. */
struct mold *book_other_mold(struct book *b);
/* The change under way is a reload or refork: if it fails, the generation before goes on. */
static inline bool book_reloads(const struct book *b)
{
    return b->cause != CAUSE_NEED;
}
/* The change of generation is over. */
static inline void book_settle(struct book *b)
{
    b->phase = PHASE_SETTLED;
    b->cause = CAUSE_NEED;
}
/* Of a generation that is not wanted any more. */
bool book_is_older(const struct book *b, const struct slot *s);
/* To be replaced: older, or with a reason to retire. */
bool book_is_outdated(const struct book *b, const struct slot *s);
struct book_tally book_count(const struct book *b);
/* The server stops, and no mold and no worker is left, nor one that ends. */
bool book_is_over(const struct book *b);
/* A worker or mold in the book has this pid. */
bool book_knows(const struct book *b, pid_t pid);
/* Counts a failure and sets when the next try may start: at once, then after 0.1 s, 0.2 s, ... 10
 * s. */
void book_count_failure(struct delay *d);

/* Kills the control process, if there is one, and waits until it has ended. */
void book_end_control(struct book *b);
/* Tells the scribe that all is printed, and waits until it has written it. */
void book_end_scribe(struct book *b);
/* After board->upgraded was set: wakes the control process, which answers the clients it has
 * accepted and then ends by itself. */
void book_release_control(struct book *b);
/* Kills the mold. Without a mold: nothing. A mold that is still a worker (MOLD_DRAINING) is only
 * forgotten. */
void book_kill_mold(struct mold *mold);
/* The mold of `generation` has ended and will not carry out its open orders. */
void book_give_up_orders(struct book *b, uint32_t generation);
/* Why a worker ends that has left as it was told. */
enum board_end book_end_of(const struct book *b, const struct slot *s);
/* Sends signal `number` to a worker that was forked; it must leave within `limit_ms`. */
void book_drain_slot(struct book *b, struct slot *s, int number, uint64_t limit_ms);
/* Sends SIGKILL; state and deadline stay. */
void book_kill_slot(struct slot *s);
/* Kills a worker that does not serve yet, so that it never will. False: it serves already. */
MUST_CHECK bool book_call_off_slot(struct book *b, struct slot *s);
/* Clears the entry of a mold that has ended. */
void book_clear_mold(struct mold *mold);
/* Clears the slot of a worker that has ended, here and on the board. */
void book_clear_slot(struct book *b, struct slot *s);

/* Keeps the status of a child that was reaped before its slot was read; the oldest are
 * overwritten. */
void book_remember_stranger(struct book *b, pid_t pid, int status);
/* Finds such a child and forgets it. False: there is none with this pid. */
MUST_CHECK bool book_take_stranger(struct book *b, pid_t pid, int *status);

/* Moves all deadlines by `by_ms`, in which the master could not look (stopped or suspended). */
void book_push_deadlines(struct book *b, uint64_t by_ms);

#endif
