/* fds.c: file descriptors: the numbers of the standard streams, the limit, and descriptors that go
 * from process to process. Owns nothing. */
#include "base/fds.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define RESERVED_MIN 40
#define RESERVED_MAX 1024
#define OPEN_GUESS   32 /* without /proc */

void fds_fill_streams(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

int fds_spare(int fd)
{
    if (LIKELY(fd < 0 || fd > STDERR_FILENO))
        return fd;
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    int error = errno;
    int null_fd = open("/dev/null", O_RDWR); /* may fill the number of another closed stream */
    if (null_fd < 0 || dup2(null_fd, fd) < 0)
        close(fd);
    if (null_fd > STDERR_FILENO)
        close(null_fd);
    errno = error;
    return moved;
}

static unsigned count_open(void)
{
    DIR *directory = opendir("/proc/self/fd");
    if (!directory)
        return OPEN_GUESS;
    unsigned count = 0;
    while (readdir(directory))
        count++;
    closedir(directory);
    return count - 3; /* ".", ".." and the directory itself */
}

unsigned fds_for_clients(unsigned threads)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur > UINT_MAX / 4)
        return UINT_MAX / 4;
    unsigned limit = (unsigned)files.rlim_cur, open = count_open();
    unsigned left = limit > open ? limit - open : 1;
    unsigned reserved = limit / 8 + threads;
    reserved = reserved < RESERVED_MIN ? RESERVED_MIN : reserved;
    reserved = reserved > RESERVED_MAX ? RESERVED_MAX : reserved;
    return left > 2 * reserved ? left - reserved : (left + 1) / 2;
}

const char *fds_advice(int error)
{
    if (error == ENFILE)
        return "; raise the limit of the whole system (sysctl fs.file-max)";
    return error == EMFILE ? "; raise the limit of open files (ulimit -n, LimitNOFILE)" : "";
}

union control {
    struct cmsghdr header;
    char room[CMSG_SPACE(FDS_SENT_MAX * sizeof(int))];
};

bool fds_send(int socket, const void *data, size_t len, const int *fds, unsigned count)
{
    assert(count > 0 && count <= FDS_SENT_MAX);
    struct iovec piece = {(void *)(uintptr_t)data, len};
    union control control = {0};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(&control.header), fds, count * sizeof(int));
    return sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

ssize_t fds_receive(int socket, void *data, size_t size, int *fds, unsigned *count, int flags)
{
    assert(*count <= FDS_SENT_MAX);
    struct iovec piece = {data, size};
    union control control;
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = CMSG_SPACE(*count * sizeof(int))};
    *count = 0;
    ssize_t got = recvmsg(socket, &message, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    struct cmsghdr *rights = got > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (!rights || rights->cmsg_type != SCM_RIGHTS)
        return got;
    *count = (unsigned)((rights->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    memcpy(fds, CMSG_DATA(rights), *count * sizeof(int));
    for (unsigned i = 0; i < *count; i++) /* all of them, before one takes the place of a stream */
        fds[i] = fds_spare(fds[i]);
    return got;
}
