/* codes.c: gives code objects that change when they run pages of their own.
 *
 * Owns: these pages, and the table of checksums. CPython keeps its inline caches in the code
 * objects. Where an instruction does not become specialized, or not for long, a counter in its
 * cache is written each time it runs; before 3.12 each call also writes the reference count of the
 * code. Such objects lie scattered, one or two on a page, and every worker copies each of these
 * pages. They are found by comparison: they are those that one more round of a long warm-up still
 * changes.
 *
 * A code object is moved by making a copy, byte for byte, that takes its place in the functions and
 * in the constants of other code. Neither the original nor the copy is ever freed, so the objects
 * that both refer to stay alive. A code object that others know, too, is not moved: one of a
 * debugger or tracer, one with weak references, one that anything else owns. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "base/text.h"
#include "codes.h"
#include "immortal.h"

#ifndef Py_GIL_DISABLED

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define ALIGN_BYTES 16

struct entry {
    /* borrowed: a function or other code owns them; copy NULL: not moved */
    PyCodeObject *code, *copy;
    uint64_t sum;
};

struct table {
    struct entry *entries; /* sorted by address */
    size_t count, room;
};

static struct table noted;

static size_t code_bytes(const PyCodeObject *code)
{
    return offsetof(PyCodeObject, co_code_adaptive) +
           (size_t)Py_SIZE(code) * (size_t)PyCode_Type.tp_itemsize;
}

/* Checksum of the instructions with their caches. */
static uint64_t code_sum(const PyCodeObject *code)
{
    size_t before = offsetof(PyCodeObject, co_code_adaptive);
    return text_hash(TEXT_HASH, (const char *)code + before, code_bytes(code) - before);
}

static int by_address(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)((const struct entry *)a)->code;
    uintptr_t y = (uintptr_t)((const struct entry *)b)->code;
    return (x > y) - (x < y);
}

static struct entry *find(const struct table *table, PyObject *code)
{
    struct entry key = {.code = (PyCodeObject *)code};
    if (table->count == 0)
        return NULL;
    return bsearch(&key, table->entries, table->count, sizeof key, by_address);
}

/* ---- all code of all functions ---- */

static void add_code(struct table *table, PyObject *object)
{
    if (table->count == table->room) {
        table->room = table->room ? 2 * table->room : 4096;
        table->entries = xrealloc(table->entries, table->room * sizeof *table->entries);
    }
    PyCodeObject *code = (PyCodeObject *)object;
    table->entries[table->count++] = (struct entry){.code = code, .sum = code_sum(code)};
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(code->co_consts); i++)
        if (PyCode_Check(PyTuple_GET_ITEM(code->co_consts, i)))
            add_code(table, PyTuple_GET_ITEM(code->co_consts, i));
}

static void sort(struct table *table)
{
    size_t kept = 0;
    qsort(table->entries, table->count, sizeof *table->entries, by_address);
    for (size_t i = 0; i < table->count; i++)
        if (kept == 0 || table->entries[kept - 1].code != table->entries[i].code)
            table->entries[kept++] = table->entries[i];
    table->count = kept;
}

static struct table all_codes(PyObject *objects)
{
    struct table table = {0};
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(objects); i++) {
        PyObject *object = PyList_GET_ITEM(objects, i);
        if (PyFunction_Check(object))
            add_code(&table, PyFunction_GET_CODE(object));
    }
    if (table.count > 0)
        sort(&table);
    return table;
}

/* ---- what to move ---- */

static bool is_of_code(const struct owners *graph, const struct node *tuple)
{
    if (!PyTuple_Check(tuple->object))
        return false;
    for (uint32_t at = tuple->owners; at != OWNERS_NONE; at = graph->links[at].next)
        if (!PyCode_Check(graph->nodes[graph->links[at].owner].object))
            return false;
    return true;
}

