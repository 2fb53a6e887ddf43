/* ending.h: how a process with Python ends. */
#ifndef MYSERVER_PYTHON_ENDING_H
#define MYSERVER_PYTHON_ENDING_H

#include "base/base.h"

/* Ends what this process has made in Python, as `python` would (see ends.py), and then the process,
 * with `status`. `reason`: see python_end. At `due_ns` (now_ns) it is cut, and its stacks are
 * logged. SIGQUIT ends the process at once. On the main thread, GIL held; threads of the server
 * have no Python any more. */
NORETURN void ending_leave(enum exit_status status, uint64_t due_ns, const char *reason);
/* From now on the process is cut at `due_ns`, whatever it does; only the first call counts. Any
 * thread, GIL not needed. */
void ending_bound(enum exit_status status, uint64_t due_ns);

#endif
