/* owners.c: which object owns which.
 *
 * Owns: the memory of a graph, until owners_forget. CPython can say what an object owns, and not
 * who owns it, so that is noted for all at once. The tables are mapped and not allocated: they
 * leave no holes in the heap. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "owners.h"

#include <stdbool.h>
#include <sys/mman.h>

#define FIRST_ROOM 65536u

struct visit {
    struct owners *graph;
    uint32_t owner;
};

/* ---- memory ---- */

/* New memory is all zero. `old` may be NULL. */
static void *resize(void *old, size_t old_size, size_t size)
{
    void *memory =
        old ? mremap(old, old_size, size, MREMAP_MAYMOVE)
            : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        die(EXIT_CRASH, "no memory for a look at the heap (%zu bytes)", size);
    return memory;
}

static void unmap(void *memory, size_t size)
{
    if (memory)
        munmap(memory, size);
}

/* ---- the table of objects ---- */

static uint32_t *find_slot(const struct owners *graph, const PyObject *object)
{
    uint64_t hash = (uint64_t)(uintptr_t)object * 0x9e3779b97f4a7c15u;
    uint32_t mask = graph->slot_count - 1;
    for (uint32_t at = (uint32_t)(hash >> 32) & mask;; at = (at + 1) & mask) {
        uint32_t number = graph->slots[at];
        if (number == 0 || graph->nodes[number - 1].object == object)
            return &graph->slots[at];
    }
}

/* Twice as many slots as nodes, so that searches are short. */
static void make_room(struct owners *graph)
{
    uint32_t room = graph->room ? 2 * graph->room : FIRST_ROOM;
    size_t size = sizeof *graph->nodes;
    graph->nodes = resize(graph->nodes, graph->room * size, room * size);
    graph->room = room;
    unmap(graph->slots, graph->slot_count * sizeof *graph->slots);
    graph->slot_count = 2 * room;
    graph->slots = resize(NULL, 0, graph->slot_count * sizeof *graph->slots);
    for (uint32_t i = 0; i < graph->count; i++)
        *find_slot(graph, graph->nodes[i].object) = i + 1;
}

static uint32_t add_node(struct owners *graph, PyObject *object)
{
    uint32_t *slot = find_slot(graph, object);
    if (*slot > 0)
        return *slot - 1;
    if (graph->count == graph->room) {
        make_room(graph);
        slot = find_slot(graph, object);
    }
    graph->nodes[graph->count] = (struct node){.object = object, .owners = OWNERS_NONE};
    *slot = graph->count + 1;
    return graph->count++;
}

static void add_link(struct owners *graph, uint32_t owner, uint32_t owned)
{
    if (graph->link_count == graph->link_room) {
        uint32_t room = graph->link_room ? 2 * graph->link_room : 2 * FIRST_ROOM;
        size_t size = sizeof *graph->links;
        graph->links = resize(graph->links, graph->link_room * size, room * size);
        graph->link_room = room;
    }
    struct node *node = &graph->nodes[owned];
    graph->links[graph->link_count] = (struct link){.owner = owner, .next = node->owners};
    node->owners = graph->link_count++;
}

uint32_t owners_number(const struct owners *graph, const PyObject *object)
{
    return *find_slot(graph, object) - 1; /* OWNERS_NONE + 1 is 0 */
}

/* ---- who owns what ---- */

/* Code owns objects, and the collector does not know it. */
static void visit_code(PyCodeObject *code, owners_visitor *visit, void *arg)
{
    PyObject *parts[] = {code->co_consts,
                         code->co_names,
                         code->co_exceptiontable,
                         code->co_localsplusnames,
                         code->co_localspluskinds,
                         code->co_filename,
                         code->co_name,
                         code->co_qualname,
                         code->co_linetable};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        if (parts[i] && visit(parts[i], arg) != 0)
            return;
}

void owners_visit_owned(PyObject *object, owners_visitor *visit, void *arg)
{
    if (PyCode_Check(object))
        visit_code((PyCodeObject *)object, visit, arg);
    else if (PyObject_IS_GC(object) && Py_TYPE(object)->tp_traverse)
        (void)Py_TYPE(object)->tp_traverse(object, visit, arg);
}

static int note_owner(PyObject *object, void *arg)
{
    struct visit *visit = arg;
    if (object)
        add_link(visit->graph, visit->owner, add_node(visit->graph, object));
    return 0;
}

void owners_find(struct owners *graph, PyObject *objects)
{
    struct visit visit = {.graph = graph};
    *graph = (struct owners){0};
    make_room(graph);
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(objects); i++)
        (void)add_node(graph, PyList_GET_ITEM(objects, i));
    for (; visit.owner < graph->count; visit.owner++) /* the count grows meanwhile */
        owners_visit_owned(graph->nodes[visit.owner].object, note_owner, &visit);
}

void owners_forget(struct owners *graph)
{
    unmap(graph->links, graph->link_room * sizeof *graph->links);
    unmap(graph->slots, graph->slot_count * sizeof *graph->slots);
    unmap(graph->nodes, graph->room * sizeof *graph->nodes);
    *graph = (struct owners){0};
}