/* Whether only functions own it, and the constants of other code. */
static bool is_unknown(const struct owners *graph, const PyCodeObject *code)
{
    uint32_t number = owners_number(graph, (const PyObject *)code);
    uint32_t at = number == OWNERS_NONE ? OWNERS_NONE : graph->nodes[number].owners;
    for (; at != OWNERS_NONE; at = graph->links[at].next) {
        const struct node *owner = &graph->nodes[graph->links[at].owner];
        if (!PyFunction_Check(owner->object) && !is_of_code(graph, owner))
            return false;
    }
    return true;
}

static bool may_move(const struct owners *graph, const PyCodeObject *code)
{
#if PY_VERSION_HEX >= 0x030c0000
    if (code->_co_monitoring)
        return false;
#endif
#if PY_VERSION_HEX >= 0x030d0000
    if (code->co_executors) /* executors of the JIT write to the code that they were made for */
        return false;
#endif
    return !code->co_weakreflist && !code->co_extra && is_unknown(graph, code);
}

/* Before 3.12 code is written to whenever it is called. It counts its first eight calls, which
 * tells whether it has run. */
static bool has_run(const PyCodeObject *code)
{
#if PY_VERSION_HEX < 0x030c0000
    return code->co_warmup > -8;
#else
    (void)code;
    return false;
#endif
}

static bool is_unsettled(const struct entry *entry)
{
    const struct entry *before = find(&noted, (PyObject *)entry->code);
    return !before || before->sum != entry->sum;
}

/* ---- moving ---- */

static void move(struct entry *entry, char **at)
{
    size_t size = code_bytes(entry->code);
    entry->copy = (PyCodeObject *)*at;
    memcpy(entry->copy, entry->code, size);
    immortal_make((PyObject *)entry->copy);
    *at += (size + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

static void replace(const struct table *table, PyObject **place)
{
    const struct entry *entry = PyCode_Check(*place) ? find(table, *place) : NULL;
    if (entry && entry->copy)
        *place = (PyObject *)entry->copy;
}

static void replace_all(const struct table *table, PyObject *objects)
{
    for (size_t i = 0; i < table->count; i++) {
        PyTupleObject *consts = (PyTupleObject *)table->entries[i].code->co_consts;
        for (Py_ssize_t j = 0; j < PyTuple_GET_SIZE(consts); j++)
            replace(table, &consts->ob_item[j]);
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(objects); i++) {
        PyObject *object = PyList_GET_ITEM(objects, i);
        if (PyFunction_Check(object))
            replace(table, &((PyFunctionObject *)object)->func_code);
    }
}

static char *make_room(const struct table *table)
{
    size_t most = 0;
    for (size_t i = 0; i < table->count; i++)
        most += code_bytes(table->entries[i].code) + ALIGN_BYTES;
    void *room = mmap(NULL, most, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return room == MAP_FAILED ? NULL : room;
}

/* First those that change with each request, so that no page has both these and code that no longer
 * changes. */
static size_t move_all(struct table *table, const struct owners *graph)
{
    size_t moved = 0;
    char *at = make_room(table);
    for (int pass = 0; at && pass < 2; pass++) {
        for (size_t i = 0; i < table->count; i++) {
            struct entry *entry = &table->entries[i];
            bool wanted = pass == 0 ? is_unsettled(entry) : has_run(entry->code);
            if (!wanted || entry->copy || !may_move(graph, entry->code))
                continue;
            move(entry, &at);
            moved++;
        }
    }
    return moved;
}

static void forget_noted(void)
{
    free(noted.entries);
    noted = (struct table){0};
}

void codes_note(PyObject *objects)
{
    forget_noted();
    noted = all_codes(objects);
}

size_t codes_gather(PyObject *objects, const struct owners *graph)
{
    size_t moved = 0;
    if (noted.count > 0) {
        struct table table = all_codes(objects);
        moved = move_all(&table, graph);
        replace_all(&table, objects);
        free(table.entries);
    }
    forget_noted();
    return moved;
}

#else

void codes_note(PyObject *objects)
{
    (void)objects;
}

size_t codes_gather(PyObject *objects, const struct owners *graph)
{
    (void)objects;
    (void)graph;
    return 0;
}

#endif
