/* heap.h: what is done to Python's heap so that workers share it: the one door to it. GIL
 * held. */
#ifndef MYSERVER_PYTHON_HEAP_HEAP_H
#define MYSERVER_PYTHON_HEAP_HEAP_H

#include <stdbool.h>

struct _object; /* PyObject */

/* Once in each process that starts Python: whether anything is to be done at all; not on a version
 * that is not tested (tested.h), which the log says. */
void heap_start(bool wanted);

/* In the mold, before the last round of the warm-up. */
void heap_note(void);

/* In the mold, as the last step before it forks; the collector is off, and nothing is frozen. Moves
 * code that changes when it runs, stops counting references and freezes all objects for the
 * collector, without those whose end a program could notice; then fills holes. Says in the log, at
 * debug level, what it has done. */
void heap_settle(void);

/* In each process that runs requests, after the application is loaded: from now on heap_tidy runs
 * the collector. Without preload, what was frozen for the warm-up is unfrozen. */
void heap_begin(void);

/* After each request. */
void heap_tidy(void);

/* Adds to the module _myserver what tells who owns an object. Returns 0, or -1 with an exception
 * set. */
int heap_add(struct _object *module);

#endif
