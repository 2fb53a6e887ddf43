/* book.h: what the master knows about its processes: which are alive, in which state, and until
 * when each must reach the next. Private memory of the master. master.c acts on it, event.c writes
 * into it what happened, book.c has the helpers of both. */
#ifndef MYSERVER_BOOK_H
#define MYSERVER_BOOK_H

#include "base/base.h"
#include "control/control.h"
#include "master/upkeep.h"
#include "shared/board.h"
#include "system/listen.h"
#include "system/pidfile.h"
#include "upgrade.h"

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
    bool proven; /* has served for PROVEN_MS */
    bool killed; /* the master has sent it SIGKILL */
    bool asked;  /* it is late to serve, and was asked for its stacks */
    bool heavy;  /* the last sample of its memory was above the limit */
    enum board_retire retire;
    uint64_t retired_ms; /* when `retire` was set; 0: it is not set */
    /* for its state: when it passes, event.c does what is due in that state */
    uint64_t deadline_ms;
    /* it has missed a deadline, and is wedged if that is still so at this time; 0: none missed */
    uint64_t suspect_ms;
};

enum mold_state {
    MOLD_NONE,
    MOLD_LOADING,
    MOLD_DRAINING, /* still a worker, which drains to become this mold; see refork.h */
    MOLD_READY,
    MOLD_ENDING, /* told to leave, or killed */
};

struct mold {
    enum mold_state state;
    pid_t pid;
    int order_fd; /* -1: closed */
    uint32_t generation;
    uint64_t deadline_ms;
    bool asked; /* it or its first worker is late, and was asked for its stacks */
};

/* Retries: the first at once, then with growing delays. */
struct delay {
    unsigned failures;
    uint64_t not_before_ms;
};

enum stop { STOP_NOT, STOP_GRACEFUL, STOP_QUICK };

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
    int signal_fd;
    /* the other processes have the read end; only the master has the write end */
    int lifeline_fds[2];

    struct slot *slots; /* [board->workers] */
    unsigned wanted;    /* workers; 0: paused */
    unsigned wanted_before_pause;
    unsigned configured; /* number of workers in the settings that were last applied */
    /* HUP has ended a pause: no worker of the old application starts unless the reload fails */
    bool resumes_anew;
    struct delay orders;
    struct mold molds[2];   /* by generation % 2 */
    uint32_t generation;    /* of the mold that orders go to; 0: there was none yet */
    uint32_t oldest;        /* workers of older generations are outdated */
    uint32_t oldest_before; /* the value of `oldest` to restore when the trial fails */
    struct delay mold_starts;
    bool trial; /* no worker of `generation` has served yet */
    struct upkeep upkeep;
    struct upgrade upgrade;
    struct pidfile pidfile;
    uint64_t looked_ms; /* when the master's last ppoll returned; 0: not yet */
    /* the service manager and the master before this one were told that this one serves */
    bool announced;
    bool said_ready;          /* the log says that all workers serve, once */
    uint64_t watchdog_due_ms; /* next WATCHDOG=1; BOOK_NEVER: the service manager expects none */
    bool reread;        /* the next mold is not the first one, so it reads the settings itself */
    bool reload_wanted; /* HUP came, or a file changed */
    bool reloading;     /* the mold that loads or is on trial belongs to a reload */
    bool reforking;     /* that reload is a refork */
    uint32_t refork_refused; /* no worker of this generation may become the mold */
    bool replacing;          /* a reload succeeded, and outdated workers are still alive */
    bool served;             /* some worker has served: the start was good */
    enum stop stop;
    bool told_to_stop; /* SIGTERM came; a second one stops at once */
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
/* The mold that orders go to. */
struct mold *book_current_mold(struct book *b);
/* The other mold: the one that loads, or during a trial the mold before, which serves again if the
 * trial fails. */
struct mold *book_other_mold(struct book *b);
/* Of a generation that is not wanted any more. */
bool book_is_older(const struct book *b, const struct slot *s);
/* To be replaced: older, or with a reason to retire. */
bool book_is_outdated(const struct book *b, const struct slot *s);
struct book_tally book_count(const struct book *b);
/* The server stops, and no mold and no worker is left. */
bool book_is_over(const struct book *b);
/* A worker or mold in the book has this pid. */
bool book_knows(const struct book *b, pid_t pid);
/* Counts a failure and sets when the next try may start: at once, then after 0.1 s, 0.2 s, ... 10
 * s. */
void book_count_failure(struct delay *d);

/* Kills the control process, if there is one, and waits until it has ended. */
void book_end_control(struct book *b);
/* After board->upgraded was set: wakes the control process, which answers the clients it has
 * accepted and then ends by itself. */
void book_release_control(struct book *b);
/* Sends signal `number` to the mold, notes that it was told to leave, and by when it must. Without
 * a mold: nothing. A mold that is still a worker (MOLD_DRAINING) is only forgotten. */
void book_end_mold(struct mold *mold, int number, uint64_t deadline_ms);
/* The same for a worker that was forked; it must leave within `limit_ms`. */
void book_drain_slot(struct slot *s, int number, uint64_t limit_ms);
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

/* The earliest time, as now_ms(), at which the master has something to do; BOOK_NEVER: none. */
uint64_t book_next_deadline(const struct book *b);
/* Moves all deadlines by `by_ms`, in which the master could not look (stopped or suspended). */
void book_push_deadlines(struct book *b, uint64_t by_ms);

#endif
