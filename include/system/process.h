/* process.h: a process's title, signals, and the program and directory that it was started with. */
#ifndef MYSERVER_SYSTEM_PROCESS_H
#define MYSERVER_SYSTEM_PROCESS_H

#include "base/base.h"

#include <signal.h>

/* Must be called first in main(): remembers where argv and the environment lie, and copies them
 * to the heap, so that titles may use their room. */
void process_init(int argc, char **argv);
/* The command line that the program was started with; borrowed, as long as the process lives. */
char **process_arguments(int *argc);
/* Changes to the directory of the start, by the name that the shell had for it: a symbolic link to
 * the current release may lead elsewhere now. Failure: one sentence, exit status 2. */
void process_go_home(void);
/* `path`, which begins at that directory unless it is absolute, as an absolute path; as it is when
 * that directory is gone. The caller owns it. */
char *process_from_home(const char *path);
/* Executes the program that argv[0] names now, with the same arguments. Failure: one sentence, exit
 * status 2. */
NORETURN void process_start_again(void);
/* Sets what ps shows: "myserver: worker 3 [app.wsgi] serving", cut to the room there is, and the
 * thread name (comm, 15 bytes) of the main thread. */
PRINTF_LIKE(1, 2) void process_set_title(const char *format, ...);
/* Master only: makes it the subreaper, so that orphans below it become its children, and switches
 * huge pages off for it and all that it forks (they turn one written byte into 2 MB of private
 * memory). */
void process_become_master(void);
/* Blocks `signals` and remembers the mask from before, without them: children hear them. */
void process_block_signals(const sigset_t *signals);
/* Ignores SIGPIPE where it would end the process: a write that fails says so anyway. Any thread. */
void process_ignore_broken_pipes(void);
/* The same for SIGPIPE and SIGXFSZ, which comes when a file is at the limit of file sizes. */
void process_ignore_failed_writes(void);
/* From now on SIGINT and SIGUSR2 do nothing, nor do SIGTERM and SIGQUIT, unless the process `ends`
 * with them. Returns the names of those that the application handled, "" for none; valid until the
 * next call. */
const char *process_take_signals(bool ends);
/* Asks a process for the stacks of its Python threads (shared/report.h). Not SIGRTMIN itself, since
 * applications use the real-time signals from there on. */
#define PROCESS_STACKS_SIGNAL (SIGRTMIN + 11)
/* In a new child: the mask is the one from before process_block_signals; as
 * process_ignore_failed_writes. SIGINT and SIGUSR2 do nothing: a terminal's ^C reaches the whole
 * group, and the master decides; a worker that starts has no stacks to show yet. So does
 * PROCESS_STACKS_SIGNAL, until Python has a handler for it. They have a handler instead of SIG_IGN,
 * so that programs that are executed get the default back. SIGTERM and SIGQUIT end it. */
void process_set_signals(void);
/* The same in a child of the master, where ignored signals get their default action before: later,
 * it is the application that ignores them. */
void process_restore_signals(void);

#endif
