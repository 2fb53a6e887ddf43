/* hints.h: what Python says of the application, for advice (shared/hints.h). */
#ifndef MYSERVER_PYTHON_HINTS_H
#define MYSERVER_PYTHON_HINTS_H

#include "base/base.h"

#include <stdbool.h>

struct _object;
struct hints;

/* From now on what this process knows goes there. */
void hints_begin(struct hints *hints);
/* A request has connected to a database, or failed to: `wrapper` is Django's, and an exception is
 * set where it failed. GIL held. */
void hints_note_connection(struct _object *wrapper, uint64_t time_ns, bool failed);
/* Adds what myserver.hints needs to the module _myserver. Returns 0, or -1 with an exception set.
 */
int hints_add(struct _object *module);

#endif
