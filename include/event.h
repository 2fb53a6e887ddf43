/* event.h: what happened, into the master's book. */
#ifndef MYSERVER_EVENT_H
#define MYSERVER_EVENT_H

#include <stdbool.h>

#include "board.h"

struct book;
struct slot;

/* TERM, or with `quick` INT, QUIT and a second TERM. */
void event_stop(struct book *b, bool quick);
/* Some children may have ended. */
void event_reap(struct book *b);
/* The bell rang. */
void event_read_board(struct book *b);
/* A serving worker is to be replaced. Once; later reasons change nothing, but a stuck request. */
void event_retire(struct book *b, struct slot *s, enum board_retire reason);
/* Kills who is late, and notes who has served long enough. */
void event_meet_deadlines(struct book *b);

#endif
