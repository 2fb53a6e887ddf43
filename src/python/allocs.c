/* allocs.c: which request has made which block of memory that is still there.
 *
 * Owns: the allocators that stand in front of Python's, a table of all blocks that were made since
 * then, and the view of each request. tracemalloc knows the line of a block and not the request;
 * this knows the request, and asks tracemalloc for the line. Only the two allocators that need the
 * GIL are looked at, so the GIL guards all of it but the views of requests. The table is mapped and
 * not allocated: it must not look at itself. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "python/allocs.h"

#include "python/tested.h"
#include "shared/ledger.h"

#include <dlfcn.h>
#include <string.h>
#include <sys/mman.h>

#define ROOM_FIRST    65536u
#define REQUESTS_MOST (1u << 23)
#define VIEW_RUNNING  0 /* of a request that has not ended */

_Atomic bool allocs_noted;

/* A block; `at` 0: a free place. */
struct block {
    uintptr_t at;
    uint64_t bytes : 40, request : 24; /* 0: of no request */
};

enum { OBJECTS, PARTS, ALLOCATORS };
static const PyMemAllocatorDomain domains[ALLOCATORS] = {PYMEM_DOMAIN_OBJ, PYMEM_DOMAIN_MEM};

static struct {
    PyMemAllocatorEx below[ALLOCATORS]; /* what ours call */
    struct block *table;                /* [room], a power of two; open addressing */
    size_t room, count;
    _Atomic uint16_t *views;   /* [REQUESTS_MOST]; view + 1, or VIEW_RUNNING */
    _Atomic uint32_t requests; /* numbers that were given, and 0 */
    uint32_t first;            /* number of the first request of this trace */
    bool is_buried;            /* see is_on */
    struct block *copy;        /* [copied]; of the table, until all of it was read */
    size_t copied, copy_room, read;
} blocks;

static _Thread_local uint32_t request_now;
static _Thread_local bool unseen; /* the thread's own blocks are those of the trace itself */

/* ---- the table ---- */

