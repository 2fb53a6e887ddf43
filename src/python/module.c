/* module.c: the built-in module _myserver, through which the Python package `myserver`
 * reaches the server. Owns the worker's number. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "base/log.h"
#include "python/allocs.h"
#include "python/costs.h"
#include "python/heap/heap.h"
#include "python/hints.h"
#include "python/module.h"
#include "watched.h"

static unsigned worker_number;

static PyObject *worker_id(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    return PyLong_FromUnsignedLong(worker_number);
}

static PyObject *write_log(PyObject *Py_UNUSED(module), PyObject *args)
{
    int level;
    const char *text, *detail;
    Py_ssize_t detail_len;
    if (!PyArg_ParseTuple(args, "iyy#", &level, &text, &detail, &detail_len))
        return NULL;
    if (level < LOG_DEBUG || level > LOG_CRITICAL)
        return PyErr_Format(PyExc_ValueError, "log level %d is not 0..%d", level, LOG_CRITICAL);
    log_block((enum log_level)level, detail, (size_t)detail_len, "%s", text);
    Py_RETURN_NONE;
}

static PyObject *finalize(PyObject *Py_UNUSED(module), PyObject *object)
{
    PyObject_CallFinalizer(object);
    Py_RETURN_NONE;
}

/* What is known of a type; the next one that falls to its place takes that. */
struct verdict {
    const PyTypeObject *type;
    int is_wanted;
};
#define VERDICTS 1024

static bool judge(struct verdict *verdicts, PyObject *object, PyObject *kinds)
{
    PyTypeObject *type = Py_TYPE(object);
    struct verdict *verdict = &verdicts[(uintptr_t)type / sizeof(PyObject) % VERDICTS];
    if (verdict->type != type)
        *verdict = (struct verdict){type, PyObject_IsSubclass((PyObject *)type, kinds)};
    return verdict->is_wanted != 0; /* -1: it has failed */
}

static PyObject *instances(PyObject *Py_UNUSED(module), PyObject *args)
{
    struct verdict verdicts[VERDICTS] = {{0}};
    PyObject *objects, *kinds, *found = PyList_New(0);
    bool fails = !found || !PyArg_ParseTuple(args, "O!O", &PyList_Type, &objects, &kinds);
    for (Py_ssize_t i = 0; !fails && i < PyList_GET_SIZE(objects); i++) {
        PyObject *object = PyList_GET_ITEM(objects, i);
        if (judge(verdicts, object, kinds))
            fails = PyErr_Occurred() || PyList_Append(found, object) < 0;
    }
    if (fails)
        Py_CLEAR(found);
    return found;
}

static PyObject *view_name(PyObject *Py_UNUSED(module), PyObject *arg)
{
    long view = PyLong_AsLong(arg);
    const char *name = view >= 0 ? costs_view_name((unsigned)view) : NULL;
    if (view == -1 && PyErr_Occurred())
        return NULL;
    return PyUnicode_DecodeUTF8(name ? name : "", name ? (Py_ssize_t)strlen(name) : 0, "replace");
}

static PyMethodDef methods[] = {
    {"worker_id", worker_id, METH_NOARGS,
     "worker_id() -> int: number of this worker from 1; 0 while the application is loaded."},
    {"log", write_log, METH_VARARGS,
     "log(level, text, detail): one record of the server's log, below it the lines of detail, both "
     "bytes; level 0 (debug) to 4 (critical)."},
    {"finalize", finalize, METH_O,
     "finalize(object): runs its finalizer (__del__), unless that has been done; not twice for "
     "objects that the collector knows."},
    {"instances", instances, METH_VARARGS,
     "instances(objects, kinds) -> list: those of a list of objects whose type is a subclass of "
     "kinds, as for issubclass."},
    {"view_name", view_name, METH_O, "view_name(number) -> str: empty: there is none."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)(uintptr_t)watched_add},
    {Py_mod_exec, (void *)(uintptr_t)allocs_add},
    {Py_mod_exec, (void *)(uintptr_t)heap_add},
    {Py_mod_exec, (void *)(uintptr_t)hints_add},
#if PY_VERSION_HEX >= 0x030c0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_myserver",
    .m_doc = "The server, seen from the application it runs.",
    .m_methods = methods,
    .m_slots = slots,
};

PyObject *pymodule_create(void)
{
    return PyModuleDef_Init(&definition);
}

void pymodule_set_worker(unsigned number)
{
    worker_number = number;
}
