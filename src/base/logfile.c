/* logfile.c: the descriptors behind the logs.
 *
 * Owns the two logs: their descriptors (1 and 2 for an error log in a file, unless they are
 * wrapped), how many lines each lost, and the socket pair in which the master leaves the files it
 * opened last. After the first reopening that socket always holds one message, which only the
 * master replaces. The other processes look at it with MSG_PEEK, which gives them the descriptors
 * each time (unix(7)). So nothing queues up, a process that was stopped or is forked later finds
 * the newest files, and a worker needs no right to open them.
 *
 * Never blocks for long, never formats, never says anything itself: a line that cannot be written
 * is lost and counted. */
#include "base/logfile.h"

#include "base/buf.h"
#include "base/fds.h"
#include "syslog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define SYSLOG_WORD "syslog:"

struct target {
    int fd;
    const char *path; /* NULL: it is no file */
    bool is_syslog;
    struct syslog syslog;
    _Atomic uint64_t lost; /* lines of this process, since the last one that was written */
};

/* The message in the socket; it carries a descriptor for every bit of `logs`. */
struct message {
    uint32_t opening; /* the how-many-th reopening it is from */
    uint32_t logs;    /* bit n: enum logfile n */
};

static struct target targets[LOGFILE_COUNT] = {
    [LOGFILE_ERROR] = {.fd = STDERR_FILENO},
    [LOGFILE_ACCESS] = {.fd = STDOUT_FILENO},
};
static int streams[2] = {-1, -1};   /* wrapped: what 1 and 2 were before; else -1 */
static int share_fds[2] = {-1, -1}; /* the end to read, the end to write */
static _Atomic uint32_t no_opening;
static _Atomic uint32_t *shared_opening = &no_opening; /* the master's count of reopenings */
static _Atomic uint32_t own_opening;                   /* the one this process has taken over */

/* ---- files ---- */

/* dup2 or dup3, repeated when interrupted. `flags` 0: the copy survives exec, as stderr does. */
static int duplicate(int fd, int onto, int flags)
{
    int result;
    do {
        result = flags ? dup3(fd, onto, flags) : dup2(fd, onto);
    } while (result < 0 && (errno == EINTR || errno == EBUSY));
    return result;
}

static const char *why(int error)
{
    if (error == ENOENT || error == ENOTDIR) /* not the file: O_CREAT would make it */
        return "its directory does not exist; make it, or let the service manager do that "
               "(LogsDirectory)";
    if (error == ENXIO)
        return "it is a pipe that nobody reads, or a socket; a standard stream is -";
    return strerror(error);
}

/* Makes the log go to `fd`, under the descriptor number that it had. Takes `fd`. */
static bool replace(enum logfile log, int fd)
{
    bool done;
    if (targets[log].fd == STDERR_FILENO)
        done = duplicate(fd, STDERR_FILENO, 0) >= 0 && duplicate(fd, STDOUT_FILENO, 0) >= 0;
    else
        done = duplicate(fd, targets[log].fd, O_CLOEXEC) >= 0;
    if (fd > STDERR_FILENO)
        close(fd);
    return done;
}

static int open_file(const char *path, bool follow_links)
{
    struct stat file;
    bool is_device = strncmp(path, "/dev/", 5) == 0 || strncmp(path, "/proc/", 6) == 0;
    int extra = follow_links || is_device ? 0 : O_NOFOLLOW;
    /* O_NONBLOCK: do not wait until a process opens a pipe for reading. */
    int fd =
        open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | extra, 0640);
    if (fd >= 0 && extra && (fstat(fd, &file) != 0 || file.st_nlink > 1)) {
        close(fd);
        fd = -1;
        errno = EMLINK;
    }
    if (fd >= 0)
        fcntl(fd, F_SETFL, O_APPEND);
    return fd;
}

static char *begin_file(enum logfile log, const char *path, bool follow_links)
{
    int fd = open_file(path, follow_links);
    if (fd < 0)
        return xasprintf("cannot open %s: %s", path, why(errno));
    if (log == LOGFILE_ACCESS)
        targets[log].fd = fd;
    else if (!replace(log, fd))
        return xasprintf("cannot use %s: %s", path, strerror(errno));
    targets[log].path = path;
    return NULL;
}

static char *begin_syslog(enum logfile log, const char *address)
{
    struct syslog syslog;
    char *wrong = syslog_open(&syslog, address);
    if (!wrong) {
        targets[log].is_syslog = true;
        targets[log].syslog = syslog;
    }
    return wrong;
}

