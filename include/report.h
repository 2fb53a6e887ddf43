/* report.h: what can be said of a running request from beside it: by the board, and by the kernel.
 * For the thread that watches over a worker and, when that is wedged, the master. */
#ifndef MYSERVER_REPORT_H
#define MYSERVER_REPORT_H

#include "base.h"
#include "buf.h"

#include <stdbool.h>
#include <sys/types.h>

struct board;
struct board_thread;

/* The system call that a thread is in. */
struct report_syscall {
    long number;
    uint64_t args[6];
};

/* False: it is in none, or the kernel does not tell. */
MUST_CHECK bool report_read_syscall(pid_t pid, pid_t tid, struct report_syscall *call);
/* "GET /path, running 12.3 s, client 192.0.2.1" */
void report_request(struct buf *out, const struct board_thread *slot);
/* "state S (sleeping), wchan futex_wait_queue, syscall futex" */
void report_kernel(struct buf *out, pid_t pid, pid_t tid);
/* A line for every running request of a worker, but that of thread `except`; `pid` of the worker
 * for what the kernel says of each, 0 to leave that out. */
void report_running(struct buf *out, struct board *board, unsigned slot, unsigned except,
                    pid_t pid);
/* For `except`: none. */
#define REPORT_ALL UINT32_MAX

#endif
