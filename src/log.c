/* log.c: the error log: time, level, process and one line of text, written with one write(2).
 *
 * Owns descriptors 1 and 2 once log_open() made them, the name of this process and the level:
 * the only state, set when a process starts and read by all of its threads. Never waits for a
 * lock, never calls Python, never lets bytes from outside end a line or move a terminal's
 * cursor. A record that cannot be written is lost: there is nowhere to report it. */
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* Stack room for a formatted text; longer ones cost an allocation. */
#define LOG_TEXT_BYTES 1024

static char process_name[32] = "myserver";
static atomic_int lowest_level = LOG_INFO;

static const char *const level_names[] = {"debug", "info", "warning", "error", "critical"};

void log_set_process(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(process_name, sizeof process_name, format, args);
    va_end(args);
}

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&lowest_level, (int)level, memory_order_relaxed);
}

bool log_enabled(enum log_level level)
{
    return (int)level >= atomic_load_explicit(&lowest_level, memory_order_relaxed);
}

/* How many bytes a sequence with this first byte has; 0 for a byte that cannot start one. */
static size_t sequence_length(unsigned char first)
{
    if (first >= 0xc2 && first <= 0xdf)
        return 2;
    if ((first & 0xf0) == 0xe0)
        return 3;
    if (first >= 0xf0 && first <= 0xf4)
        return 4;
    return 0;
}

size_t log_utf8_length(const char *text, size_t len)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t length = len ? sequence_length(s[0]) : 0;
    if (!length || length > len)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    /* RFC 3629 section 4: no overlong form, no surrogate, nothing above U+10FFFF. C2 80..9F are
     * the C1 controls, which terminals obey. */
    bool wrong = (s[0] == 0xc2 && s[1] < 0xa0) || (s[0] == 0xe0 && s[1] < 0xa0) ||
                 (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
                 (s[0] == 0xf4 && s[1] > 0x8f);
    return wrong ? 0 : length;
}

/* How many bytes at `text` may be written as they are; 0: the first must be escaped. */
static size_t plain_length(const char *text, size_t len, bool quoted)
{
    size_t i = 0;
    while (i < len) {
        unsigned char c = (unsigned char)text[i];
        if (c < 0x20 || c == 0x7f || (quoted && (c == '"' || c == '\\')))
            break;
        size_t length = c < 0x80 ? 1 : log_utf8_length(text + i, len - i);
        if (!length)
            break;
        i += length;
    }
    return i;
}

static void escape(struct buf *out, const char *text, size_t len, bool quoted)
{
    while (len) {
        size_t plain = plain_length(text, len, quoted);
        buf_append(out, text, plain);
        text += plain;
        len -= plain;
        if (!len)
            return;
        if (*text == '"' || *text == '\\')
            buf_printf(out, "\\%c", *text);
        else if (*text == '\n' && !quoted)
            buf_append_str(out, "\\n");
        else
            buf_printf(out, "\\x%02x", (unsigned char)*text);
        text++;
        len--;
    }
}

void log_escape(struct buf *out, const char *text, size_t len)
{
    escape(out, text, len, true);
}

static void append_prefix(struct buf *record, enum log_level level)
{
    struct timespec now;
    struct tm local;
    char date[32];
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &local);
    strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S", &local);
    buf_printf(record, "%s.%03ld [%s] %s (%d): ", date, now.tv_nsec / 1000000, level_names[level],
               process_name, (int)getpid());
}

static void append_text(struct buf *record, const char *format, va_list args)
{
    char small[LOG_TEXT_BYTES], *large = NULL;
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(small, sizeof small, format, args);
    assert(length >= 0);
    if ((size_t)length >= sizeof small) {
        large = xmalloc((size_t)length + 1);
        vsnprintf(large, (size_t)length + 1, format, again);
    }
    va_end(again);
    escape(record, large ? large : small, (size_t)length, false);
    buf_append(record, "\n", 1);
    free(large);
}

static void write_record(const struct buf *record)
{
    size_t done = 0;
    while (done < record->len) {
        ssize_t written = write(STDERR_FILENO, record->data + done, record->len - done);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return;
        done += (size_t)written;
    }
}

void log_write(enum log_level level, const char *format, ...)
{
    if (!log_enabled(level))
        return;
    int saved_errno = errno;
    struct buf record = {0};
    va_list args;
    append_prefix(&record, level);
    va_start(args, format);
    append_text(&record, format, args);
    va_end(args);
    write_record(&record);
    buf_fini(&record);
    errno = saved_errno;
}

static void append_lines(struct buf *record, const char *text, size_t len)
{
    while (len) {
        const char *newline = memchr(text, '\n', len);
        size_t line = newline ? (size_t)(newline - text) : len;
        buf_append_str(record, "  ");
        escape(record, text, line, false);
        buf_append(record, "\n", 1);
        line += newline != NULL;
        text += line;
        len -= line;
    }
}

void log_block(enum log_level level, const char *text, size_t len, const char *format, ...)
{
    if (!log_enabled(level))
        return;
    int saved_errno = errno;
    struct buf record = {0};
    va_list args;
    append_prefix(&record, level);
    va_start(args, format);
    append_text(&record, format, args);
    va_end(args);
    append_lines(&record, text, len);
    write_record(&record);
    buf_fini(&record);
    errno = saved_errno;
}

/* dup2 that is not interrupted. */
static int duplicate(int fd, int onto)
{
    int result;
    do {
        result = dup2(fd, onto);
    } while (result < 0 && errno == EINTR);
    return result;
}

int log_open(const char *path)
{
    if (strcmp(path, "-") == 0)
        return 0;
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
    if (fd < 0)
        return errno;
    int error = 0;
    if (duplicate(fd, STDERR_FILENO) < 0 || duplicate(fd, STDOUT_FILENO) < 0)
        error = errno;
    if (fd > STDERR_FILENO)
        close(fd);
    return error;
}
