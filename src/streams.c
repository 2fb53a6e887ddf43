/* streams.c: keeps the numbers of the standard streams taken. Layer 0. Owns nothing. */
#include "streams.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

void streams_fill(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

int streams_spare(int fd)
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
