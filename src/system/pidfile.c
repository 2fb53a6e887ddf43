/* pidfile.c: the pid file: opened with the rights of the start, written when the server is ready,
 * removed at its end.
 *
 * Owns the file and its lock. The lock, which ends with the process, tells whether the file is in
 * use: the pid in it may belong to any process after a crash. Children close the descriptor, or
 * they would hold the lock too.
 *
 * Never uses the pid in the file, but to see whether it is still the own one. Master only. */
#include "system/pidfile.h"

#include "base/log.h"
#include "config/origin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static char *absolute(const char *path)
{
    char *here = path[0] == '/' ? NULL : getcwd(NULL, 0);
    char *result = here ? xasprintf("%s/%s", here, path) : xstrdup(path);
    free(here);
    return result;
}

/* The file is emptied and changes its owner, so it must not be a link that somebody has made to
 * another file. */
static void refuse_foreign(int fd, const char *path)
{
    struct stat file;
    if (fstat(fd, &file) != 0 || !S_ISREG(file.st_mode) || file.st_nlink > 1)
        config_origin_die(EXIT_CONFIG, "pid", NULL,
                          "%s is no regular file, or has another name (a hard link); remove it",
                          path);
}

static NORETURN void refuse(const char *path)
{
    if (errno == ENOENT || errno == ENOTDIR)
        config_origin_die(
            EXIT_CONFIG, "pid", NULL,
            "cannot open %s: its directory does not exist; make it, or let the service "
            "manager do that (RuntimeDirectory)",
            path);
    config_origin_die(EXIT_CONFIG, "pid", NULL, "cannot open %s: %s", path, strerror(errno));
}

void pidfile_check(const char *path)
{
    if (!path)
        return;
    char *directory = directory_of(path);
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd >= 0)
        close(fd);
    else if (errno != ENOENT || access(directory, W_OK | X_OK) != 0)
        refuse(path);
    free(directory);
}

void pidfile_open(struct pidfile *p, const char *path, bool upgrading, uid_t uid, gid_t gid)
{
    *p = (struct pidfile){.fd = -1};
    if (!path)
        return;
    p->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (p->fd < 0)
        refuse(path);
    refuse_foreign(p->fd, path);
    p->locked = flock(p->fd, LOCK_EX | LOCK_NB) == 0;
    if (!p->locked && errno != EWOULDBLOCK) /* ENOLCK: NFS without its lock daemon */
        config_origin_die(EXIT_CONFIG, "pid", NULL,
                          "cannot lock %s: %s; put it on a local file system such as /run", path,
                          strerror(errno));
    if (!p->locked && !upgrading)
        config_origin_die(EXIT_CONFIG, "pid", NULL, "%s is held by another server that runs", path);
    if (p->locked && ftruncate(p->fd, 0) != 0)
        log_warning("pid: cannot empty %s: %s", path, strerror(errno));
    if (geteuid() == 0 && fchown(p->fd, uid, gid) != 0)
        log_warning("pid: %s keeps its owner: %s", path, strerror(errno));
    p->path = absolute(path);
}

void pidfile_write(struct pidfile *p)
{
    char text[16];
    if (!p->path || (p->locked && p->written))
        return;
    if (!p->locked)
        p->locked = flock(p->fd, LOCK_EX | LOCK_NB) == 0;
    if (p->written)
        return;
    p->written = true;
    int len = snprintf(text, sizeof text, "%d\n", getpid());
    if (ftruncate(p->fd, 0) != 0 || pwrite(p->fd, text, (size_t)len, 0) != len)
        log_warning("pid: cannot write %s: %s", p->path, strerror(errno));
}

/* Whether the path still leads to the file that was opened. */
static bool is_ours(const struct pidfile *p)
{
    struct stat there, ours;
    return stat(p->path, &there) == 0 && fstat(p->fd, &ours) == 0 && there.st_dev == ours.st_dev &&
           there.st_ino == ours.st_ino;
}

/* Whether another pid is in the file: a successor writes its own before it takes over. */
static bool says_another(const struct pidfile *p)
{
    char text[16] = "";
    return pread(p->fd, text, sizeof text - 1, 0) > 0 && atoi(text) != getpid();
}

void pidfile_close(struct pidfile *p)
{
    if (!p->path)
        return;
    if (!says_another(p) && is_ours(p) && unlink(p->path) != 0 && ftruncate(p->fd, 0) != 0)
        log_warning("pid: cannot remove %s: %s", p->path, strerror(errno));
    close(p->fd);
    free(p->path);
    *p = (struct pidfile){.fd = -1};
}
