/* log.h: the error log. One record is one write(2), so that records of several processes never
 * mix. logfile.h decides where it goes; until logfile_open, that is stderr.
 *
 *     2026-11-20 14:03:07.123Z [info] worker 3 (4711): text of one line
 *
 * The time is UTC, because the processes of one server may have different time zones; only a
 * local syslog wants local time. Text that came from outside is escaped by the caller (also quotes
 * and backslashes) or by log_write (control bytes): no record can forge another line. Records of
 * several lines (tracebacks) go through log_block. Callable from any thread, GIL held or not. */
#ifndef MYSERVER_BASE_LOG_H
#define MYSERVER_BASE_LOG_H

#include "base/base.h"
#include "base/buf.h"

#include <stdbool.h>
#include <sys/types.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR, LOG_CRITICAL };

/* What stands before the pid in every record ("master", "mold", "worker 3"). Copied. Inherited
 * over fork, so each process sets its own name after the fork. */
PRINTF_LIKE(1, 2) void log_set_process(const char *format, ...);
/* Records below `level` are dropped. Default LOG_INFO. */
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);
/* Records are JSON objects of one line: time (UTC), level, process, pid, message, and for
 * log_block detail. */
void log_set_json(bool json);

/* One record of one line. Control bytes and bytes of broken UTF-8 in the
 * formatted text are written as \xNN, newlines as \n. */
PRINTF_LIKE(2, 3) void log_write(enum log_level level, const char *format, ...);
/* One record whose first line is the formatted `format`, followed by the lines of
 * `text` (length `len`), each indented by two blanks: tracebacks. Still one write. */
PRINTF_LIKE(4, 5)
void log_block(enum log_level level, const char *text, size_t len, const char *format, ...);

/* One JSON record of what another process has printed, whatever the level that is logged: `text`
 * and, if there is any, `detail`. Only for an error log of JSON. */
void log_foreign(enum log_level level, const char *process, pid_t pid, const char *text, size_t len,
                 const char *detail, size_t detail_len);
/* What another process has printed, as it is: a line without its end that is a record already. */
void log_foreign_line(const char *line, size_t len);

#define log_debug(...)    log_write(LOG_DEBUG, __VA_ARGS__)
#define log_info(...)     log_write(LOG_INFO, __VA_ARGS__)
#define log_warning(...)  log_write(LOG_WARNING, __VA_ARGS__)
#define log_error(...)    log_write(LOG_ERROR, __VA_ARGS__)
#define log_critical(...) log_write(LOG_CRITICAL, __VA_ARGS__)

/* As log_write, for what clients do, which may happen thousands of times a second: each process
 * writes 20 such records in a second. How many were left out is logged with the next record about
 * a client in another second, or by log_say_left_out, which is for a timer. */
PRINTF_LIKE(2, 3) void log_client(enum log_level level, const char *format, ...);
void log_say_left_out(void);

/* From now on every record that is written in this process is given to `take` too, as it is
 * written; NULL: no more. `take` may run on any thread. */
void log_copy(void (*take)(const char *record, size_t len));

/* One line of the access log, with its newline. Callable as the others. */
void log_access_line(const char *line, size_t len);

/* Appends `text` to `out` with everything escaped that could end a line or a
 * quoted field: bytes < 0x20, 0x7f, '"' and '\\' as \xNN or \" and \\; bytes
 * >= 0x80 are kept where they form valid UTF-8 without C1 controls and line or
 * direction marks, else \xNN. */
void log_escape(struct buf *out, const char *text, size_t len);
/* The same for what stands between the quotes of a JSON string. */
void log_escape_json(struct buf *out, const char *text, size_t len);
/* The length (2 to 4) of the UTF-8 sequence at `text`, of which `len` bytes are there; 0 when
 * it is none: ASCII, broken, or a C1 control. */
size_t log_utf8_length(const char *text, size_t len);

#endif
