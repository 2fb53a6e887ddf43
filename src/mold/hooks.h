/* hooks.h: the process that runs the application's hooks about other processes: when_ready,
 * child_exit. It is forked from the mold as a worker is, so that nothing which they leave, and no
 * time that they take, is the mold's. It lives as long as its generation is in service. In the
 * mold. */
#ifndef MYSERVER_MOLD_HOOKS_H
#define MYSERVER_MOLD_HOOKS_H

#include "shared/order.h"
#include "shared/seed.h"

#include <stdbool.h>

/* Without preload, when the mold has no Python: starts the process, which starts Python and imports
 * the modules of the option `hooks`, and waits until it has. 0, or -1 after the reason went to the
 * log. */
MUST_CHECK int hooks_load(const struct worker_seed *seed, int order_fd);
/* Takes MOLD_SERVES and MOLD_GONE; starts the process if there are hooks for it. GIL held, if this
 * process has Python. `order_fd`: the mold's, for the new process to close. */
void hooks_take(const struct worker_seed *seed, int order_fd, const struct mold_order *order);
/* Lets the process end, when it has run what it was told. */
void hooks_end(void);
/* The same, and waits for its end, which it bounds itself by `due_ns` (now_ns). */
void hooks_await_end(uint64_t due_ns);
/* In a worker: it has nothing to do with that process. */
void hooks_let_go(void);

#endif
