/* file.c: the wsgi.file_wrapper type.
 *
 * Owns: a reference to the file-like object. For the application the wrapper is an iterable of
 * blocks with a close(); if the file has a descriptor, the server sends that with sendfile(2)
 * instead. Closes the file only by calling its close(), which Django replaces by the response's. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "file.h"

#include <fcntl.h>
#include <sys/stat.h>

#define DEFAULT_BLOCK_BYTES 65536

struct wrapper {
    PyObject_HEAD PyObject *file;
    Py_ssize_t block_bytes;
};

static int wrapper_init(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"filelike", "blksize", NULL};
    struct wrapper *self = (struct wrapper *)object;
    PyObject *file;
    self->block_bytes = DEFAULT_BLOCK_BYTES;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|n", names, &file, &self->block_bytes))
        return -1;
    Py_XSETREF(self->file, Py_NewRef(file));
    return 0;
}

static int wrapper_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(((struct wrapper *)object)->file);
    return 0;
}

static int wrapper_clear(PyObject *object)
{
    Py_CLEAR(((struct wrapper *)object)->file);
    return 0;
}

static void wrapper_dealloc(PyObject *object)
{
    PyObject_GC_UnTrack(object);
    (void)wrapper_clear(object);
    Py_TYPE(object)->tp_free(object);
}

static PyObject *wrapper_next(PyObject *object)
{
    struct wrapper *self = (struct wrapper *)object;
    PyObject *block = PyObject_CallMethod(self->file, "read", "n", self->block_bytes);
    if (block && PyObject_Size(block) == 0)
        Py_CLEAR(block); /* StopIteration */
    else if (block && PyErr_Occurred())
        Py_CLEAR(block);
    return block;
}

static PyObject *wrapper_close(PyObject *object, PyObject *Py_UNUSED(none))
{
    struct wrapper *self = (struct wrapper *)object;
    if (!self->file || !PyObject_HasAttrString(self->file, "close"))
        Py_RETURN_NONE;
    return PyObject_CallMethod(self->file, "close", NULL);
}

