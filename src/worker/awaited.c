/* awaited.c: the sockets that threads of this process wait for.
 *
 * Owns the list of sockets that were open when the worker began. Reads /proc and the memory of
 * system calls, both of which may change meanwhile: what it finds was true a moment ago. Never
 * touches a socket. */
#include "awaited.h"
#include "base/buf.h"
#include "shared/report.h"

#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define WAITS_MAX   64 /* descriptors of one system call that are looked at */
#define LOCK_FRAMES 3  /* from a wait for a lock to the code that the lock guards */

static struct buf inherited; /* inodes (ino_t) */

/* The inode of a socket; 0: the descriptor is none. */
static ino_t socket_of(int fd)
{
    struct stat status;
    return fd >= 0 && fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode) ? status.st_ino : 0;
}

void awaited_note_inherited(void)
{
    DIR *fds = opendir("/proc/self/fd");
    buf_fini(&inherited); /* a mold that was a worker */
    for (struct dirent *entry; fds && (entry = readdir(fds));) {
        ino_t socket = socket_of(atoi(entry->d_name));
        if (entry->d_name[0] != '.' && socket)
            buf_append(&inherited, (const char *)&socket, sizeof(socket));
    }
    if (fds)
        closedir(fds);
}

static bool is_inherited(ino_t socket)
{
    for (size_t at = 0; at < inherited.len; at += sizeof(socket))
        if (memcmp(inherited.data + at, &socket, sizeof(socket)) == 0)
            return true;
    return false;
}

/* Copies what a thread's system call points to. Not through the pointer: the call may have
 * returned, and its stack be unmapped. */
static bool copy_argument(uint64_t address, void *to, size_t size)
{
    struct iovec here = {to, size}, there = {(void *)(uintptr_t)address, size};
    return process_vm_readv(getpid(), &here, 1, &there, 1, 0) == (ssize_t)size;
}

static int read_polled(const struct report_syscall *call, int fds[WAITS_MAX])
{
    struct pollfd polled[WAITS_MAX];
    uint64_t count = call->args[1] < WAITS_MAX ? call->args[1] : WAITS_MAX;
    if (!copy_argument(call->args[0], polled, count * sizeof(polled[0])))
        return 0;
    for (uint64_t i = 0; i < count; i++)
        fds[i] = polled[i].fd;
    return call->args[1] > WAITS_MAX ? WAITS_MAX + 1 : (int)count;
}

static int read_selected(const struct report_syscall *call, int fds[WAITS_MAX])
{
    int count = 0, limit = call->args[0] < FD_SETSIZE ? (int)call->args[0] : FD_SETSIZE;
    fd_set waits[2] = {0};
    for (int i = 0; i < 2; i++) /* to read, to write */
        if (call->args[1 + i] &&
            !copy_argument(call->args[1 + i], &waits[i], ((size_t)limit + 63) / 64 * 8))
            return 0;
    for (int fd = 0; fd < limit && count < WAITS_MAX; fd++)
        if (FD_ISSET(fd, &waits[0]) || FD_ISSET(fd, &waits[1]))
            fds[count++] = fd;
    return count;
}

/* The descriptors that the thread's current system call waits for; how many. More than WAITS_MAX:
 * there are more than these. */
static int read_awaited_fds(pid_t tid, int fds[WAITS_MAX])
{
    struct report_syscall call;
    if (!report_read_syscall(getpid(), tid, &call))
        return 0;
    switch (call.number) {
    case SYS_read:
    case SYS_readv:
    case SYS_write:
    case SYS_writev:
    case SYS_recvfrom:
    case SYS_recvmsg:
    case SYS_recvmmsg:
    case SYS_sendto:
    case SYS_sendmsg:
    case SYS_sendmmsg:
    case SYS_connect:
    case SYS_epoll_pwait:
#ifdef SYS_epoll_wait
    case SYS_epoll_wait:
#endif
        fds[0] = (int)call.args[0];
        return 1;
#ifdef SYS_poll
    case SYS_poll:
#endif
    case SYS_ppoll:
        return read_polled(&call, fds);
#ifdef SYS_select
    case SYS_select:
#endif
    case SYS_pselect6:
        return read_selected(&call, fds);
    default:
        return 0;
    }
}

