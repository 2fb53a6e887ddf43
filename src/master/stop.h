/* stop.h: how the server stops. */
#ifndef MYSERVER_MASTER_STOP_H
#define MYSERVER_MASTER_STOP_H

#include "base/base.h"

#include <stdbool.h>

struct book;

/* Stops gracefully; `quick`: at once. Later calls can only make it quicker. */
void stop_server(struct book *b, bool quick);
/* SIGTERM: stops gracefully, after shutdown-delay if that is set; a second one ends the delay, or
 * else stops at once. */
void stop_told(struct book *b);
/* SIGINT: ends the delay if it runs, else stops at once. */
void stop_interrupted(struct book *b);
/* Stops gracefully when the delay is over. */
void stop_look(struct book *b);
/* The new master of an upgrade serves: leaves it the sockets and files, and stops. */
void stop_for_successor(struct book *b);

#endif
