/* holes.c: fills free memory that lies between what the workers share.
 *
 * Owns: the pieces it takes, which are never freed. A heap that has loaded an application and
 * answered requests has many small holes; a worker's next request would fill them, and the kernel
 * would copy a page for each. Two allocators have holes: pymalloc, for objects up to 512 bytes, and
 * the C library's. This file does not depend on how they work inside: it only looks at the
 * addresses that they return, and at worst takes a little too much or too little. Another allocator
 * that replaces one of them (LD_PRELOAD, PYTHONMALLOC) is left alone. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "holes.h"

#ifndef Py_GIL_DISABLED

#include <dlfcn.h>
#include <gnu/libc-version.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE_BYTES        4096

/* pymalloc: blocks of one size lie in pools; a fresh pool gives its blocks in the order of their
 * addresses. */
#define BLOCK_STEP_BYTES  16
#define BLOCK_MOST_BYTES  512
#define POOL_BYTES        16384
#define POOL_HEAD_BYTES   64
/* bound for one size, in case pools differ from that */
#define FILL_MOST_BYTES   (8 * 1024 * 1024)

/* malloc: a chunk holds a multiple of 16 bytes plus 8. Larger holes are few, and malloc_trim gives
 * them back. */
#define CHUNK_STEP_BYTES  16
#define CHUNK_LEAST_BYTES 24
#define CHUNK_MOST_BYTES  (64 * 1024 + 8)

struct block {
    struct block *before; /* the one that was taken before it */
};

static void free_latest(struct block *block, size_t count)
{
    for (; count > 0; count--) {
        struct block *before = block->before;
        PyObject_Free(block);
        block = before;
    }
}

/* Takes blocks until as many as fill a pool lie in a row: that pool was fresh, and its blocks are
 * freed again. False: no block ever lay behind the one before it, so there are no such pools; then
 * all are freed again. */
static bool fill_pools(size_t size)
{
    size_t pool = (POOL_BYTES - POOL_HEAD_BYTES) / size - 2, row = 0, count = 0;
    struct block *last = NULL;
    bool has_rows = false;
    while (row < pool && count * size < FILL_MOST_BYTES) {
        struct block *block = PyObject_Malloc(size);
        if (!block)
            break;
        bool follows = last && (char *)block == (char *)last + size;
        row = follows ? row + 1 : 0;
        has_rows = has_rows || follows;
        block->before = last;
        last = block;
        count++;
    }
    free_latest(last, has_rows ? row + 1 : count);
    return has_rows;
}

/* With PYTHONMALLOC=debug and PYTHONDEVMODE there are pools, but each block has more bytes than
 * were asked for. */
static void fill_all_pools(void)
{
    size_t size = BLOCK_STEP_BYTES;
    while (size <= BLOCK_MOST_BYTES && fill_pools(size))
        size += BLOCK_STEP_BYTES;
}

/* False: PYTHONMALLOC names another allocator, and there are no pools. */
static bool has_pymalloc(void)
{
    const char *name = getenv("PYTHONMALLOC");
    if (name && strncmp(name, "mimalloc", strlen("mimalloc")) == 0)
        return false;
    PyObject *function = PySys_GetObject("getallocatedblocks"); /* borrowed */
    PyObject *count = function ? PyObject_CallNoArgs(function) : NULL;
    bool is_used = count && PyObject_IsTrue(count) > 0;
    PyErr_Clear();
    Py_XDECREF(count);
    return is_used;
}

/* Gives the whole pages inside a chunk, which is never used, back to the kernel. */
static void give_pages(const void *chunk, size_t size)
{
    uintptr_t mask = ~(uintptr_t)(PAGE_BYTES - 1);
    uintptr_t start = ((uintptr_t)chunk + PAGE_BYTES - 1) & mask;
    uintptr_t end = ((uintptr_t)chunk + size) & mask;
    if (end > start)
        (void)madvise((void *)start, end - start, MADV_DONTNEED);
}

/* Ends at the first chunk that is not below the top of the heap, and when it has taken as many
 * bytes as malloc said were free. */
static void fill_chunks(size_t size)
{
    struct mallinfo2 info = mallinfo2();
    const char *top = (char *)sbrk(0) - info.keepcost;
    char *chunk = NULL;
    for (size_t left = info.fordblks; left >= size; left -= size) {
        chunk = malloc(size);
        if (!chunk || chunk >= top)
            break;
        give_pages(chunk, size);
        chunk = NULL;
    }
    free(chunk);
}

/* False: another library, or the program itself (sanitizers), has replaced the C library's. */
static bool has_glibc_malloc(void)
{
    Dl_info library, used;
    void *function = dlsym(RTLD_DEFAULT, "malloc");
    return function && dladdr(function, &used) &&
           dladdr((void *)(uintptr_t)gnu_get_libc_version, &library) &&
           used.dli_fbase == library.dli_fbase;
}

void holes_fill(void)
{
    if (has_pymalloc())
        fill_all_pools();
    if (!has_glibc_malloc())
        return;
    /* Large sizes first, so that each hole is taken by the largest chunk that fits. */
    for (size_t size = CHUNK_MOST_BYTES; size >= CHUNK_LEAST_BYTES;) {
        fill_chunks(size);
        size -= size > 512 ? size / 256 * CHUNK_STEP_BYTES : CHUNK_STEP_BYTES;
    }
    (void)malloc_trim(0);
}

#else

void holes_fill(void)
{
}

#endif