int awaited_fd(pid_t tid)
{
    int fds[WAITS_MAX];
    return read_awaited_fds(tid, fds) == 1 ? fds[0] : -1;
}

/* Whether a descriptor of an epoll set is of this socket. */
static bool epoll_has(int epoll_fd, ino_t socket)
{
    char path[64], line[256];
    bool found = false;
    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", epoll_fd);
    FILE *file = fopen(path, "re");
    while (file && !found && fgets(line, sizeof(line), file)) {
        int fd;
        found = sscanf(line, "tfd: %d", &fd) == 1 && socket_of(fd) == socket;
    }
    if (file)
        fclose(file);
    return found;
}

static bool thread_waits_for(pid_t tid, ino_t socket)
{
    int fds[WAITS_MAX];
    int count = read_awaited_fds(tid, fds);
    for (int i = 0; i < count; i++)
        if (socket_of(fds[i]) == socket || epoll_has(fds[i], socket))
            return true;
    return count > WAITS_MAX; /* it waits for many: this one may be among them */
}

/* Whether another thread of this process waits for it too: that one reads for several requests. */
static bool others_wait_for(pid_t tid, ino_t socket)
{
    DIR *tasks = opendir("/proc/self/task");
    bool found = !tasks;
    for (struct dirent *task; tasks && !found && (task = readdir(tasks));) {
        pid_t other = (pid_t)atoi(task->d_name);
        found = other > 0 && other != tid && thread_waits_for(other, socket);
    }
    if (tasks)
        closedir(tasks);
    return found;
}

bool awaited_only_by(pid_t tid, int fd)
{
    ino_t socket = socket_of(fd);
    return socket && !is_inherited(socket) && !others_wait_for(tid, socket);
}

/* What follows the line in which faulthandler names the thread; NULL: it has no stack. */
static const char *stack_of(const char *stacks, pthread_t thread)
{
    char name[32];
    snprintf(name, sizeof(name), "hread 0x%016lx", (unsigned long)thread);
    const char *header = strstr(stacks, name), *end = header ? strchr(header, '\n') : NULL;
    return end ? end + 1 : NULL;
}

/* Whether two lines like `  File "app.py", line 3 in view` name the same function. */
static bool is_same_code(const char *a, const char *b)
{
    const char *a_line = strstr(a, "\", line "), *b_line = strstr(b, "\", line ");
    const char *a_name = a_line ? strstr(a_line, " in ") : NULL;
    const char *b_name = b_line ? strstr(b_line, " in ") : NULL;
    return a_name && b_name && a_line - a == b_line - b &&
           strncmp(a, b, (size_t)(a_line - a)) == 0 &&
           strcspn(a_name, "\n") == strcspn(b_name, "\n") &&
           strncmp(a_name, b_name, strcspn(a_name, "\n")) == 0;
}

/* The next line of a stack; NULL: there is none. */
static const char *next_frame(const char *frame)
{
    const char *end = strchr(frame, '\n');
    return end && strncmp(end, "\n  File ", 8) == 0 ? end + 1 : NULL;
}

bool awaited_by_lock(const char *stacks, pthread_t thread, pthread_t other, pid_t other_tid)
{
    struct report_syscall call;
    const char *theirs = stack_of(stacks, other), *ours = stack_of(stacks, thread);
    if (!ours || !theirs || !report_read_syscall(getpid(), other_tid, &call) ||
        call.number != SYS_futex)
        return false;
    for (int i = 0; theirs && i < LOCK_FRAMES; theirs = next_frame(theirs), i++)
        for (const char *frame = ours; frame; frame = next_frame(frame))
            if (is_same_code(theirs, frame))
                return true;
    return false;
}
