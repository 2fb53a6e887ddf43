/* report.h: what another thread or process can tell about a running request, from the board and
 * from the kernel. For the watch of a worker (watch.h), and for the master. */
#ifndef MYSERVER_SHARED_REPORT_H
#define MYSERVER_SHARED_REPORT_H

#include "base/base.h"
#include "base/buf.h"

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

struct board;
struct board_seat;

/* The system call that a thread is in. */
struct report_syscall {
    long number;
    uint64_t args[6];
};

/* False: the thread is in no system call, or the kernel does not tell. */
MUST_CHECK bool report_read_syscall(pid_t pid, pid_t tid, struct report_syscall *call);
/* Appends "GET /path, running 12.3 s, client 192.0.2.1". */
void report_request(struct buf *out, const struct board_seat *slot);
/* Appends "state S (sleeping), wchan futex_wait_queue, syscall futex". */
void report_kernel(struct buf *out, pid_t pid, pid_t tid);
/* Appends a line for every running request of a worker, except that of thread `except`. With the
 * `pid` of the worker each line also has what report_kernel tells; 0: it does not. */
void report_running(struct buf *out, struct board *board, unsigned slot, unsigned except,
                    pid_t pid);
/* A value for `except`: leave out none. */
#define REPORT_ALL         UINT32_MAX

/* faulthandler's handler for PROCESS_STACKS_SIGNAL writes the stacks of all Python threads, without
 * the GIL, into a memfd of that name, which every process with Python has. */
#define REPORT_STACKS_NAME "stacks"
/* Appends what another process has written there; nothing if it has not. */
void report_stacks(struct buf *out, pid_t pid);
/* The same from the descriptor of such a file; borrows it. */
void report_stacks_file(struct buf *out, int fd);

#endif
