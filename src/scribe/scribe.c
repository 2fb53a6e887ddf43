/* scribe.c: what the application prints, and what Python and C libraries print of their own, as
 * records of the error log: one for each line, one for each traceback.
 *
 * With log-format = json, the descriptors 1 and 2 of all processes are one end of a stream of unix
 * sockets; here is the other. The kernel says which process has written each piece
 * (SCM_CREDENTIALS), so that half lines of several do not mix. The master keeps this end open, too:
 * if this process ends, nobody's write fails, and the next one goes on reading.
 *
 * Owns what has come of lines that have no end yet. Never prints itself: its own 1 and 2 are what
 * they were at the start. A line that is a JSON object already stays as it is. */
#include "scribe/scribe.h"

#include "base/buf.h"
#include "base/log.h"
#include "base/logfile.h"
#include "json.h"
#include "shared/board.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WRITERS_MAX 64
#define LINE_MAX    65536 /* bytes; a longer one becomes several records */
#define PIECE_BYTES 65536
#define PATIENCE_MS 1000 /* for the rest of a line or of a traceback */
#define NAME_BYTES  32
#define TRACEBACK   "Traceback (most recent call last):"

/* A process of which a part of a record is here. */
struct writer {
    pid_t pid; /* 0: none */
    char name[NAME_BYTES];
    struct buf line;      /* without its end */
    struct buf traceback; /* lines of one that has not ended */
    uint64_t due_ms;      /* when it is not waited for any longer */
};

static struct writer writers[WRITERS_MAX];
static volatile sig_atomic_t ends;

/* ---- who ---- */

/* What the kernel calls a process: "mold", "ffmpeg"; "application" when it is gone. */
static void read_name(char *name, pid_t pid)
{
    char path[32], comm[NAME_BYTES] = "";
    snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    FILE *file = fopen(path, "re");
    if (!file || !fgets(comm, sizeof comm, file))
        strcpy(comm, "application");
    if (file)
        fclose(file);
    comm[strcspn(comm, "\n")] = '\0';
    const char *ours = strncmp(comm, "myserver:", 9) == 0 ? comm + 9 : comm;
    snprintf(name, NAME_BYTES, "%s", ours);
}

static void name_writer(struct writer *writer, const struct board *board)
{
    for (unsigned i = 0; i < board->workers; i++)
        if (atomic_load(&board->worker[i].pid) == writer->pid) {
            snprintf(writer->name, sizeof writer->name, "worker %u", i + 1);
            return;
        }
    read_name(writer->name, writer->pid);
}

/* ---- records ---- */

static void end_traceback(struct writer *writer, const char *message, size_t len)
{
    log_foreign(LOG_ERROR, writer->name, writer->pid, message, len, writer->traceback.data,
                writer->traceback.len);
    buf_reset(&writer->traceback);
}

static void add_to_traceback(struct writer *writer, const char *line, size_t len)
{
    buf_append(&writer->traceback, line, len);
    buf_append(&writer->traceback, "\n", 1);
}

/* A traceback goes on with lines that are indented, and ends with one that is not and says what was
 * raised. */
static void take_line(struct writer *writer, const char *line, size_t len)
{
    bool is_start = len == strlen(TRACEBACK) && memcmp(line, TRACEBACK, len) == 0;
    bool is_more = writer->traceback.len > 0 && len > 0 && line[0] == ' ';
    if (writer->traceback.len > 0 && !is_more && !is_start) {
        add_to_traceback(writer, line, len);
        end_traceback(writer, line, len);
        return;
    }
    if (writer->traceback.len > 0 && is_start) /* of another thread: the first has lost its end */
        end_traceback(writer, TRACEBACK, strlen(TRACEBACK));
    if (is_start || is_more)
        add_to_traceback(writer, line, len);
    else if (json_is_object(line, len))
        log_foreign_line(line, len);
    else if (len > 0)
        log_foreign(LOG_INFO, writer->name, writer->pid, line, len, NULL, 0);
}

/* Nothing more is waited for. */
static void finish(struct writer *writer)
{
    if (writer->line.len > 0)
        take_line(writer, writer->line.data, writer->line.len);
    if (writer->traceback.len > 0)
        end_traceback(writer, TRACEBACK, strlen(TRACEBACK));
    buf_fini(&writer->line);
    buf_fini(&writer->traceback);
    *writer = (struct writer){0};
}

/* ---- pieces ---- */

