/* collector.h: how long garbage collections stop the threads of a worker, and in which requests.
 * GIL held. */
#ifndef MYSERVER_PYTHON_COLLECTOR_H
#define MYSERVER_PYTHON_COLLECTOR_H

#include <stdbool.h>

struct board;

/* Once, when the application is loaded: has Python tell of each collection. Nothing is noted before
 * collector_begin. */
void collector_watch(void);
/* In a worker: notes pauses on the board, for that slot; NULL: no longer. */
void collector_begin(struct board *board, unsigned slot);
/* Around a collection that the server runs between requests: their clients have their answers. */
void collector_set_between(bool is_between);

#endif
