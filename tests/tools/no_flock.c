/* no_flock.c: for LD_PRELOAD: flock(2) as on NFS without its lock daemon. */
#include <errno.h>
#include <sys/file.h>

int flock(int fd, int operation)
{
    (void)fd;
    (void)operation;
    errno = ENOLCK;
    return -1;
}
