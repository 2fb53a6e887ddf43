/* base.c: fatal errors, memory allocation that ends the process when it fails, clocks, text.
 *
 * Owns nothing but the function that reports the last sentence. Never logs by itself: it is below
 * the log, and the reason why the process ends must get out even when nothing else works. */
#include "base/base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void (*tell)(const char *sentence); /* NULL: stderr */

void die_through(void (*report)(const char *sentence))
{
    tell = report;
}

void die(enum exit_status status, const char *format, ...)
{
    va_list args;
    char *sentence;
    va_start(args, format);
    int length = vasprintf(&sentence, format, args);
    va_end(args);
    const char *text = length < 0 ? format : sentence;
    if (tell)
        tell(text);
    else /* one write(2), because other processes write to stderr too */
        dprintf(STDERR_FILENO, "myserver: %s\n", text);
    exit(status);
}

/* _exit, because exit handlers, such as Python's, allocate memory. */
static NORETURN void out_of_memory(void)
{
    static const char text[] = "myserver: out of memory\n";
    ssize_t written = write(STDERR_FILENO, text, sizeof text - 1);
    (void)written;
    _exit(EXIT_CRASH);
}

void *xmalloc(size_t size)
{
    void *memory = malloc(size ? size : 1);
    if (UNLIKELY(!memory))
        out_of_memory();
    return memory;
}

void *xcalloc(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size ? size : 1);
    if (UNLIKELY(!memory))
        out_of_memory();
    return memory;
}

void *xrealloc(void *old, size_t size)
{
    void *memory = realloc(old, size ? size : 1);
    if (UNLIKELY(!memory))
        out_of_memory();
    return memory;
}

char *xstrdup(const char *s)
{
    size_t size = strlen(s) + 1;
    return memcpy(xmalloc(size), s, size);
}

char *xasprintf(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = xvasprintf(format, args);
    va_end(args);
    return text;
}

char *xvasprintf(const char *format, va_list args)
{
    char *text;
    if (UNLIKELY(vasprintf(&text, format, args) < 0))
        out_of_memory();
    return text;
}

char *directory_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? xasprintf("%.*s", (int)(slash - path) + 1, path) : xstrdup(".");
}

uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

uint64_t now_ms(void)
{
    return now_ns() / NS_PER_MS;
}

/* ---- text ---- */

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

bool ascii_equal(const char *a, const char *b, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (a[i] != b[i] && lower(a[i]) != lower(b[i]))
            return false;
    return true;
}
