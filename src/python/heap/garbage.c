/* garbage.c: when the collector runs.
 *
 * Owns: the time of the next collection. By itself the collector runs in the middle of a request,
 * as soon as a certain number of objects has been made. What the request still uses at that moment
 * moves to an older generation and stays for many requests, although it is garbage soon: a Django
 * page leaves its context in a cycle, and with it all the rows it has shown. Between requests all
 * of that is unused and still young. Older generations are not examined, so a collection is
 * short. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "base/base.h"
#include "garbage.h"
#include "python/collector.h"

/* Generations 0 to this one are collected. */
#define YOUNG          1
/* A collection is due at 1/DUE_PART of the number of new objects at which the collector would run
 * by itself. */
#define DUE_PART       10
/* The next collection waits this many times as long as the last one took: at most 1 % of the time
 * is spent. */
#define REST_TIMES     100
/* A collection that takes longer delays requests, and finds little garbage among many objects that
 * stay: without preload, or where the worker has filled caches. Then collecting is left to
 * Python. */
#define LONGEST_NS     (5 * NS_PER_MS)
/* So many slow ones in a row; a single one may have waited for a CPU. */
#define SLOW_RUNS_MOST 3
/* Asking for the count costs 6 % of a small request. When it has grown by less than 1/QUIET_PART of
 * what is due, requests make few objects, and the next QUIET_REQUESTS requests do not ask. This
 * counts requests and not time, so that a request costs the same number of instructions in every
 * measurement. */
#define QUIET_PART     4
#define QUIET_REQUESTS 15

static PyObject *get_count; /* NULL: collecting is left to Python */
static PyObject *collect;
static long due_count, last_count;
static unsigned quiet_requests;
static uint64_t next_ns;
static unsigned slow_runs;

/* The first number of the tuple that a function of the module gc returns; -1: none. */
static long first_of(PyObject *function)
{
    PyObject *numbers = function ? PyObject_CallNoArgs(function) : NULL;
    long first = -1;
    if (numbers && PyTuple_Check(numbers) && PyTuple_GET_SIZE(numbers) > 0)
        first = PyLong_AsLong(PyTuple_GET_ITEM(numbers, 0));
    Py_XDECREF(numbers);
    PyErr_Clear();
    return first;
}

void garbage_init(void)
{
    PyObject *gc = PyImport_ImportModule("gc");
    PyObject *threshold = gc ? PyObject_GetAttrString(gc, "get_threshold") : NULL;
    due_count = first_of(threshold) / DUE_PART;
    if (gc && due_count > 0) {
        Py_XSETREF(get_count, PyObject_GetAttrString(gc, "get_count"));
        Py_XSETREF(collect, PyObject_GetAttrString(gc, "collect"));
    }
    Py_XDECREF(threshold);
    Py_XDECREF(gc);
    PyErr_Clear();
}

void garbage_collect(void)
{
    if (!get_count)
        return;
    if (quiet_requests > 0) {
        quiet_requests--;
        return;
    }
    uint64_t now = now_ns();
    if (now < next_ns || !PyGC_IsEnabled())
        return;
    long count = first_of(get_count);
    if (count - last_count < due_count / QUIET_PART)
        quiet_requests = QUIET_REQUESTS;
    last_count = count;
    if (count < due_count)
        return;
    collector_set_between(true);
    PyObject *found = PyObject_CallFunction(collect, "i", YOUNG);
    collector_set_between(false);
    if (!found)
        PyErr_Clear();
    Py_XDECREF(found);
    last_count = 0;
    uint64_t end = now_ns();
    next_ns = end + REST_TIMES * (end - now);
    slow_runs = end - now > LONGEST_NS ? slow_runs + 1 : 0;
    if (slow_runs >= SLOW_RUNS_MOST)
        Py_CLEAR(get_count);
}
