/* wsgi_file.c: the wsgi.file_wrapper type.
 *
 * Owns: a reference to the file-like object. For the application the wrapper is an iterable of
 * blocks with a close(); if the file has a descriptor, the server sends that with sendfile(2)
 * instead. Closes the file only by calling its close(), which Django replaces by the response's. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "python/file.h"

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

/* How many objects to look through: Django's File, tempfile's wrapper, BufferedReader, FileIO. */
#define FILE_DEPTH_MAX 5

/* Whether read() is the C method of a file (tempfile wraps that once), and not a Python method,
 * which may change what was read, such as one that decrypts. */
static bool reads_plainly(PyObject *file)
{
    PyObject *read = PyObject_GetAttrString(file, "read");
    PyObject *wrapped = read ? PyObject_GetAttrString(read, "__wrapped__") : NULL;
    bool is_plain = read && PyCFunction_Check(wrapped ? wrapped : read);
    Py_XDECREF(wrapped);
    Py_XDECREF(read);
    PyErr_Clear();
    return is_plain;
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

/* Whether reading `file` gives the bytes of its descriptor: a binary file of io.open. Others may
 * have a descriptor too, and give something else (gzip.open). */
static bool is_plain_file(PyObject *file)
{
    PyObject *io = PyImport_ImportModule("io");
    PyObject *types = io ? PyObject_GetAttrString(io, "FileIO") : NULL;
    PyObject *inner = Py_NewRef(file);
    bool is_plain = false;
    for (unsigned i = 0; types && inner && i < FILE_DEPTH_MAX && !is_plain; i++) {
        is_plain = PyObject_IsInstance(inner, types) == 1;
        bool is_buffered = PyObject_HasAttrString(inner, "raw");
        Py_SETREF(inner, PyObject_GetAttrString(inner, is_buffered ? "raw" : "file"));
    }
    Py_XDECREF(inner);
    Py_XDECREF(types);
    Py_XDECREF(io);
    PyErr_Clear();
    return is_plain && reads_plainly(file);
}

bool wsgi_file_take(PyObject *result, int *fd, uint64_t *offset, uint64_t *bytes)
{
    if (!Py_IS_TYPE(result, &wrapper_type))
        return false;
    PyObject *file = ((struct wrapper *)result)->file;
    struct stat st;
    long long theirs = file ? ask_number(file, "fileno") : -1;
    if (theirs < 0 || !is_plain_file(file) || !flush(file) || fstat((int)theirs, &st) < 0 ||
        !S_ISREG(st.st_mode))
        return false;
    long long position = ask_number(file, "tell");
    /* Files of /proc have contents, but size 0; those of /sys have size 4096, and less in them.
     * Where no block holds the bytes, the size may be invented. */
    if (position < 0 || position >= st.st_size || st.st_blocks == 0)
        return false;
    *fd = fcntl((int)theirs, F_DUPFD_CLOEXEC, 3);
    *offset = (uint64_t)position;
    *bytes = (uint64_t)(st.st_size - position);
    return *fd >= 0;
}
