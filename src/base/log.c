/* log.c: records of the error log: time, level, process and one line of text, or the same as JSON.
 *
 * Owns the name of this process, the level and the format, set when a process starts and read by
 * all of its threads, and how many records about clients were written in this second. Never waits
 * for a lock, never calls Python, never lets bytes from outside end a line or move a terminal's
 * cursor. A record that a log does not take is lost; that records are lost is logged once. */
#include "base/log.h"

#include "base/date.h"
#include "base/logfile.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* Stack room for a formatted text; longer ones cost an allocation. */
#define LOG_TEXT_BYTES 1024
/* Records about clients per second: more would fill a disk and tell nothing new. */
#define CLIENT_RECORDS 20

static char process_name[32] = "myserver";
static atomic_int lowest_level = LOG_INFO;
static atomic_bool as_json;
static void (*_Atomic copy)(const char *record, size_t len); /* see log_copy */

static const char *const level_names[] = {"debug", "info", "warning", "error", "critical"};
static const unsigned syslog_severities[] = {7, 6, 4, 3, 2}; /* RFC 5424 6.2.1 */

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

void log_set_json(bool json)
{
    atomic_store_explicit(&as_json, json, memory_order_relaxed);
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
    /* U+2028..202E end a line or change its direction in programs that obey them. */
    if (s[0] == 0xe2 && s[1] == 0x80 && s[2] >= 0xa8 && s[2] <= 0xae)
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

/* RFC 8259 7. A byte that is not UTF-8 becomes U+FFFD, because a strict reader would refuse the
 * whole line. */
void log_escape_json(struct buf *out, const char *text, size_t len)
{
    for (size_t i = 0; i < len;) {
        unsigned char c = (unsigned char)text[i];
        size_t length = c < 0x80 ? 1 : log_utf8_length(text + i, len - i);
        if (length == 0)
            buf_append_str(out, "\\ufffd");
        else if (c == '\n')
            buf_append_str(out, "\\n");
        else if (c < 0x20 || c == 0x7f)
            buf_printf(out, "\\u%04x", c);
        else if (c == '"' || c == '\\')
            buf_printf(out, "\\%c", c);
        else
            buf_append(out, text + i, length);
        i += length ? length : 1;
    }
}

/* ---- a record ---- */

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

static void append_as_text(struct buf *record, enum log_level level, struct timespec now,
                           const char *text, size_t text_len, const char *detail, size_t detail_len)
{
    char date[DATE_ISO_LEN + 1];
    date_write_iso(date, now, ' ');
    if (!logfile_is_syslog(LOGFILE_ERROR))
        buf_printf(record, "%s ", date);
    buf_printf(record, "[%s] %s (%d): ", level_names[level], process_name, (int)getpid());
    escape(record, text, text_len, false);
    buf_append(record, "\n", 1);
    append_lines(record, detail, detail_len);
}

/* Up to the message, with its quote. */
static void append_json_head(struct buf *record, enum log_level level, struct timespec now,
                             const char *process, pid_t pid)
{
    char date[DATE_ISO_LEN + 1];
    date_write_iso(date, now, 'T');
    buf_printf(record, "{\"time\": \"%s\", \"level\": \"%s\", \"process\": \"", date,
               level_names[level]);
    log_escape_json(record, process, strlen(process));
    buf_printf(record, "\", \"pid\": %d, \"message\": \"", (int)pid);
}

static void append_json_texts(struct buf *record, const char *text, size_t text_len,
                              const char *detail, size_t detail_len)
{
    log_escape_json(record, text, text_len);
    if (detail_len) {
        buf_append_str(record, "\", \"detail\": \"");
        log_escape_json(record, detail, detail_len);
    }
    buf_append_str(record, "\"}\n");
}

static void append_as_json(struct buf *record, enum log_level level, struct timespec now,
                           const char *text, size_t text_len, const char *detail, size_t detail_len)
{
    append_json_head(record, level, now, process_name, getpid());
    append_json_texts(record, text, text_len, detail, detail_len);
}

void log_copy(void (*take)(const char *record, size_t len))
{
    atomic_store(&copy, take);
}

static void write_record(enum log_level level, const struct buf *record)
{
    uint64_t lost = 0;
    void (*take)(const char *, size_t) = atomic_load_explicit(&copy, memory_order_relaxed);
    if (take)
        take(record->data, record->len);
    switch (
        logfile_write(LOGFILE_ERROR, syslog_severities[level], record->data, record->len, &lost)) {
    case LOGFILE_WRITTEN:
    case LOGFILE_LOST:
    case LOGFILE_STILL_LOST:
        break; /* a lost record of the error log can be reported nowhere else */
    case LOGFILE_BACK:
        log_warning("%" PRIu64 " records of this process are missing above", lost);
        break;
    }
}

static void log_record(enum log_level level, const char *detail, size_t detail_len,
                       const char *format, va_list args)
{
    int saved_errno = errno;
    char small[LOG_TEXT_BYTES], *large = NULL;
    struct buf record = {0};
    struct timespec now;
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(small, sizeof small, format, args);
    assert(length >= 0);
    if ((size_t)length >= sizeof small) {
        large = xmalloc((size_t)length + 1);
        vsnprintf(large, (size_t)length + 1, format, again);
    }
    va_end(again);
    clock_gettime(CLOCK_REALTIME, &now);
    (atomic_load_explicit(&as_json, memory_order_relaxed) ? append_as_json : append_as_text)(
        &record, level, now, large ? large : small, (size_t)length, detail, detail_len);
    write_record(level, &record);
    buf_fini(&record);
    free(large);
    errno = saved_errno;
}

void log_write(enum log_level level, const char *format, ...)
{
    if (!log_enabled(level))
        return;
    va_list args;
    va_start(args, format);
    log_record(level, NULL, 0, format, args);
    va_end(args);
}

void log_foreign(enum log_level level, const char *process, pid_t pid, const char *text, size_t len,
                 const char *detail, size_t detail_len)
{
    struct buf record = {0};
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    append_json_head(&record, level, now, process, pid);
    append_json_texts(&record, text, len, detail, detail_len);
    write_record(level, &record);
    buf_fini(&record);
}

void log_foreign_line(const char *line, size_t len)
{
    struct buf record = {0};
    buf_append(&record, line, len);
    buf_append(&record, "\n", 1);
    write_record(LOG_INFO, &record);
    buf_fini(&record);
}

/* ---- records about clients ---- */

static struct {
    _Atomic uint64_t second; /* the second that the other two count for */
    atomic_uint written, left_out;
} clients;

/* Begins a new second, on the first thread that sees it. */
static void turn_second(void)
{
    uint64_t now = now_ms() / 1000;
    uint64_t before = atomic_load(&clients.second);
    if (now == before || !atomic_compare_exchange_strong(&clients.second, &before, now))
        return;
    atomic_store(&clients.written, 0);
    unsigned count = atomic_exchange(&clients.left_out, 0);
    if (count)
        log_warning("and %u more records about clients in that second", count);
}

void log_say_left_out(void)
{
    if (atomic_load_explicit(&clients.left_out, memory_order_relaxed))
        turn_second();
}

void log_client(enum log_level level, const char *format, ...)
{
    if (!log_enabled(level))
        return;
    turn_second();
    if (atomic_fetch_add(&clients.written, 1) >= CLIENT_RECORDS) {
        atomic_fetch_add(&clients.left_out, 1);
        return;
    }
    va_list args;
    va_start(args, format);
    log_record(level, NULL, 0, format, args);
    va_end(args);
}

void log_block(enum log_level level, const char *text, size_t len, const char *format, ...)
{
    if (!log_enabled(level))
        return;
    va_list args;
    va_start(args, format);
    log_record(level, text, len, format, args);
    va_end(args);
}

void log_access_line(const char *line, size_t len)
{
    uint64_t lost = 0;
    switch (logfile_write(LOGFILE_ACCESS, syslog_severities[LOG_INFO], line, len, &lost)) {
    case LOGFILE_WRITTEN:
    case LOGFILE_STILL_LOST:
        break;
    case LOGFILE_LOST:
        log_error("lines of the access log are lost: %s", strerror(errno));
        break;
    case LOGFILE_BACK:
        log_warning("the access log is written again, %" PRIu64 " lines are missing", lost);
        break;
    }
}
