/* growth.h: traces the memory of this process, for one who wants to know what of it grows. On one
 * thread that is no python_thread, GIL not held; each waits for it. */
#ifndef MYSERVER_PYTHON_GROWTH_H
#define MYSERVER_PYTHON_GROWTH_H

#include "base/base.h"
#include "base/buf.h"

#include <stdbool.h>

/* Begins. NULL, or a sentence that says why that cannot be; owned by the caller. */
MUST_CHECK char *growth_begin(void);
/* In the middle of the time: the first snapshot. As above. */
MUST_CHECK char *growth_mark(void);
/* At its end: the second snapshot; puts the result into `out`, as JSON. As above. `type`: the name
 * of a type whose owners are to be found, or empty. `pages`: whether to tell which types lie on
 * copied pages. */
MUST_CHECK char *growth_result(struct buf *out, const char *type, bool pages);
/* Nothing is traced any more. */
void growth_stop(void);

#endif
