/* base.h: what every file may use: fatal errors, memory allocation that ends the process when it
 * fails, clocks, text that no locale changes, and attributes of functions. */
#ifndef MYSERVER_BASE_BASE_H
#define MYSERVER_BASE_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* For bugs of this program. Kept in release builds, because the master replaces a process that
 * ends: never compile with NDEBUG. */
#include <assert.h>

#define MUST_CHECK        __attribute__((warn_unused_result))
#define NORETURN          __attribute__((noreturn))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))
#define LIKELY(x)         __builtin_expect(!!(x), 1)
#define UNLIKELY(x)       __builtin_expect(!!(x), 0)
#define ARRAY_LEN(a)      (sizeof(a) / sizeof((a)[0]))

/* Exit statuses of the program. */
enum exit_status {
    EXIT_OK = 0,
    EXIT_CRASH = 1,  /* the system refused something that it should not refuse */
    EXIT_CONFIG = 2, /* bad option, ini file, address, virtualenv */
    EXIT_APP = 3,    /* the application could not be loaded */
};

/* Writes "myserver: <sentence>" to stderr and exits with `status`. Only before a process serves: at
 * start, and in the mold of a reload, which fails with it. */
NORETURN PRINTF_LIKE(2, 3) void die(enum exit_status status, const char *format, ...);
/* From now on die() passes its sentence to `report` instead of stderr. Inherited over fork. */
void die_through(void (*report)(const char *sentence));

/* Memory. They never return NULL: out of memory ends the process with a message,
 * and the master replaces it. The caller owns what they return, free() frees it. */
void *xmalloc(size_t size) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t count, size_t size) __attribute__((malloc, returns_nonnull));
void *xrealloc(void *old, size_t size) __attribute__((returns_nonnull));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull));
PRINTF_LIKE(1, 2) char *xasprintf(const char *format, ...) __attribute__((returns_nonnull));
PRINTF_LIKE(1, 0)
char *xvasprintf(const char *format, va_list args) __attribute__((returns_nonnull));
/* The directory part of a path, "." when it has none. */
char *directory_of(const char *path) __attribute__((returns_nonnull));

/* CLOCK_MONOTONIC in nanoseconds and milliseconds: for deadlines and durations. */
uint64_t now_ns(void);
uint64_t now_ms(void);

/* Whether the first `len` bytes are equal but for the case of ASCII letters; ends at the first that
 * differ. For all protocol text: strcasecmp obeys the locale of the application, and to Turkish I
 * and i are two letters. */
bool ascii_equal(const char *a, const char *b, size_t len);

#define NS_PER_US 1000ull
#define NS_PER_MS 1000000ull
#define NS_PER_S  1000000000ull

#endif
