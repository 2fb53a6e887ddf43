/* allocs.h: which request has made which block of Python's memory that is still there. Only while
 * somebody traces the memory of this worker: then Python's allocators of objects and of their
 * parts note each block, with the request whose thread asked for it. */
#ifndef MYSERVER_PYTHON_ALLOCS_H
#define MYSERVER_PYTHON_ALLOCS_H

#include "base/base.h"

#include <stdatomic.h>
#include <stdbool.h>

struct _object;

/* Whether blocks are noted; to be asked before any request is told. */
extern _Atomic bool allocs_noted;

/* The calling thread begins a request; returns its number, from 1; 0: blocks are not noted, or
 * there are no numbers left. */
uint32_t allocs_begin_request(void);
/* Around what the calling thread does for no request. */
void allocs_end_request(void);
/* A request with that number has ended, and is of this view (from ledger_view). Any thread. */
void allocs_set_view(uint32_t request, unsigned view);

/* Adds to the module _myserver what growth.py needs. Returns 0, or -1 with an exception set. */
MUST_CHECK int allocs_add(struct _object *module);

#endif