static PyMethodDef wrapper_methods[] = {
    {"close", wrapper_close, METH_NOARGS, "close(): closes the file."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject wrapper_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "myserver.FileWrapper",
    .tp_doc = "FileWrapper(filelike, blksize=65536): a file as a response body, sent by the "
              "kernel where it can be (PEP 3333 wsgi.file_wrapper).",
    .tp_basicsize = sizeof(struct wrapper),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_init = wrapper_init,
    .tp_traverse = wrapper_traverse,
    .tp_clear = wrapper_clear,
    .tp_dealloc = wrapper_dealloc,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = wrapper_next,
    .tp_methods = wrapper_methods,
};

int wsgi_file_init(void)
{
    return PyType_Ready(&wrapper_type);
}

PyObject *wsgi_file_type(void)
{
    return (PyObject *)&wrapper_type;
}

/* Calls a method that returns a number. -1 when there is no such method or it fails, which is no
 * error: the file is then not sent by sendfile. */
static long long ask_number(PyObject *file, const char *method)
{
    PyObject *answer = PyObject_CallMethod(file, method, NULL);
    long long number = answer ? PyLong_AsLongLong(answer) : -1;
    Py_XDECREF(answer);
    PyErr_Clear();
    return number;
}

/* How many objects to look through: Django's File in a File, tempfile's wrapper, a reader. */
#define FILE_DEPTH_MAX 5

/* An attribute of a module that somebody else has imported; a new reference. NULL: there is none,
 * and no exception is set. */
static PyObject *loaded(const char *module, const char *name)
{
    PyObject *key = PyUnicode_FromString(module);
    PyObject *found = key ? PyImport_GetModule(key) : NULL;
    PyObject *attribute = found ? PyObject_GetAttrString(found, name) : NULL;
    PyErr_Clear();
    Py_XDECREF(found);
    Py_XDECREF(key);
    return attribute;
}

/* Whether the object is of that class, and of no subclass. */
static bool is_exactly(PyObject *object, const char *module, const char *name)
{
    PyObject *type = loaded(module, name);
    Py_XDECREF(type);
    return type == (PyObject *)Py_TYPE(object);
}

/* Whether an attribute of the object hides a method of its class. close() may be hidden: Django
 * does that, and it says nothing about the contents. */
static bool is_changed(PyObject *object)
{
    PyObject *own = PyObject_GetAttrString(object, "__dict__"), *name, *value;
    Py_ssize_t at = 0;
    bool changed = !own || !PyDict_Check(own);
    while (!changed && PyDict_Next(own, &at, &name, &value))
        changed = !PyUnicode_Check(name) || (PyUnicode_CompareWithASCIIString(name, "close") != 0 &&
                                             PyObject_HasAttr((PyObject *)Py_TYPE(object), name));
    PyErr_Clear();
    Py_XDECREF(own);
    return changed;
}

/* NamedTemporaryFile wraps each method of its file in a function of its own. */
static bool is_named_temporary(PyObject *file)
{
    if (!is_exactly(file, "tempfile", "_TemporaryFileWrapper"))
        return false;
    PyObject *inner = PyObject_GetAttrString(file, "file");
    PyObject *read = PyObject_GetAttrString(file, "read");
    PyObject *wrapped = read ? PyObject_GetAttrString(read, "__wrapped__") : NULL;
    PyObject *module = PyImport_AddModule("tempfile"); /* borrowed */
    bool is_theirs = wrapped && PyFunction_Check(read) && PyCFunction_Check(wrapped) && module &&
                     PyFunction_GET_GLOBALS(read) == PyModule_GetDict(module) &&
                     PyCFunction_GET_SELF(wrapped) == inner;
    PyErr_Clear();
    Py_XDECREF(wrapped);
    Py_XDECREF(read);
    Py_XDECREF(inner);
    return is_theirs;
}

/* A File of Django's reads by the file in it, unless a storage has a read() of its own. */
static bool is_django_file(PyObject *file)
{
    PyObject *mixin = loaded("django.core.files.utils", "FileProxyMixin");
    PyObject *theirs = mixin ? PyObject_GetAttrString(mixin, "read") : NULL;
    PyObject *ours = theirs ? PyObject_GetAttrString((PyObject *)Py_TYPE(file), "read") : NULL;
    bool is_same = ours && ours == theirs && PyObject_IsInstance(file, mixin) == 1;
    PyErr_Clear();
    Py_XDECREF(ours);
    Py_XDECREF(theirs);
    Py_XDECREF(mixin);
    return is_same;
}

static bool is_raw(PyObject *file)
{
    return is_exactly(file, "io", "FileIO");
}

static bool is_buffered(PyObject *file)
{
    return is_exactly(file, "io", "BufferedReader") || is_exactly(file, "io", "BufferedRandom");
}

/* The file of io.open that reads when read() of `file` is called, new reference; NULL: it is
 * another's. */
static PyObject *find_reader(PyObject *file)
{
    PyObject *inner = Py_NewRef(file);
    for (unsigned i = 0; inner && i < FILE_DEPTH_MAX; i++) {
        if (is_raw(inner) || is_buffered(inner))
            return inner;
        bool is_wrapper = is_named_temporary(inner) || is_django_file(inner);
        Py_SETREF(inner, is_wrapper ? PyObject_GetAttrString(inner, "file") : NULL);
    }
    PyErr_Clear();
    Py_XDECREF(inner);
    return NULL;
}

/* The FileIO below a reader, new reference; NULL: reading may give other bytes than those of its
 * descriptor. */
static PyObject *find_raw(PyObject *reader)
{
    PyObject *raw = is_raw(reader) ? Py_NewRef(reader) : PyObject_GetAttrString(reader, "raw");
    if (raw && (!is_raw(raw) || is_changed(raw) || is_changed(reader)))
        Py_CLEAR(raw);
    PyErr_Clear();
    return raw;
}

/* Flushes what was written to the file and is still in its buffer. */
static bool flush(PyObject *file)
{
    PyObject *done = PyObject_CallMethod(file, "flush", NULL);
    bool flushed = done != NULL;
    Py_XDECREF(done);
    PyErr_Clear();
    return flushed;
}

/* The descriptor of a regular file that may be read; -1: there is none. */
static int readable_descriptor(PyObject *raw, struct stat *st)
{
    int fd = (int)ask_number(raw, "fileno");
    int flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);
    bool is_readable = flags >= 0 && (flags & O_ACCMODE) != O_WRONLY && !(flags & O_PATH);
    return is_readable && fstat(fd, st) == 0 && S_ISREG(st->st_mode) ? fd : -1;
}

bool wsgi_file_take(PyObject *result, int *fd, uint64_t *offset, uint64_t *bytes)
{
    if (!Py_IS_TYPE(result, &wrapper_type))
        return false;
    PyObject *file = ((struct wrapper *)result)->file;
    PyObject *reader = file ? find_reader(file) : NULL;
    PyObject *raw = reader ? find_raw(reader) : NULL;
    struct stat st;
    long long position = -1;
    int theirs = raw && flush(reader) ? readable_descriptor(raw, &st) : -1;
    if (theirs >= 0)
        position = ask_number(reader, "tell");
    Py_XDECREF(raw);
    Py_XDECREF(reader);
    /* Files of /proc have contents, but size 0; those of /sys have size 4096, and less in them.
     * Where no block holds the bytes, the size may be invented. */
    if (position < 0 || position >= st.st_size || st.st_blocks == 0)
        return false;
    *fd = fcntl(theirs, F_DUPFD_CLOEXEC, 3);
    *offset = (uint64_t)position;
    *bytes = (uint64_t)(st.st_size - position);
    return *fd >= 0;
}
