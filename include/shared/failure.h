/* failure.h: why a process ended, as text. */
#ifndef MYSERVER_SHARED_FAILURE_H
#define MYSERVER_SHARED_FAILURE_H

#include "base/base.h"

#include <stdbool.h>
#include <sys/types.h>

/* "signal 11 (SIGSEGV)" or "exit status 1"; valid until the next call. */
const char *failure_status(int status);
/* Why a process that ended with `status` did not load the application; it may have logged more.
 * `was_late`: it was killed at the startup-timeout. Valid until the next call. */
const char *failure_load(int status, bool was_late);
/* Why the first worker of a mold did not begin to serve. */
const char *failure_begin(bool was_late);
/* Whether a process that loads the application ended by saying that this failed. */
bool failure_is_said(int status);
/* The exit status of a start that failed because a process ended with `status`. */
enum exit_status failure_exit(int status);
/* Logs that a process does not get ready and is killed, with the stacks that it has written since
 * it got PROCESS_STACKS_SIGNAL, FAILURE_STACKS_MS ago. */
void failure_log_late(const char *name, pid_t pid);
#define FAILURE_STACKS_MS 300

#endif