/* NULL: there is no memory. */
static void *map(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static size_t place_of(uintptr_t at, size_t room)
{
    return (size_t)(((uint64_t)at * 0x9e3779b97f4a7c15ull) >> 20) & (room - 1);
}

/* Where the block is, or the free place where it would be. */
static size_t find(const struct block *table, size_t room, uintptr_t at)
{
    size_t i = place_of(at, room);
    while (table[i].at && table[i].at != at)
        i = (i + 1) & (room - 1);
    return i;
}

/* False: there is no memory, and the block is not noted. */
static bool make_room(void)
{
    size_t room = 2 * blocks.room;
    if (2 * blocks.count < blocks.room)
        return true;
    struct block *table = map(room * sizeof *table);
    if (!table)
        return false;
    for (size_t i = 0; i < blocks.room; i++)
        if (blocks.table[i].at)
            table[find(table, room, blocks.table[i].at)] = blocks.table[i];
    munmap(blocks.table, blocks.room * sizeof *table);
    blocks.table = table;
    blocks.room = room;
    return true;
}

static void note(const void *block, size_t bytes)
{
    uintptr_t at = (uintptr_t)block;
    if (unseen || !make_room())
        return;
    struct block *entry = &blocks.table[find(blocks.table, blocks.room, at)];
    blocks.count += entry->at == 0;
    *entry = (struct block){.at = at, .bytes = bytes, .request = request_now};
}

/* Takes a block out, and moves those that stand behind it because it was there. */
static void forget(const void *block)
{
    size_t mask = blocks.room - 1, hole = find(blocks.table, blocks.room, (uintptr_t)block);
    if (!blocks.table[hole].at)
        return;
    blocks.count--;
    for (size_t i = (hole + 1) & mask; blocks.table[i].at; i = (i + 1) & mask) {
        size_t home = place_of(blocks.table[i].at, blocks.room);
        if (((i - home) & mask) < ((i - hole) & mask))
            continue;
        blocks.table[hole] = blocks.table[i];
        hole = i;
    }
    blocks.table[hole].at = 0;
}

/* ---- the allocators ---- */

/* Ours are called only between put_before and take_away, unless another stands in front of them. */
static bool is_on(void)
{
    bool on = atomic_load_explicit(&allocs_noted, memory_order_relaxed);
    blocks.is_buried |= !on;
    return on;
}

static void *noted_malloc(void *context, size_t bytes)
{
    const PyMemAllocatorEx *below = context;
    void *block = below->malloc(below->ctx, bytes);
    if (block && is_on())
        note(block, bytes);
    return block;
}

static void *noted_calloc(void *context, size_t count, size_t bytes)
{
    const PyMemAllocatorEx *below = context;
    void *block = below->calloc(below->ctx, count, bytes);
    if (block && is_on())
        note(block, count * bytes);
    return block;
}

static void *noted_realloc(void *context, void *before, size_t bytes)
{
    const PyMemAllocatorEx *below = context;
    void *block = below->realloc(below->ctx, before, bytes);
    if (!block || !is_on())
        return block;
    if (before)
        forget(before);
    note(block, bytes);
    return block;
}

static void noted_free(void *context, void *block)
{
    const PyMemAllocatorEx *below = context;
    if (block && is_on())
        forget(block);
    below->free(below->ctx, block);
}

static void put_before(unsigned i)
{
    PyMem_GetAllocator(domains[i], &blocks.below[i]);
    PyMemAllocatorEx ours = {&blocks.below[i], noted_malloc, noted_calloc, noted_realloc,
                             noted_free};
    PyMem_SetAllocator(domains[i], &ours);
}

/* Where something else stands in front by now, ours stay where they are, and do nothing. */
static void take_away(unsigned i)
{
    PyMemAllocatorEx now;
    PyMem_GetAllocator(domains[i], &now);
    if (now.malloc == noted_malloc)
        PyMem_SetAllocator(domains[i], &blocks.below[i]);
}

/* ---- requests ---- */

uint32_t allocs_begin_request(void)
{
    uint32_t number = atomic_load(&blocks.requests);
    while (number < REQUESTS_MOST &&
           !atomic_compare_exchange_weak(&blocks.requests, &number, number + 1))
        continue;
    request_now = number < REQUESTS_MOST ? number : 0;
    return request_now;
}

void allocs_end_request(void)
{
    request_now = 0;
}

void allocs_set_view(uint32_t request, unsigned view)
{
    if (request < REQUESTS_MOST && atomic_load(&allocs_noted))
        atomic_store_explicit(&blocks.views[request], (uint16_t)(view + 1), memory_order_relaxed);
}

/* ---- for growth.py ---- */

/* What is told instead of a view. */
enum { OF_NO_REQUEST = -2, OF_RUNNING_REQUEST = -1 };

static int view_of(uint32_t request)
{
    if (!request)
        return OF_NO_REQUEST;
    return (int)atomic_load_explicit(&blocks.views[request], memory_order_relaxed) - 1;
}

static void unmap(struct block **memory, size_t room)
{
    if (*memory)
        munmap(*memory, room * sizeof **memory);
    *memory = NULL;
}

/* The views stay mapped: a request that ends may write to them at any time. */
static bool map_all(void)
{
    size_t bytes = REQUESTS_MOST * sizeof *blocks.views;
    if (!blocks.views)
        blocks.views = map(bytes);
    else
        (void)madvise(blocks.views, bytes, MADV_DONTNEED);
    blocks.room = ROOM_FIRST;
    blocks.count = 0;
    blocks.table = map(blocks.room * sizeof *blocks.table);
    return blocks.views && blocks.table;
}

static PyObject *blocks_start(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
#ifdef Py_GIL_DISABLED
    return PyErr_Format(PyExc_RuntimeError, "an interpreter without a GIL cannot be traced");
#endif
    if (blocks.is_buried)
        return PyErr_Format(PyExc_RuntimeError,
                            "another library stands in front of Python's allocators");
    if (allocs_noted || !map_all())
        return allocs_noted ? PyErr_Format(PyExc_RuntimeError, "blocks are noted already")
                            : PyErr_NoMemory();
    if (blocks.requests == 0 || blocks.requests > REQUESTS_MOST / 2)
        blocks.requests = 1;
    blocks.first = blocks.requests;
    unseen = true;
    allocs_noted = true;
    for (unsigned i = 0; i < ALLOCATORS; i++)
        put_before(i);
    Py_RETURN_NONE;
}

static PyObject *blocks_stop(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    for (unsigned i = 0; i < ALLOCATORS && allocs_noted; i++)
        take_away(i);
    allocs_noted = unseen = false;
    unmap(&blocks.table, blocks.room);
    unmap(&blocks.copy, blocks.copy_room);
    Py_RETURN_NONE;
}

/* Copied at once, and then read bit by bit: other threads run in between. */
static PyObject *blocks_copy(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    unmap(&blocks.copy, blocks.copy_room);
    blocks.copy_room = blocks.count + 1;
    blocks.copy = blocks.table ? map(blocks.copy_room * sizeof *blocks.copy) : NULL;
    if (!blocks.copy)
        return PyErr_NoMemory();
    blocks.copied = blocks.read = 0;
    for (size_t i = 0; i < blocks.room; i++)
        if (blocks.table[i].at)
            blocks.copy[blocks.copied++] = blocks.table[i];
    return PyLong_FromSize_t(blocks.copied);
}

/* New reference: the lines of a block, innermost first, or None. The function is not one of
 * CPython's public ones, though it has been there since 3.7: a version that is not tested tells no
 * lines. */
static PyObject *trace_of(const struct block *block)
{
    static PyObject *(*get)(unsigned domain, uintptr_t at);
    if (!get && python_is_tested(Py_Version))
        *(void **)&get = dlsym(RTLD_DEFAULT, "_PyTraceMalloc_GetTraceback");
    PyObject *trace = get ? get(0, block->at) : NULL;
    if (!trace)
        PyErr_Clear();
    return trace ? trace : Py_NewRef(Py_None);
}

static bool is_still_there(const struct block *block)
{
    const struct block *entry = &blocks.table[find(blocks.table, blocks.room, block->at)];
    return entry->at && entry->request == block->request && entry->bytes == block->bytes;
}

static PyObject *blocks_read(PyObject *Py_UNUSED(module), PyObject *arg)
{
    Py_ssize_t most = PyLong_AsSsize_t(arg);
    PyObject *list = most < 0 ? NULL : PyList_New(0);
    for (; list && most > 0 && blocks.copy && blocks.read < blocks.copied; most--) {
        const struct block *block = &blocks.copy[blocks.read++];
        if (!is_still_there(block))
            continue;
        PyObject *item = Py_BuildValue("(iKN)", view_of(block->request),
                                       (unsigned long long)block->bytes, trace_of(block));
        if (!item || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

static PyObject *blocks_requests(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    uint32_t end = blocks.requests < REQUESTS_MOST ? blocks.requests : REQUESTS_MOST;
    unsigned long counts[LEDGER_VIEWS + 1] = {0};
    for (uint32_t i = blocks.first; i < end; i++) {
        int view = view_of(i);
        if (view >= 0 && view <= LEDGER_VIEWS)
            counts[view]++;
    }
    PyObject *list = PyList_New(0);
    for (int view = 0; list && view <= LEDGER_VIEWS; view++) {
        PyObject *item = counts[view] ? Py_BuildValue("(ik)", view, counts[view]) : NULL;
        if (counts[view] && (!item || PyList_Append(list, item) < 0))
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

static PyMethodDef functions[] = {
    {"blocks_start", blocks_start, METH_NOARGS,
     "blocks_start(): notes all blocks of memory from now on, but not those of this thread."},
    {"blocks_stop", blocks_stop, METH_NOARGS, "blocks_stop(): no longer; forgets them."},
    {"blocks_copy", blocks_copy, METH_NOARGS,
     "blocks_copy() -> int: how many are there now, for blocks_read."},
    {"blocks_read", blocks_read, METH_O,
     "blocks_read(n) -> [(view, bytes, lines)]: the next n blocks of those, as far as they are "
     "still there; view: its number, -1: its request has not ended, -2: of none."},
    {"blocks_requests", blocks_requests, METH_NOARGS,
     "blocks_requests() -> [(view, count)]: requests that began since blocks_start and have "
     "ended."},
    {NULL, NULL, 0, NULL},
};

int allocs_add(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
