/* immortal.c: objects whose reference count is never written again (PEP 683).
 *
 * Owns: nothing. Sets the reference count that CPython 3.12 and newer never change. So a worker
 * that only reads what the mold has loaded does not write to its pages. Also computes the hashes of
 * strings, which would otherwise be written at first use.
 *
 * An immortal object is never freed. spared.c says for which objects that could be noticed. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "immortal.h"
#include "spared.h"

#include <stdbool.h>

#if PY_VERSION_HEX >= 0x030c0000 && !defined(Py_GIL_DISABLED)

void immortal_make(PyObject *object)
{
#if PY_VERSION_HEX >= 0x030e0000
    /* The interpreter's stack asks the flag, not the count, whether to count down. */
    object->ob_flags |= _Py_IMMORTAL_FLAGS;
    object->ob_refcnt = _Py_IMMORTAL_INITIAL_REFCNT;
#else
    object->ob_refcnt = _Py_IMMORTAL_REFCNT;
#endif
}

static bool is_short_lived(PyObject *object)
{
    return PyFrame_Check(object) || PyTraceBack_Check(object);
}

size_t immortal_make_all(const struct owners *graph)
{
    size_t made = 0;
    for (uint32_t i = 0; i < graph->count; i++) {
        PyObject *object = graph->nodes[i].object;
        if (graph->nodes[i].marks & SPARED || _Py_IsImmortal(object) || is_short_lived(object))
            continue;
        if (PyUnicode_CheckExact(object) && PyObject_Hash(object) == -1)
            PyErr_Clear();
        immortal_make(object);
        made++;
    }
    return made;
}

#else

void immortal_make(PyObject *object)
{
    Py_INCREF(object);
}

size_t immortal_make_all(const struct owners *graph)
{
    (void)graph;
    return 0;
}

#endif