static struct writer *find_writer(pid_t pid, const struct board *board)
{
    struct writer *oldest = &writers[0];
    for (unsigned i = 0; i < WRITERS_MAX; i++) {
        if (writers[i].pid == pid)
            return &writers[i];
        if (writers[i].due_ms < oldest->due_ms)
            oldest = &writers[i];
    }
    if (oldest->pid != 0) /* a free one has no time, and is the oldest */
        finish(oldest);
    oldest->pid = pid;
    name_writer(oldest, board);
    return oldest;
}

static size_t take_whole_lines(struct writer *writer)
{
    size_t taken = 0;
    const char *newline, *data = writer->line.data;
    while ((newline = memchr(data + taken, '\n', writer->line.len - taken))) {
        size_t len = (size_t)(newline - data) - taken;
        bool has_return = len > 0 && newline[-1] == '\r';
        take_line(writer, data + taken, len - has_return);
        taken += len + 1;
    }
    return taken;
}

static void take_piece(pid_t pid, const char *piece, size_t len, const struct board *board)
{
    struct writer *writer = find_writer(pid, board);
    writer->due_ms = now_ms() + PATIENCE_MS;
    buf_append(&writer->line, piece, len);
    buf_consume(&writer->line, take_whole_lines(writer));
    bool waits = writer->line.len > 0 || writer->traceback.len > 0;
    if (!waits || writer->line.len > LINE_MAX || writer->traceback.len > LINE_MAX)
        finish(writer);
}

static pid_t writer_of(struct msghdr *message)
{
    struct ucred from = {.pid = 0};
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS)
            memcpy(&from, CMSG_DATA(c), sizeof from);
    return from.pid > 0 ? from.pid : -1; /* -1: of another pid namespace */
}

enum piece { PIECE_TAKEN, PIECE_NONE, PIECE_NEVER };

static enum piece read_piece(int fd, const struct board *board)
{
    static char piece[PIECE_BYTES];
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(struct ucred))];
    } control;
    struct iovec part = {piece, sizeof piece};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    ssize_t got = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got > 0) {
        take_piece(writer_of(&message), piece, (size_t)got, board);
        return PIECE_TAKEN;
    }
    return got == 0 || (errno != EAGAIN && errno != EINTR) ? PIECE_NEVER : PIECE_NONE;
}

/* ---- the loop ---- */

/* Writes what was waited for too long. Returns the milliseconds to the next time; -1: none. */
static int finish_late(void)
{
    uint64_t now = now_ms(), next = UINT64_MAX;
    for (unsigned i = 0; i < WRITERS_MAX; i++) {
        if (writers[i].pid != 0 && writers[i].due_ms <= now)
            finish(&writers[i]);
        if (writers[i].pid != 0 && writers[i].due_ms < next)
            next = writers[i].due_ms;
    }
    return next == UINT64_MAX ? -1 : (int)(next - now);
}

static void on_end(int number)
{
    (void)number;
    ends = true;
}

/* All signals that mean something to the master are blocked in it, and so here: those to the whole
 * group are its affair. Returns the mask to wait with. */
static sigset_t set_signals(void)
{
    sigset_t blocked, waiting;
    signal(SCRIBE_END_SIGNAL, on_end);
    sigemptyset(&blocked);
    sigaddset(&blocked, SCRIBE_END_SIGNAL);
    sigprocmask(SIG_BLOCK, &blocked, &waiting);
    sigdelset(&waiting, SCRIBE_END_SIGNAL);
    return waiting;
}

void scribe_main(const struct board *board, int read_fd)
{
    log_set_process("scribe");
    logfile_unwrap();
    sigset_t waiting = set_signals();
    enum piece last = PIECE_NONE;
    while (last != PIECE_NEVER && !(ends && last == PIECE_NONE)) {
        struct pollfd fd = {.fd = read_fd, .events = POLLIN};
        int wait_ms = finish_late();
        struct timespec t = {.tv_sec = wait_ms / 1000, .tv_nsec = wait_ms % 1000 * 1000000L};
        if (last == PIECE_NONE)
            (void)ppoll(&fd, 1, wait_ms < 0 ? NULL : &t, &waiting);
        last = read_piece(read_fd, board);
    }
    for (unsigned i = 0; i < WRITERS_MAX; i++)
        if (writers[i].pid != 0)
            finish(&writers[i]);
    _exit(EXIT_OK);
}
