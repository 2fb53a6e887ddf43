/* beneath.c: opens files below a directory.
 *
 * The kernel watches over the way (openat2, Linux 5.6). Where it cannot, because it is older or a
 * sandbox forbids the call, the way is walked step by step, and no symbolic link is followed at
 * all. Owns nothing. */
#include "system/beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OPEN_FLAGS (O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)

/* Opens the next name of the way. Takes `dir_fd`, unless it is the first. */
static int step(int first_fd, int dir_fd, const char *name, int flags)
{
    int fd = openat(dir_fd, name, flags | O_NOFOLLOW | O_CLOEXEC);
    int error = errno;
    if (dir_fd != first_fd)
        close(dir_fd);
    errno = error;
    return fd;
}

static int walk(int first_fd, const char *path)
{
    char name[NAME_MAX + 1];
    int dir_fd = first_fd;
    for (;;) {
        size_t len = strcspn(path, "/");
        bool is_wrong = len > NAME_MAX || (len == 2 && memcmp(path, "..", 2) == 0);
        if (is_wrong) {
            if (dir_fd != first_fd)
                close(dir_fd);
            errno = len > NAME_MAX ? ENAMETOOLONG : EXDEV;
            return -1;
        }
        memcpy(name, path, len);
        name[len] = '\0';
        path += len + strspn(path + len, "/");
        if (*path == '\0')
            return step(first_fd, dir_fd, len ? name : ".", OPEN_FLAGS);
        dir_fd = step(first_fd, dir_fd, len ? name : ".", O_PATH | O_DIRECTORY);
        if (dir_fd < 0)
            return -1;
    }
}

/* So often, if the kernel cannot be sure. */
#define TRIES 8

int beneath_open(int dir_fd, const char *path)
{
    static _Atomic bool is_missing;
    struct open_how how = {.flags = OPEN_FLAGS, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    if (path[0] == '/') {
        errno = EXDEV;
        return -1;
    }
    if (!atomic_load_explicit(&is_missing, memory_order_relaxed)) {
        long fd;
        unsigned tries = 0;
        do /* EAGAIN: something was renamed meanwhile; or another process has a lease on the file */
            fd = syscall(SYS_openat2, dir_fd, path, &how, sizeof(how));
        while (fd < 0 && (errno == EINTR || (errno == EAGAIN && ++tries < TRIES)));
        if (fd >= 0 || (errno != ENOSYS && errno != EPERM))
            return (int)fd;
        atomic_store_explicit(&is_missing, errno == ENOSYS, memory_order_relaxed);
    }
    return walk(dir_fd, path);
}
