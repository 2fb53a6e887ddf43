/* scribe.h: the process that makes records of what is printed, for an error log of JSON. */
#ifndef MYSERVER_SCRIBE_SCRIBE_H
#define MYSERVER_SCRIBE_SCRIBE_H

#include "base/base.h"

#include <signal.h>

struct board;

/* From the master: all that was to be printed is printed; write it and end. */
#define SCRIBE_END_SIGNAL SIGUSR2

/* The body of the process. `read_fd` is that of logfile_wrap. Ends with SCRIBE_END_SIGNAL, which
 * must be blocked, or when nobody can print any more. */
NORETURN void scribe_main(const struct board *board, int read_fd);

#endif
