/* chains.c: what keeps an object alive: the objects from it up to a module. Owns nothing. Looks at
 * all objects at once, at those that are frozen, too, and writes to none of them; that takes some
 * tenths of a second on a large heap, in which no other thread has the GIL. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "python/heap/heap.h"

#include "copies.h"
#include "owners.h"

#include <stdlib.h>

#define LENGTH_MOST 16

/* Where a look for owners has come to; kept in the nodes: `marks` says in which look a node was
 * seen, `next` from which node it was come to. */
struct look {
    struct owners *graph;
    uint32_t number;
    uint32_t *queue; /* [graph->count] */
    uint32_t count;
};

static void come_to(struct look *look, uint32_t node, uint32_t from)
{
    if (look->graph->nodes[node].marks == look->number)
        return;
    look->graph->nodes[node].marks = look->number;
    look->graph->nodes[node].next = from;
    look->queue[look->count++] = node;
}

/* The nearest owner of owners that is the root, node 0; else the last one that was found, which
 * nothing owns that is known. */
static uint32_t find_root(struct look *look, uint32_t node)
{
    look->count = 0;
    look->number++;
    come_to(look, node, OWNERS_NONE);
    for (uint32_t i = 0; i < look->count; i++) {
        node = look->queue[i];
        if (node == 0)
            return node;
        const struct node *found = &look->graph->nodes[node];
        for (uint32_t link = found->owners; link != OWNERS_NONE;
             link = look->graph->links[link].next)
            come_to(look, look->graph->links[link].owner, node);
    }
    return node;
}

/* From the root to the object; a new reference. */
static PyObject *chain_of(struct look *look, const PyObject *object)
{
    PyObject *chain = PyList_New(0);
    uint32_t node = owners_number(look->graph, object);
    node = node == OWNERS_NONE ? node : find_root(look, node);
    for (unsigned i = 0; chain && node != OWNERS_NONE && i < LENGTH_MOST; i++) {
        if (PyList_Append(chain, look->graph->nodes[node].object) < 0)
            Py_CLEAR(chain);
        node = look->graph->nodes[node].next;
    }
    return chain;
}

static PyObject *chains_of(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *objects, *wanted;
    struct owners graph;
    if (!PyArg_ParseTuple(args, "O!O!", &PyList_Type, &objects, &PyList_Type, &wanted))
        return NULL;
    PyObject *chains = PyList_New(0);
    if (!chains)
        return NULL;
    int collects = PyGC_Disable(); /* objects must not go while they are in the graph */
    owners_find(&graph, objects);
    struct look look = {.graph = &graph, .queue = xcalloc(graph.count + 1, sizeof *look.queue)};
    for (Py_ssize_t i = 0; chains && i < PyList_GET_SIZE(wanted); i++) {
        PyObject *chain = chain_of(&look, PyList_GET_ITEM(wanted, i));
        if (!chain || PyList_Append(chains, chain) < 0)
            Py_CLEAR(chains);
        Py_XDECREF(chain);
    }
    free(look.queue);
    owners_forget(&graph);
    if (collects)
        PyGC_Enable();
    return chains;
}

static PyMethodDef functions[] = {
    {"chains_of", chains_of, METH_VARARGS,
     "chains_of(objects, wanted) -> a list for each of the wanted: the objects from objects[0] to "
     "it, each of which owns the next one; not from objects[0], if that does not own it."},
    {"copied_types", copied_types, METH_O,
     "copied_types(objects) -> [(type, all, copied)]: objects that were there before the fork, and "
     "how many lie on pages that this process has copied; objects as for chains_of."},
    {NULL, NULL, 0, NULL},
};

int heap_add(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