/* What follows "syslog:"; NULL when `where` does not begin so. */
static const char *syslog_address(const char *where)
{
    size_t len = strlen(SYSLOG_WORD);
    return strncmp(where, SYSLOG_WORD, len) == 0 ? where + len : NULL;
}

/* ---- one set of files for all processes ---- */

/* Puts the current files into the socket, and removes the message before. False: see errno. */
static bool put_message(uint32_t opening)
{
    static bool has_one;
    struct message message = {.opening = opening};
    int fds[LOGFILE_COUNT];
    unsigned count = 0;
    for (unsigned log = 0; log < LOGFILE_COUNT; log++)
        if (targets[log].path) {
            message.logs |= 1u << log;
            fds[count++] = targets[log].fd;
        }
    if (count == 0)
        return true;
    if (!fds_send(share_fds[1], &message, sizeof message, fds, count))
        return false;
    /* The message before is removed only now, so that the socket is never empty for a process that
     * looks. recv without room for descriptors makes the kernel close those of the message. */
    if (has_one && recv(share_fds[0], &message, sizeof message, MSG_DONTWAIT) < 0)
        return false;
    has_one = true;
    atomic_store(shared_opening, opening);
    return true;
}

void logfile_share(_Atomic uint32_t *opening)
{
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, share_fds) != 0)
        die(EXIT_CRASH, "cannot make a socket pair: %s", strerror(errno));
    shared_opening = opening;
}

/* /dev/stderr and its like, which would now be the wrapped stream. */
static bool is_own_stream(const char *path)
{
    return streams[1] >= 0 &&
           (strncmp(path, "/dev/", 5) == 0 || strncmp(path, "/proc/self/fd/", 14) == 0);
}

char *logfile_reopen(void)
{
    struct buf wrong = {0};
    for (unsigned log = 0; log < LOGFILE_COUNT; log++) {
        if (!targets[log].path || is_own_stream(targets[log].path))
            continue;
        int fd = open_file(targets[log].path, true); /* as the user that the log was given to */
        if (fd < 0 || !replace((enum logfile)log, fd))
            buf_printf(&wrong, "%scannot open %s: %s", wrong.len ? "; " : "", targets[log].path,
                       why(errno));
    }
    uint32_t opening = atomic_load(&own_opening) + 1;
    atomic_store(&own_opening, opening);
    if (!put_message(opening))
        buf_printf(&wrong, "%scannot give them to the workers, who keep those before: %s",
                   wrong.len ? "; " : "", strerror(errno));
    char *sentence = wrong.len ? xasprintf("%.*s", (int)wrong.len, wrong.data) : NULL;
    buf_fini(&wrong);
    return sentence;
}

/* Replaces the descriptors of this process by those of the message. Other threads may do the same
 * at the same time, with the same result. */
static void take_over(void)
{
    struct message message;
    int fds[LOGFILE_COUNT];
    unsigned count = LOGFILE_COUNT;
    ssize_t got = fds_receive(share_fds[0], &message, sizeof message, fds, &count, MSG_PEEK);
    if (got != (ssize_t)sizeof message || count == 0)
        return; /* no descriptor is free: tried again with the next line */
    bool whole = count == (unsigned)__builtin_popcount(message.logs);
    for (unsigned i = 0; i < count; i++)
        whole = whole && fds[i] >= 0;
    for (unsigned log = 0, i = 0; log < LOGFILE_COUNT && i < count; log++)
        if (message.logs & 1u << log)
            (void)replace((enum logfile)log, fds[i++]);
    if (whole)
        atomic_store(&own_opening, message.opening);
}

void logfile_follow(void)
{
    if (UNLIKELY(atomic_load_explicit(shared_opening, memory_order_relaxed) !=
                 atomic_load_explicit(&own_opening, memory_order_relaxed))) {
        int before = errno;
        take_over();
        errno = before;
    }
}

/* ---- opening and writing ---- */

static int check_directory_of(const char *path)
{
    char *directory = directory_of(path);
    int error = access(directory, W_OK | X_OK) == 0 ? 0 : errno;
    free(directory);
    return error;
}

/* Creates no file: a check by root would leave one that the server cannot write to. */
static int check_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd >= 0)
        close(fd);
    if (fd >= 0)
        return 0;
    return errno == ENOENT ? check_directory_of(path) : errno;
}

