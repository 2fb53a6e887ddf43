/* immortal.c: objects whose reference count is never written again (PEP 683).
 *
 * Owns: nothing that lasts. Walks from the collector's objects through all that they refer to, and
 * sets the reference count that CPython 3.12 and newer never change. So a worker that only reads
 * what the mold has loaded does not write to its pages. Also computes the hashes of strings, which
 * would otherwise be written at first use.
 *
 * An immortal object is never freed. That is right for modules, functions, classes, templates,
 * caches; it is wrong for objects that are needed only at this moment or that release something
 * when they are freed. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "immortal.h"

#include <stdbool.h>

#if PY_VERSION_HEX >= 0x030c0000 && !defined(Py_GIL_DISABLED)

#if PY_VERSION_HEX >= 0x030e0000
#define IMMORTAL_COUNT _Py_IMMORTAL_INITIAL_REFCNT
#else
#define IMMORTAL_COUNT _Py_IMMORTAL_REFCNT
#endif

struct walk {
    size_t made;
    PyObject *io_base, *socket; /* types whose instances must be freed; may be NULL */
    PyObject *spared;           /* the list being walked */
};

static bool is_immortal(const PyObject *object)
{
    return _Py_IsImmortal((PyObject *)object);
}

static bool is_instance(PyObject *object, PyObject *type)
{
    return type && PyType_IsSubtype(Py_TYPE(object), (PyTypeObject *)type);
}

static bool must_stay_mortal(const struct walk *walk, PyObject *object)
{
    return object == walk->spared || PyFrame_Check(object) || PyGen_Check(object) ||
           PyCoro_CheckExact(object) || PyAsyncGen_CheckExact(object) ||
           PyTraceBack_Check(object) || is_instance(object, walk->io_base) ||
           is_instance(object, walk->socket);
}

static int visit(PyObject *object, void *arg);

/* Code objects refer to many objects, and the collector does not know them. */
static void walk_code(PyCodeObject *code, struct walk *walk)
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
        if (parts[i])
            (void)visit(parts[i], walk);
}

/* The collector stops tracking containers that hold nothing it cares about. They are found only
 * through their owners, so their contents are visited here. */
static void walk_into(PyObject *object, struct walk *walk)
{
    if (PyCode_Check(object))
        walk_code((PyCodeObject *)object, walk);
    else if (PyObject_IS_GC(object) && !PyObject_GC_IsTracked(object) &&
             Py_TYPE(object)->tp_traverse)
        (void)Py_TYPE(object)->tp_traverse(object, visit, walk);
}

static void settle(PyObject *object)
{
    if (PyUnicode_CheckExact(object) && PyObject_Hash(object) == -1)
        PyErr_Clear();
}

static int visit(PyObject *object, void *arg)
{
    struct walk *walk = arg;
    if (!object || is_immortal(object) || must_stay_mortal(walk, object))
        return 0;
    settle(object);
    object->ob_refcnt = IMMORTAL_COUNT;
    walk->made++;
    walk_into(object, walk);
    return 0;
}

/* New reference; NULL: the module is not loaded, so there are no instances either. */
static PyObject *type_of(const char *module, const char *name)
{
    PyObject *found = PyDict_GetItemString(PyImport_GetModuleDict(), module); /* borrowed */
    PyObject *type = found ? PyObject_GetAttrString(found, name) : NULL;
    PyErr_Clear();
    return type;
}

static PyObject *all_objects(void)
{
    PyObject *gc = PyImport_ImportModule("gc");
    PyObject *objects = gc ? PyObject_CallMethod(gc, "get_objects", NULL) : NULL;
    Py_XDECREF(gc);
    return objects;
}

size_t immortal_make_all(void)
{
    struct walk walk = {.io_base = type_of("_io", "_IOBase"),
                        .socket = type_of("_socket", "socket")};
    walk.spared = all_objects();
    for (Py_ssize_t i = 0; walk.spared && i < PyList_GET_SIZE(walk.spared); i++) {
        PyObject *object = PyList_GET_ITEM(walk.spared, i);
        if (must_stay_mortal(&walk, object))
            continue;
        (void)visit(object, &walk);
        if (Py_TYPE(object)->tp_traverse)
            (void)Py_TYPE(object)->tp_traverse(object, visit, &walk);
    }
    Py_XDECREF(walk.spared);
    Py_XDECREF(walk.io_base);
    Py_XDECREF(walk.socket);
    PyErr_Clear();
    return walk.made;
}

#else

size_t immortal_make_all(void)
{
    return 0;
}

#endif
