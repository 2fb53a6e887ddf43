/* book.h: what the master knows: who is alive, for what, and until when. Private memory of
 * the master; master.c acts on it, event.c writes down what happened, book.c has the helpers
 * of both. */
#ifndef MYSERVER_BOOK_H
#define MYSERVER_BOOK_H

#include "base.h"
#include "board.h"
#include "control.h"
#include "listen.h"
#include "pidfile.h"
#include "upgrade.h"
#include "upkeep.h"

#include <stdbool.h>
#include <sys/types.h>

struct config;
struct worker_inbox;

#define BOOK_NEVER         UINT64_MAX
#define BOOK_QUICK_MS      1000 /* for a process to leave by itself when told to hurry */
#define BOOK_STRANGERS_MAX 64

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
    bool proven; /* served for PROVEN_MS */
    bool killed; /* by us: SIGKILL was sent */
    bool heavy;  /* the last sample of its memory was above the limit */
    enum board_retire retire;
    uint64_t retired_ms;  /* when; 0: it is not */
    uint64_t deadline_ms; /* of its state; when it passes, event.c knows what is late */
    uint64_t suspect_ms;  /* it has missed deadlines, and is wedged if it still does then; or 0 */
};

enum mold_state {
    MOLD_NONE,
    MOLD_LOADING,
    MOLD_DRAINING, /* still a worker, that drains to become it; see refork.h */
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
    int lifeline_fds[2]; /* read end for the others; nobody else may keep the write end */

    struct slot *slots; /* [board->workers] */
    unsigned wanted;    /* workers; 0: paused */
    unsigned wanted_before_pause;
    unsigned configured; /* workers, by the settings that were last applied */
    bool resumes_anew;   /* by HUP: no worker of the old application serves before it has failed */
    struct delay orders;
    struct mold molds[2];   /* by generation % 2 */
    uint32_t generation;    /* of the mold that orders go to; 0: there was none yet */
    uint32_t oldest;        /* workers of older generations are outdated */
    uint32_t oldest_before; /* what to go back to when the trial fails */
    struct delay mold_starts;
    bool trial; /* no worker of `generation` has served yet */
    struct upkeep upkeep;
    struct upgrade upgrade;
    struct pidfile pidfile;
    uint64_t looked_ms;       /* when the last wait for news ended; 0: there was none */
    bool announced;           /* to all who asked that they be told when we serve */
    bool said_ready;          /* in the log, when all workers served for the first time */
    uint64_t watchdog_due_ms; /* BOOK_NEVER: nobody waits for it */
    bool reread;              /* the next mold is not the first: it reads the settings itself */
    bool reload_wanted;       /* HUP came, or a file changed */
    bool reloading;           /* the mold that loads, or is on trial, is a reload */
    bool reforking;           /* that reload is a refork */
    uint32_t refork_refused;  /* the generation of which no worker can become the mold */
    bool replacing;           /* a reload succeeded, and outdated workers are still there */
    bool served;              /* some worker has: the start was good */
    enum stop stop;
    bool told_to_stop; /* by SIGTERM: another one means at once */
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
    unsigned older; /* of another generation; draining ones too */
};

/* As the log and the titles count: from 1. */
unsigned book_number(const struct book *b, const struct slot *s);
/* The slot's place on the board. */
struct board_worker *book_shown(const struct book *b, const struct slot *s);
/* The mold that orders go to. */
struct mold *book_current_mold(struct book *b);
/* The one that loads; during the trial the one before, kept to go back to. */
struct mold *book_other_mold(struct book *b);
/* Of a generation that is not wanted any more. */
bool book_is_older(const struct book *b, const struct slot *s);
/* To be replaced: older, or retired. */
bool book_is_outdated(const struct book *b, const struct slot *s);
struct book_tally book_count(const struct book *b);
/* Stopping, and nobody is left. */
bool book_is_over(const struct book *b);
/* A worker or mold of ours has this pid. */
bool book_knows(const struct book *b, pid_t pid);
/* Puts the next try off: not at all, 0.1 s, 0.2 s, ... 10 s. */
void book_count_failure(struct delay *d);

/* Ends the control process, if there is one, and waits for that. */
void book_end_control(struct book *b);
/* board->upgraded is set: it answers those whom it has taken, and leaves on its own. */
void book_release_control(struct book *b);
/* Sends the signal, notes that the mold was told to leave and when it is late. No mold: nothing.
 * One that is still a worker is forgotten. */
void book_end_mold(struct mold *mold, int number, uint64_t deadline_ms);
/* The same for a worker that was forked. */
void book_drain_slot(struct slot *s, int number, uint64_t limit_ms);
/* At once, whatever its state. */
void book_kill_slot(struct slot *s);
/* Ends a worker that has not begun to serve, and then never will. False: it has. */
MUST_CHECK bool book_call_off_slot(struct book *b, struct slot *s);
/* The mold is gone. */
void book_clear_mold(struct mold *mold);
/* The worker is gone: here and on the board. */
void book_clear_slot(struct book *b, struct slot *s);

/* Children that were reaped before their slot was read; the oldest are forgotten. */
void book_remember_stranger(struct book *b, pid_t pid, int status);
/* Finds one, and forgets it. */
MUST_CHECK bool book_take_stranger(struct book *b, pid_t pid, int *status);

/* BOOK_NEVER when nothing is due. */
uint64_t book_next_deadline(const struct book *b);
/* For the time in which the master could not look. */
void book_push_deadlines(struct book *b, uint64_t by_ms);

#endif
