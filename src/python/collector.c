/* collector.c: how long garbage collections stop the threads.
 *
 * Owns: when the collection that runs has begun. Python calls a function of gc.callbacks before and
 * after each one, whoever started it, also the server itself between requests (heap/garbage.c). A
 * collection has the GIL, so only one runs at a time, and it stops every thread that runs Python;
 * it is counted for the request of the thread on which it runs. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "python/collector.h"

#include "python/costs.h"
#include "shared/board.h"
#include "system/forks.h"

static struct board *board; /* NULL: this process is no worker */
static unsigned slot;
static uint64_t began_ns; /* 0: none runs that is noted */
static bool is_between;

static void note_longest(_Atomic uint64_t *longest_ns, uint64_t ns)
{
    if (ns > atomic_load_explicit(longest_ns, memory_order_relaxed)) /* the GIL: one writer */
        atomic_store_explicit(longest_ns, ns, memory_order_relaxed);
}

static void note(uint64_t ns)
{
    struct board_pauses *pauses = &board->worker[slot].pauses[is_between];
    struct costs_clock *clock = costs_running();
    atomic_fetch_add_explicit(&pauses->count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&pauses->total_ns, ns, memory_order_relaxed);
    note_longest(&pauses->longest_ns, ns);
    if (!clock || is_between)
        return;
    struct ledger_pauses *its = &clock->costs->pauses;
    its->count++;
    its->total_ns += ns;
    its->longest_ns = ns > its->longest_ns ? ns : its->longest_ns;
}

/* on_collection(phase, information); phase is "start" or "stop". */
static PyObject *on_collection(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    bool is_on = board && count > 0 && costs_observe(OBSERVED_COLLECTOR, 0);
    if (is_on && !forks_is_copy()) {
        bool is_start =
            PyUnicode_Check(args[0]) && PyUnicode_CompareWithASCIIString(args[0], "start") == 0;
        uint64_t now = now_ns();
        if (!is_start && began_ns)
            note(now - began_ns);
        began_ns = is_start ? now : 0;
    }
    Py_RETURN_NONE;
}

static PyMethodDef method = {"on_collection", (PyCFunction)(void (*)(void))on_collection,
                             METH_FASTCALL, NULL};

void collector_watch(void)
{
    static bool is_watched;
    PyObject *gc = is_watched ? NULL : PyImport_ImportModule("gc");
    PyObject *callbacks = gc ? PyObject_GetAttrString(gc, "callbacks") : NULL;
    PyObject *function = callbacks ? PyCFunction_New(&method, NULL) : NULL;
    if (function && PyList_Check(callbacks))
        is_watched = PyList_Append(callbacks, function) == 0;
    PyErr_Clear();
    Py_XDECREF(function);
    Py_XDECREF(callbacks);
    Py_XDECREF(gc);
}

void collector_begin(struct board *where, unsigned whose)
{
    board = where;
    slot = whose;
    began_ns = 0;
}

void collector_set_between(bool between)
{
    is_between = between;
}
