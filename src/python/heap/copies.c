/* copies.c: which types of objects lie on the pages that this worker has copied. Owns nothing.
 *
 * A worker copies a page of the mold as soon as it writes a word of it. The kernel says of each
 * page whether another process has it too. Which word was written nobody knows any more, so what
 * can be told is whose objects lie there: a type that is written to has more of them on copied
 * pages than others. Looks at all objects at once, as chains.c does, and writes to none. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "copies.h"
#include "owners.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define PAGE_SHIFT 12
#define PAGES_SEEN (1u << 16)
#define TYPES_ROOM (1u << 13)
#define TYPES_MOST (TYPES_ROOM / 2)
/* of a page, in /proc/self/pagemap */
#define IS_PRESENT (1ull << 63)
#define IS_ALONE   (1ull << 56) /* no other process maps it */

struct of_type {
    PyTypeObject *type;
    unsigned long all, copied;
};

static struct copies {
    int fd;
    struct {
        uintptr_t page; /* 0: none */
        bool copied;
    } pages[PAGES_SEEN]; /* that were asked for last */
    struct of_type types[TYPES_ROOM];
    unsigned type_count;
} * copies; /* while it looks */

static bool is_copied(const PyObject *object)
{
    uintptr_t page = (uintptr_t)object >> PAGE_SHIFT;
    unsigned i = (unsigned)(page * 0x9e3779b1u) % PAGES_SEEN;
    if (copies->pages[i].page != page) {
        uint64_t entry = 0;
        ssize_t got = pread(copies->fd, &entry, sizeof entry, (off_t)(page * sizeof entry));
        copies->pages[i].page = page;
        copies->pages[i].copied =
            got == (ssize_t)sizeof entry && (entry & IS_PRESENT) && (entry & IS_ALONE);
    }
    return copies->pages[i].copied;
}

static void count(const PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    unsigned i = (unsigned)((uintptr_t)type >> 4) % TYPES_ROOM;
    while (copies->types[i].type && copies->types[i].type != type)
        i = (i + 1) % TYPES_ROOM;
    if (!copies->types[i].type && copies->type_count++ >= TYPES_MOST)
        return;
    copies->types[i].type = type;
    copies->types[i].all++;
    copies->types[i].copied += is_copied(object);
}

/* Whether something owns it that was there before the fork: objects that the collector does not
 * know do not tell themselves. */
static bool has_old_owner(const struct owners *graph, const struct node *node, uint32_t old)
{
    for (uint32_t link = node->owners; link != OWNERS_NONE; link = graph->links[link].next)
        if (graph->links[link].owner >= old)
            return true;
    return false;
}

/* What the collector lists is the worker's own, but for the first one; what is only owned by that
 * was there before the fork. */
static void count_all(PyObject *objects)
{
    struct owners graph;
    owners_find(&graph, objects);
    uint32_t old = (uint32_t)PyList_GET_SIZE(objects);
    for (uint32_t i = old; i < graph.count; i++) {
        const struct node *node = &graph.nodes[i];
        if (PyObject_IS_GC(node->object) || has_old_owner(&graph, node, old))
            count(node->object);
    }
    owners_forget(&graph);
}

static PyObject *list_types(void)
{
    PyObject *list = PyList_New(0);
    for (unsigned i = 0; list && i < TYPES_ROOM; i++) {
        const struct of_type *of = &copies->types[i];
        PyObject *item =
            of->copied ? Py_BuildValue("(Okk)", (PyObject *)of->type, of->all, of->copied) : NULL;
        if (of->copied && (!item || PyList_Append(list, item) < 0))
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

PyObject *copied_types(PyObject *Py_UNUSED(module), PyObject *objects)
{
    if (!PyList_Check(objects))
        return PyErr_Format(PyExc_TypeError, "the objects are no list");
    copies = xcalloc(1, sizeof *copies);
    copies->fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (copies->fd < 0) {
        free(copies);
        return PyErr_SetFromErrnoWithFilename(PyExc_OSError, "/proc/self/pagemap");
    }
    int collects = PyGC_Disable(); /* objects must not go while they are in the graph */
    count_all(objects);
    PyObject *list = list_types();
    if (collects)
        PyGC_Enable();
    close(copies->fd);
    free(copies);
    return list;
}