char *logfile_check(const char *where)
{
    const char *address = syslog_address(where);
    if (strcmp(where, "-") == 0)
        return NULL;
    if (address)
        return syslog_check(address);
    int error = check_file(where);
    return error ? xasprintf("cannot open %s: %s", where, why(error)) : NULL;
}

/* Gives an access log on stdout a descriptor of its own: an error log in a file takes 1 and 2. */
static void keep_stream(enum logfile log)
{
    int fd = log == LOGFILE_ACCESS ? fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1) : -1;
    if (fd >= 0)
        targets[log].fd = fd;
}

/* ---- the streams ---- */

static int keep(int fd)
{
    return fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
}

int logfile_wrap(void)
{
    int ends[2], on = 1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return -1;
    /* an error log in a file has both, and they are opened again by the name of the file */
    streams[1] = keep(STDERR_FILENO);
    streams[0] = targets[LOGFILE_ERROR].path ? streams[1] : keep(STDOUT_FILENO);
    if (streams[0] < 0 || streams[1] < 0 ||
        setsockopt(ends[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0 ||
        duplicate(ends[1], STDOUT_FILENO, 0) < 0 || duplicate(ends[1], STDERR_FILENO, 0) < 0) {
        int error = errno;
        logfile_unwrap();
        close(ends[0]);
        close(ends[1]);
        errno = error;
        return -1;
    }
    targets[LOGFILE_ERROR].fd = streams[1];
    (void)shutdown(ends[0], SHUT_WR); /* nobody can read from 1 and 2 */
    close(ends[1]);
    return ends[0];
}

void logfile_unwrap(void)
{
    if (streams[1] < 0 || streams[0] < 0)
        return;
    (void)duplicate(streams[0], STDOUT_FILENO, 0);
    (void)duplicate(streams[1], STDERR_FILENO, 0);
    targets[LOGFILE_ERROR].fd = STDERR_FILENO;
    if (streams[0] != streams[1])
        close(streams[0]);
    close(streams[1]);
    streams[0] = streams[1] = -1;
}

void logfile_pass_on(void)
{
    const struct target *access = &targets[LOGFILE_ACCESS];
    logfile_unwrap();
    if (!access->path && !access->is_syslog && access->fd > STDERR_FILENO)
        (void)duplicate(access->fd, STDOUT_FILENO, 0);
}

char *logfile_open(enum logfile log, const char *where, bool follow_links)
{
    const char *address = syslog_address(where);
    if (strcmp(where, "-") == 0) {
        keep_stream(log);
        return NULL;
    }
    return address ? begin_syslog(log, address) : begin_file(log, where, follow_links);
}

bool logfile_is_syslog(enum logfile log)
{
    return targets[log].is_syslog;
}

bool logfile_give(enum logfile log, uid_t uid, gid_t gid)
{
    const struct target *target = &targets[log];
    struct stat named, opened;
    if (!target->path || lstat(target->path, &named) != 0 || !S_ISREG(named.st_mode))
        return true;
    if (fstat(target->fd, &opened) == 0 && named.st_ino == opened.st_ino &&
        named.st_dev == opened.st_dev && opened.st_nlink == 1)
        return fchown(target->fd, uid, gid) == 0;
    errno = EMLINK;
    return false;
}

static bool write_all(int fd, const char *lines, size_t len)
{
    while (len) {
        ssize_t written = write(fd, lines, len);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return false;
        lines += written;
        len -= (size_t)written;
    }
    return true;
}

enum logfile_result logfile_write(enum logfile log, unsigned severity, const char *lines,
                                  size_t len, uint64_t *lost)
{
    struct target *target = &targets[log];
    logfile_follow();
    /* A syslog that did not take the last line is not waited for again. */
    bool patient = atomic_load_explicit(&target->lost, memory_order_relaxed) == 0;
    bool written = target->is_syslog ? syslog_send(&target->syslog, severity, lines, len, patient)
                                     : write_all(target->fd, lines, len);
    if (!written && target->is_syslog && log == LOGFILE_ERROR)
        (void)write_all(STDERR_FILENO, lines, len); /* the next best place */
    if (!written)
        return atomic_fetch_add(&target->lost, 1) == 0 ? LOGFILE_LOST : LOGFILE_STILL_LOST;
    if (LIKELY(patient))
        return LOGFILE_WRITTEN;
    *lost = atomic_exchange(&target->lost, 0);
    return LOGFILE_BACK;
}
