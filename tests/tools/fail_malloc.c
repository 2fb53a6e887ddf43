/* fail_malloc.c: for LD_PRELOAD: the allocation number $FAIL_MALLOC_AT fails, and all after it.
 *
 * Those before main() do not count: they are the dynamic linker's and libc's. */
#include <errno.h>
#include <stdlib.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);

static long left = -1;

__attribute__((constructor)) static void start(void)
{
    const char *text = getenv("FAIL_MALLOC_AT");
    left = text ? atol(text) : -1;
}

static int fails(void)
{
    if (left > 0)
        left--;
    if (left != 0)
        return 0;
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t size)
{
    return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return fails() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    return fails() ? NULL : __libc_realloc(old, size);
}
