/* garbage.c: when the collector runs.
 *
 * Owns: the time of the next collection. By itself the collector runs in the middle of a request,
 * when so and so many objects have been made. What the request still uses then counts as older
 * garbage later, and stays for many requests: a Django page leaves its context in a cycle, and with
 * it all the rows it has shown. Between requests all of that is free, and young: what is older is
 * not looked at, so that a collection is short. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "base.h"
#include "garbage.h"

/* The generations up to this one. */
#define YOUNG          1
/* Of the number at which the collector would run by itself. */
#define DUE_PART       10
/* As long as a collection has taken, until the next: at most 1 % of the time. */
#define REST_TIMES     100
/* One that takes longer holds requests up, and finds little among much that stays: without preload,
 * or where the worker has filled caches. It is Python's own business then. */
#define LONGEST_NS     (5 * NS_PER_MS)
/* In a row; one alone may have waited for a CPU. */
#define SLOW_RUNS_MOST 3
/* Asking costs 6 % of a small request. Where there is not even this part of what is due, requests
 * make nothing, and so many of them are not followed by a question. By number, not by the clock: a
 * request then costs as many instructions each time it is counted. */
#define QUIET_PART     4
#define QUIET_REQUESTS 15

static PyObject *get_count; /* NULL: the collector is left alone */
static PyObject *collect;
static long due_count;
static unsigned quiet_requests;
static uint64_t next_ns;
static unsigned slow_runs;

/* The first of the numbers that a function of the module gc returns; -1 when there is none. */
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
    if (count < due_count / QUIET_PART)
        quiet_requests = QUIET_REQUESTS;
    if (count < due_count)
        return;
    PyObject *found = PyObject_CallFunction(collect, "i", YOUNG);
    if (!found)
        PyErr_Clear();
    Py_XDECREF(found);
    uint64_t end = now_ns();
    next_ns = end + REST_TIMES * (end - now);
    slow_runs = end - now > LONGEST_NS ? slow_runs + 1 : 0;
    if (slow_runs >= SLOW_RUNS_MOST)
        Py_CLEAR(get_count);
}
