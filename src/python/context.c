/* context.c: context variables belong to one request.
 *
 * Owns: the context that all requests begin with, and one for each thread. A thread keeps its
 * context for the next request as long as nothing was set in it, on versions of CPython where that
 * can be seen. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "context.h"
#include "python/tested.h"

static PyObject *base_context;     /* what the import and the hooks have left */
static PyObject *decimal_variable; /* the context variable of decimal, if it is set there */

static bool can_compare; /* before and after a request: whether variables_of tells all */

/* The context in which this thread runs requests, entered; NULL: the next request makes one. */
static _Thread_local PyObject *own_context;
static _Thread_local uintptr_t own_variables; /* variables_of it, when it was made */

void context_keep(void)
{
    assert(!own_context);
    PyObject *variable, *variables = NULL;
    Py_XSETREF(base_context, PyContext_CopyCurrent());
    Py_CLEAR(decimal_variable);
    if (base_context)
        variables = PyObject_GetIter(base_context);
    while (variables && !decimal_variable && (variable = PyIter_Next(variables))) {
        PyObject *name = PyObject_GetAttrString(variable, "name");
        if (name && PyUnicode_Check(name) &&
            PyUnicode_CompareWithASCIIString(name, "decimal_context") == 0)
            decimal_variable = Py_NewRef(variable);
        Py_XDECREF(name);
        Py_DECREF(variable);
    }
    Py_XDECREF(variables);
    PyErr_Clear();
    can_compare = python_is_tested(Py_Version) && !decimal_variable;
}

/* decimal changes its context where it stands: threads that shared one would calculate with each
 * other's precision. */
static int copy_decimal_context(void)
{
    PyObject *shared = NULL, *copy = NULL, *token = NULL;
    if (PyContextVar_Get(decimal_variable, NULL, &shared) == 0 && shared)
        copy = PyObject_CallMethod(shared, "copy", NULL);
    if (copy)
        token = PyContextVar_Set(decimal_variable, copy);
    Py_XDECREF(token);
    Py_XDECREF(copy);
    Py_XDECREF(shared);
    return token ? 0 : -1;
}

static int add_address(PyObject *object, void *sum)
{
    *(uintptr_t *)sum += (uintptr_t)object;
    return 0;
}

/* Changes when a variable is set in the context: it then refers to another table. The table of
 * before cannot come back, since base_context keeps it. */
static uintptr_t variables_of(PyObject *context)
{
    uintptr_t sum = 0;
    (void)Py_TYPE(context)->tp_traverse(context, add_address, &sum);
    return sum;
}

void context_leave(void)
{
    if (own_context && PyContext_Exit(own_context) < 0)
        PyErr_Clear(); /* somebody has entered another one, and not left it */
    Py_CLEAR(own_context);
}

int context_begin(void)
{
    if (own_context)
        return 0;
    PyObject *context = PyContext_Copy(base_context);
    if (!context || PyContext_Enter(context) < 0) {
        Py_XDECREF(context);
        return -1;
    }
    own_context = context;
    if (decimal_variable && copy_decimal_context() < 0)
        return -1;
    own_variables = variables_of(context);
    return 0;
}

void context_end(void)
{
    if (own_context && (!can_compare || variables_of(own_context) != own_variables))
        context_leave();
}
