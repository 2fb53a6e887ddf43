/* growth.c: the calls of growth.py. Owns nothing. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "python/growth.h"
#include "python/python.h"

/* What is set, as one sentence; owned by the caller. Clears it. */
static char *take_exception(void)
{
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    PyObject *said = value ? PyObject_Str(value) : NULL;
    const char *text = said ? PyUnicode_AsUTF8(said) : NULL;
    bool is_ours = value && PyErr_GivenExceptionMatches(value, PyExc_RuntimeError);
    const char *name = is_ours || !value ? "" : Py_TYPE(value)->tp_name;
    char *sentence = xasprintf("%s%s%s", name, *name ? ": " : "", text ? text : "not known");
    PyErr_Clear();
    Py_XDECREF(said);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(trace);
    return sentence;
}

/* Calls a function of growth.py, with `text` and `number` unless `text` is NULL. What it returns as
 * bytes goes to `out`, unless that is NULL. */
static char *call(const char *name, const char *text, int number, struct buf *out)
{
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *function = PyObject_GetAttrString(python_growth(), name);
    PyObject *done =
        function ? PyObject_CallFunction(function, text ? "si" : NULL, text, number) : NULL;
    if (done && out && PyBytes_Check(done))
        buf_append(out, PyBytes_AS_STRING(done), (size_t)PyBytes_GET_SIZE(done));
    char *wrong = done ? NULL : take_exception();
    Py_XDECREF(done);
    Py_XDECREF(function);
    PyGILState_Release(state);
    return wrong;
}

char *growth_begin(void)
{
    return call("begin", NULL, 0, NULL);
}

char *growth_mark(void)
{
    return call("mark", NULL, 0, NULL);
}

char *growth_result(struct buf *out, const char *type, bool pages)
{
    return call("finish", type, pages, out);
}

void growth_stop(void)
{
    char *wrong = call("stop", NULL, 0, NULL);
    free(wrong);
}
