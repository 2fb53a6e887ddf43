/* context.h: context variables (contextvars) belong to one request.
 * GIL held for everything here. */
#ifndef MYSERVER_PYTHON_CONTEXT_H
#define MYSERVER_PYTHON_CONTEXT_H

#include "base/base.h"

/* Context variables that are set now, on the main thread, are set in every request. After
 * context_leave. */
void context_keep(void);
/* Around a request, on its thread: what it sets ends with it. context_begin returns 0, or -1 with
 * an exception set. */
MUST_CHECK int context_begin(void);
void context_end(void);
/* Back to the thread's own context, in which it runs what is no request. */
void context_leave(void);

#endif
