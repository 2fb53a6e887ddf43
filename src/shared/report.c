/* report.c: a running request, as another thread or process sees it.
 *
 * Owns nothing. Reads the board, on which a text may be half-written by its thread, and /proc: both
 * can be read when the process is stopped or stuck. Never locks, never waits, never touches a
 * process. */
#include "shared/report.h"

#include "base/log.h"
#include "shared/board.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STACKS_MAX 32768 /* a process that has gone wrong may have written anything */

/* The system calls in which requests mostly wait; others are reported by number. */
static const struct {
    long number;
    const char *name;
} syscall_names[] = {
    {SYS_read, "read"},
    {SYS_write, "write"},
    {SYS_readv, "readv"},
    {SYS_writev, "writev"},
    {SYS_pread64, "pread64"},
    {SYS_pwrite64, "pwrite64"},
    {SYS_openat, "openat"},
    {SYS_fsync, "fsync"},
    {SYS_fdatasync, "fdatasync"},
    {SYS_flock, "flock"},
    {SYS_fcntl, "fcntl"},
    {SYS_connect, "connect"},
    {SYS_accept4, "accept4"},
    {SYS_recvfrom, "recvfrom"},
    {SYS_recvmsg, "recvmsg"},
    {SYS_sendto, "sendto"},
    {SYS_sendmsg, "sendmsg"},
    {SYS_ppoll, "ppoll"},
    {SYS_pselect6, "pselect6"},
    {SYS_epoll_pwait, "epoll_pwait"},
    {SYS_futex, "futex"},
    {SYS_nanosleep, "nanosleep"},
    {SYS_clock_nanosleep, "clock_nanosleep"},
    {SYS_wait4, "wait4"},
    {SYS_waitid, "waitid"},
/* Newer architectures have only the ones above. */
#ifdef SYS_poll
    {SYS_poll, "poll"},
    {SYS_select, "select"},
    {SYS_epoll_wait, "epoll_wait"},
#endif
};

/* The first bytes of /proc/PID/task/TID/NAME, without the end of the line; "" if unreadable. */
static void read_proc(pid_t pid, pid_t tid, const char *name, char *out, size_t size)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", (int)pid, (int)tid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, out, size - 1);
    if (fd >= 0)
        close(fd);
    out[got > 0 ? got : 0] = '\0';
    out[strcspn(out, "\n")] = '\0';
}

bool report_read_syscall(pid_t pid, pid_t tid, struct report_syscall *call)
{
    char line[256];
    uint64_t *a = call->args;
    read_proc(pid, tid, "syscall", line, sizeof(line));
    int fields =
        sscanf(line, "%ld %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64,
               &call->number, &a[0], &a[1], &a[2], &a[3], &a[4], &a[5]);
    return fields == 7;
}

static void append_syscall(struct buf *out, pid_t pid, pid_t tid)
{
    struct report_syscall call;
    if (!report_read_syscall(pid, tid, &call))
        return;
    for (size_t i = 0; i < ARRAY_LEN(syscall_names); i++)
        if (syscall_names[i].number == call.number) {
            buf_printf(out, ", syscall %s", syscall_names[i].name);
            return;
        }
    buf_printf(out, ", syscall %ld", call.number);
}

static const char *state_name(char state)
{
    switch (state) {
    case 'R':
        return "R (running)";
    case 'S':
        return "S (sleeping)";
    case 'D':
        return "D (in the kernel, cannot be interrupted)";
    case 'T':
        return "T (stopped)";
    case 't':
        return "t (traced)";
    default:
        return NULL;
    }
}

void report_kernel(struct buf *out, pid_t pid, pid_t tid)
{
    char stat[512], wchan[64];
    read_proc(pid, tid, "stat", stat, sizeof(stat));
    const char *name_end = strrchr(stat, ')'); /* the last one: a name may contain parentheses */
    if (!name_end || strlen(name_end) < 3) {
        buf_append_str(out, "the kernel does not know it");
        return;
    }
    const char *name = state_name(name_end[2]);
    if (name)
        buf_printf(out, "state %s", name);
    else
        buf_printf(out, "state %c", name_end[2]);
    read_proc(pid, tid, "wchan", wchan, sizeof(wchan));
    if (wchan[0] && strcmp(wchan, "0") != 0)
        buf_printf(out, ", wchan %s", wchan);
    append_syscall(out, pid, tid);
}

static void append_text(struct buf *out, const char *text, size_t room)
{
    log_escape(out, text, strnlen(text, room));
}

void report_request(struct buf *out, const struct board_seat *slot)
{
    uint64_t now = now_ns(), started_ns = atomic_load(&slot->started_ns);
    append_text(out, slot->method, sizeof(slot->method));
    buf_append_str(out, " ");
    append_text(out, slot->path, sizeof(slot->path));
    buf_printf(out, ", running %.1f s, client ",
               now > started_ns ? (double)(now - started_ns) / 1e9 : 0.);
    append_text(out, slot->client, sizeof(slot->client));
}

void report_running(struct buf *out, struct board *board, unsigned slot, unsigned except, pid_t pid)
{
    for (unsigned i = 0; i < board->seats; i++) {
        const struct board_seat *thread = board_seat(board, slot, i);
        if (i == except || atomic_load(&thread->phase) != BOARD_RUNNING)
            continue;
        buf_printf(out, "thread %u: ", i + 1);
        report_request(out, thread);
        if (pid) {
            buf_append_str(out, ", ");
            report_kernel(out, pid, atomic_load(&thread->tid));
        }
        buf_append_str(out, "\n");
    }
}

static bool is_stacks_file(int directory_fd, const char *name)
{
    static const char wanted[] = "/memfd:" REPORT_STACKS_NAME " ";
    char target[64];
    ssize_t len = readlinkat(directory_fd, name, target, sizeof(target));
    return len >= (ssize_t)strlen(wanted) && strncmp(target, wanted, strlen(wanted)) == 0;
}

void report_stacks_file(struct buf *out, int fd)
{
    char text[STACKS_MAX];
    ssize_t got = pread(fd, text, sizeof(text), 0);
    if (got > 0)
        buf_append(out, text, (size_t)got);
}

static void append_file(struct buf *out, int fd)
{
    if (fd < 0)
        return;
    report_stacks_file(out, fd);
    close(fd);
}

void report_stacks(struct buf *out, pid_t pid)
{
    char path[32];
    snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    DIR *directory = opendir(path);
    const struct dirent *entry;
    while (directory && (entry = readdir(directory)))
        if (is_stacks_file(dirfd(directory), entry->d_name))
            append_file(out, openat(dirfd(directory), entry->d_name, O_RDONLY | O_CLOEXEC));
    if (directory)
        closedir(directory);
}
