/* input.c: the wsgi.input object.
 *
 * Owns: the read position. Borrows the body, which is whole before the application is called,
 * so no read ever waits for a client. At the end, every read returns b''; after the request has
 * ended, reads raise ValueError instead of touching freed memory. Never seeks, so the memory of
 * what was read goes to the next body at once; never copies more than what is asked for. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "http/body.h"
#include "input.h"

#include <errno.h>
#include <stdbool.h>

#define LINE_STEP_BYTES 4096

struct input {
    PyObject_HEAD struct body *body; /* borrowed; NULL when detached */
    uint64_t position;
};

static PyTypeObject input_type;

static bool is_attached(struct input *self)
{
    if (self->body)
        return true;
    PyErr_SetString(PyExc_ValueError, "wsgi.input was read after its request had ended");
    return false;
}

/* Bytes that are not read yet. 0 when detached: between is_attached and here Python code may run,
 * and the request end on another thread. */
static size_t left(const struct input *self)
{
    return self->body ? (size_t)(self->body->length - self->position) : 0;
}

/* As in the io module: None and negative numbers mean everything. */
static bool parse_size(PyObject *const *args, Py_ssize_t count, Py_ssize_t *size)
{
    *size = -1;
    if (count > 1) {
        PyErr_SetString(PyExc_TypeError, "expected at most one argument");
        return false;
    }
    if (count == 0 || args[0] == Py_None)
        return true;
    *size = PyNumber_AsSsize_t(args[0], PyExc_OverflowError);
    return *size != -1 || !PyErr_Occurred();
}

/* The socket of a request is none in a process that the application has forked (forks.h). */
static void set_error(void)
{
    if (errno != ENOTSOCK) {
        PyErr_SetFromErrno(PyExc_OSError);
        return;
    }
    PyObject *arguments = Py_BuildValue(
        "is", ENOTSOCK,
        "the rest of the request's body is with the process that got the request: read it before "
        "the fork");
    if (arguments)
        PyErr_SetObject(PyExc_OSError, arguments);
    Py_XDECREF(arguments);
}

/* Copies the next `len` bytes, which are there. False: an exception is set. */
static bool copy(struct input *self, char *out, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t got = body_read(self->body, self->position, out + done, len - done);
        if (got <= 0) {
            if (got < 0)
                set_error();
            else
                PyErr_SetString(PyExc_OSError, "request body is shorter than stored");
            return false;
        }
        done += (size_t)got;
        self->position += (uint64_t)got;
        body_drop(self->body, self->position);
    }
    return true;
}

static PyObject *take(struct input *self, size_t len)
{
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)len);
    if (bytes && !copy(self, PyBytes_AS_STRING(bytes), len))
        Py_CLEAR(bytes);
    return bytes;
}

static PyObject *input_read(struct input *self, PyObject *const *args, Py_ssize_t count)
{
    Py_ssize_t size;
    if (!parse_size(args, count, &size) || !is_attached(self))
        return NULL;
    size_t len = left(self);
    if (size >= 0 && (size_t)size < len)
        len = (size_t)size;
    return take(self, len);
}

static PyObject *input_readinto(PyObject *object, PyObject *target)
{
    struct input *self = (struct input *)object;
    Py_buffer into;
    if (PyObject_GetBuffer(target, &into, PyBUF_WRITABLE) < 0)
        return NULL;
    size_t len = is_attached(self) ? left(self) : 0;
    if ((size_t)into.len < len)
        len = (size_t)into.len;
    bool is_read = self->body && copy(self, into.buf, len);
    PyBuffer_Release(&into);
    return is_read ? PyLong_FromSize_t(len) : NULL;
}

/* Some bytes from `offset` on, at most *len, in memory or in `room`. NULL: they cannot be read. */
static const char *look(struct input *self, uint64_t offset, char room[LINE_STEP_BYTES],
                        size_t *len)
{
    size_t there, want = *len;
    const char *piece = body_piece(self->body, offset, &there);
    if (piece) {
        *len = want < there ? want : there;
        return piece;
    }
    ssize_t got =
        body_read(self->body, offset, room, want < LINE_STEP_BYTES ? want : LINE_STEP_BYTES);
    *len = got > 0 ? (size_t)got : 0;
    return got > 0 ? room : NULL;
}

/* Bytes up to and with the next newline, at most `limit`. -1: the body cannot be read. */
static ssize_t line_length(struct input *self, size_t limit)
{
    char room[LINE_STEP_BYTES];
    for (size_t seen = 0; seen < limit;) {
        size_t len = limit - seen;
        const char *bytes = look(self, self->position + seen, room, &len);
        if (!bytes)
            return -1;
        const char *end = memchr(bytes, '\n', len);
        if (end)
            return (ssize_t)(seen + (size_t)(end - bytes) + 1);
        seen += len;
    }
    return (ssize_t)limit;
}

static PyObject *next_line(struct input *self, Py_ssize_t size)
{
    size_t limit = left(self);
    if (size >= 0 && (size_t)size < limit)
        limit = (size_t)size;
    ssize_t len = line_length(self, limit);
    if (len < 0)
        set_error();
    return len < 0 ? NULL : take(self, (size_t)len);
}

static PyObject *input_readline(struct input *self, PyObject *const *args, Py_ssize_t count)
{
    Py_ssize_t size;
    if (!parse_size(args, count, &size) || !is_attached(self))
        return NULL;
    return next_line(self, size);
}

static PyObject *input_readlines(struct input *self, PyObject *const *args, Py_ssize_t count)
{
    Py_ssize_t hint;
    if (!parse_size(args, count, &hint) || !is_attached(self))
        return NULL;
    PyObject *lines = PyList_New(0);
    Py_ssize_t total = 0;
    while (lines && left(self) > 0 && (hint <= 0 || total < hint)) {
        PyObject *line = next_line(self, -1);
        if (!line || PyList_Append(lines, line) < 0)
            Py_CLEAR(lines);
        else
            total += PyBytes_GET_SIZE(line);
        Py_XDECREF(line);
    }
    return lines;
}

static PyObject *input_next(PyObject *object)
{
    struct input *self = (struct input *)object;
    if (!is_attached(self) || left(self) == 0)
        return NULL; /* without an exception: StopIteration */
    return next_line(self, -1);
}

static PyMethodDef input_methods[] = {
    {"read", (PyCFunction)(void (*)(void))input_read, METH_FASTCALL,
     "read([size]) -> bytes: at most size bytes (all when omitted, None or negative); b'' at "
     "the end."},
    {"readinto", input_readinto, METH_O,
     "readinto(buffer) -> int: fills a writable buffer as far as there are bytes; 0 at the end."},
    {"readline", (PyCFunction)(void (*)(void))input_readline, METH_FASTCALL,
     "readline([size]) -> bytes: the next line with its newline, at most size bytes."},
    {"readlines", (PyCFunction)(void (*)(void))input_readlines, METH_FASTCALL,
     "readlines([hint]) -> list of bytes: the lines left, stopping after hint bytes."},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject input_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "myserver.Input",
    .tp_doc = "The request body (wsgi.input), whole before the application is called.",
    .tp_basicsize = sizeof(struct input),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = input_next,
    .tp_methods = input_methods,
};

int wsgi_input_init(void)
{
    return PyType_Ready(&input_type);
}

PyObject *wsgi_input_new(struct body *body)
{
    struct input *self = PyObject_New(struct input, &input_type);
    if (!self)
        return NULL;
    self->body = body;
    self->position = 0;
    return (PyObject *)self;
}

void wsgi_input_detach(PyObject *input)
{
    ((struct input *)input)->body = NULL;
}
