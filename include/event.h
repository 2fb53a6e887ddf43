/* event.h: writes what happened into the master's book. */
#ifndef MYSERVER_EVENT_H
#define MYSERVER_EVENT_H

#include <stdbool.h>

#include "shared/board.h"

struct book;
struct slot;

/* SIGTERM; with `quick` SIGINT, SIGQUIT or a second SIGTERM. */
void event_stop(struct book *b, bool quick);
/* SIGCHLD: reaps all children that have ended. */
void event_reap(struct book *b);
/* The bell of the board rang: takes over what has changed on the board. */
void event_read_board(struct book *b);
/* Notes that a serving worker is to be replaced, and why. Only the first reason counts, except that
 * BOARD_RETIRE_STUCK replaces any other and drains the worker at once. */
void event_retire(struct book *b, struct slot *s, enum board_retire reason);
/* Kills the processes that are past their deadline, and marks the workers that have served for
 * PROVEN_MS as proven. */
void event_meet_deadlines(struct book *b);

#endif
