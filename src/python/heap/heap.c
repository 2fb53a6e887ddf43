/* heap.c: what is done to Python's heap so that workers share it.
 *
 * Owns: whether it is done. The work is done by codes.c, spared.c, immortal.c, holes.c and
 * garbage.c, which nobody else calls. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "python/heap/heap.h"

#include "base/log.h"
#include "codes.h"
#include "garbage.h"
#include "holes.h"
#include "immortal.h"
#include "python/tested.h"
#include "spared.h"

static bool is_on, is_settled;

void heap_start(bool wanted)
{
    is_on = wanted && python_is_tested(Py_Version);
    if (wanted && !is_on)
        log_info(
            "the heap is left as it is, and workers share less of it: the tests of myserver have "
            "not run on CPython %s",
            PY_VERSION);
}

/* New reference; NULL when it fails. */
static PyObject *call_gc(const char *method)
{
    PyObject *gc = PyImport_ImportModule("gc");
    PyObject *answer = gc ? PyObject_CallMethod(gc, method, NULL) : NULL;
    PyErr_Clear();
    Py_XDECREF(gc);
    return answer;
}

static void run_gc(const char *method)
{
    Py_XDECREF(call_gc(method));
}

void heap_note(void)
{
    if (!is_on)
        return;
    run_gc("collect"); /* unreachable cycles must not be frozen with the rest */
    run_gc("unfreeze");
    PyObject *objects = call_gc("get_objects");
    if (objects)
        codes_note(objects);
    Py_XDECREF(objects);
    run_gc("freeze");
}

/* A class that is written in Python; a new reference, or NULL. Not one of ours: where the project
 * is called myserver, it would be asked for it. */
static PyObject *python_class(void)
{
    PyObject *codecs = PyImport_ImportModule("codecs");
    PyObject *found = codecs ? PyObject_GetAttrString(codecs, "Codec") : NULL;
    Py_XDECREF(codecs);
    PyErr_Clear();
    return found;
}

/* Freezes all but what the collector has to see: gc.freeze takes what it tracks. That is old then:
 * a worker that looks at what is young would write to all of it. */
static void freeze(const struct owners *graph)
{
    for (uint32_t i = 0; i < graph->count; i++)
        if (graph->nodes[i].marks & IN_CYCLE)
            PyObject_GC_UnTrack(graph->nodes[i].object);
    run_gc("freeze");
    for (uint32_t i = 0; i < graph->count; i++)
        if (graph->nodes[i].marks & IN_CYCLE)
            PyObject_GC_Track(graph->nodes[i].object);
    run_gc("collect");
}

static void share(PyObject *objects, PyObject *class)
{
    struct owners graph;
    owners_find(&graph, objects);
    size_t spared = spared_find(&graph, class);
    size_t moved = codes_gather(objects, &graph);
    size_t made = immortal_make_all(&graph);
    freeze(&graph);
    owners_forget(&graph);
    log_debug(
        "the heap is settled: %zu code objects lie together, %zu objects are immortal, %zu are "
        "left alone",
        moved, made, spared);
}

void heap_settle(void)
{
    /* The method cache holds references to names. Workers replace its entries sooner or later, and
     * would then write to the reference counts of names that only the start has used, on pages that
     * they share: before 3.12 of all names, later of those that nothing else refers to any more,
     * made by getattr(thing, "as_" + vendor). */
    (void)PyType_ClearCache();
    is_settled = true;
    if (!is_on)
        return;
    PyObject *class = python_class();
    PyObject *objects = class ? call_gc("get_objects") : NULL;
    if (objects)
        share(objects, class);
    else
        log_warning("the heap cannot be looked at: workers share less of it");
    Py_XDECREF(objects);
    Py_XDECREF(class);
    holes_fill();
}

void heap_begin(void)
{
    if (!is_settled)
        run_gc("unfreeze");
    if (is_on)
        garbage_init();
}

void heap_tidy(void)
{
    garbage_collect();
}
