/* unlinked.c: temporary files that nobody else sees. Owns nothing. */
#include "base/unlinked.h"
#include "base/fds.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static int open_named(const char *dir)
{
    char *path = xasprintf("%s/myserver-XXXXXX", dir);
    int fd = mkostemp(path, O_CLOEXEC);
    int error = errno;
    if (fd >= 0)
        unlink(path);
    free(path);
    errno = error;
    return fd;
}

int unlinked_open(const char *dir)
{
    if (!dir)
        return fds_spare(memfd_create("myserver-large", MFD_CLOEXEC));
    int fd = open(dir, O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    /* Not every file system has O_TMPFILE; each reports that with another errno. */
    return fds_spare(fd >= 0 ? fd : open_named(dir));
}

char *unlinked_find_dir(void)
{
    const char *const dirs[] = {getenv("TMPDIR"), "/tmp", "/var/tmp"};
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        int fd = dirs[i] && dirs[i][0] == '/' ? unlinked_open(dirs[i]) : -1;
        if (fd < 0)
            continue;
        close(fd);
        return xstrdup(dirs[i]);
    }
    return NULL;
}
