/* wsgi.c: one call of the application (PEP 3333).
 *
 * Owns: the application, the type of start_response and of its write(). A call owns the
 * references of its request and drops them only in wsgi_finish. No exception leaves this file: it
 * is logged here with the request's method and path. Knows no socket: the caller asks for each
 * piece with wsgi_next; only write() sends, through struct wsgi_client. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "base/log.h"
#include "context.h"
#include "file.h"
#include "http/request.h"
#include "http/response.h"
#include "input.h"
#include "python/python.h"
#include "python/wsgi.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MAX_S 86400

static PyObject *application;
static PyObject *empty_input; /* shared by all requests without a body: it has no state to share */
static PyObject *name_close;
static _Thread_local struct wsgi_call *running; /* the call of this thread */

/* start_response and write(): two callables bound to their call. One that the application keeps
 * beyond its request is unbound (unbind), and raises when it is called. */
struct bound {
    PyObject_HEAD vectorcallfunc vectorcall;
    struct wsgi_call *call; /* borrowed; NULL: its request has ended */
};

static PyTypeObject start_response_type, writer_type;

static void log_exception_of(const char *method, size_t method_len, const char *path,
                             size_t path_len, const char *what)
{
    struct buf line = {0};
    log_escape(&line, method, method_len);
    buf_append_str(&line, " ");
    log_escape(&line, path, path_len);
    buf_append(&line, "", 1);
    python_log_exception(LOG_ERROR, "%.400s: %s", line.data, what);
    buf_fini(&line);
}

static void log_exception(const struct wsgi_call *call, const char *what)
{
    const struct request *request = call->facts->request;
    log_exception_of(request_at(request, request->method), request->method.length,
                     request_at(request, request->path), request->path.length, what);
}

static struct wsgi_call *active_call(PyObject *self)
{
    struct wsgi_call *call = ((struct bound *)self)->call;
    if (!call || !call->facts || call->ended) {
        PyErr_SetString(PyExc_RuntimeError,
                        "start_response or write() was called after its request had ended");
        return NULL;
    }
    return call;
}

/* Gives the Latin-1 bytes of a str, without a copy; false with an exception set. */
static bool text_of(PyObject *object, const char *what, const char **text, size_t *len)
{
    if (!PyUnicode_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s is %.80s, not str", what, Py_TYPE(object)->tp_name);
        return false;
    }
    if (PyUnicode_KIND(object) != PyUnicode_1BYTE_KIND) {
        PyErr_Format(PyExc_ValueError, "%s %R has characters beyond Latin-1", what, object);
        return false;
    }
    *text = (const char *)PyUnicode_1BYTE_DATA(object);
    *len = (size_t)PyUnicode_GET_LENGTH(object);
    return true;
}

static int add_header(struct response *response, PyObject *pair)
{
    const char *name, *value;
    size_t name_len, value_len;
    if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2) {
        PyErr_Format(PyExc_TypeError, "header %R is not a (name, value) tuple", pair);
        return -1;
    }
    PyObject *name_object = PyTuple_GET_ITEM(pair, 0);
    if (!text_of(name_object, "header name", &name, &name_len) ||
        !text_of(PyTuple_GET_ITEM(pair, 1), "header value", &value, &value_len))
        return -1;
    enum response_check check = response_header(response, name, name_len, value, value_len);
    if (check == RESPONSE_OK)
        return 0;
    PyErr_Format(PyExc_ValueError, "header %R: %s", name_object, response_check_text(check));
    return -1;
}

static int set_head(struct response *response, PyObject *status, PyObject *headers)
{
    const char *text;
    size_t len;
    if (!text_of(status, "status", &text, &len))
        return -1;
    if (!PyList_Check(headers)) {
        PyErr_Format(PyExc_TypeError, "headers are %.80s, not a list", Py_TYPE(headers)->tp_name);
        return -1;
    }
    enum response_check check = response_status(response, text, len);
    if (check != RESPONSE_OK) {
        PyErr_Format(PyExc_ValueError, "status %R: %s", status, response_check_text(check));
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(headers); i++)
        if (add_header(response, PyList_GET_ITEM(headers, i)) < 0)
            return -1;
    return 0;
}

/* PEP 3333: with exc_info after the headers are sent, start_response must raise it. Sets the
 * exception. */
static void raise_again(PyObject *exc_info)
{
    PyObject *type, *value, *trace;
    if (!PyArg_ParseTuple(exc_info, "OOO", &type, &value, &trace))
        return;
    if (PyExceptionInstance_Check(value))
        PyErr_SetObject((PyObject *)Py_TYPE(value), value);
    else
        PyErr_SetString(PyExc_TypeError, "exc_info has no exception");
}

/* Whether this call of start_response may set the head; false with an exception set. */
static bool may_set_head(struct wsgi_call *call, PyObject *exc_info)
{
    bool was_called = call->was_called; /* also counts calls that raised */
    call->was_called = true;
    if (exc_info == Py_None) {
        if (!was_called)
            return true;
        PyErr_SetString(PyExc_RuntimeError, "start_response was called twice without exc_info");
        return false;
    }
    if (!PyTuple_Check(exc_info)) {
        PyErr_SetString(PyExc_TypeError, "exc_info is not a tuple");
        return false;
    }
    if (!call->head_sent)
        return true;
    raise_again(exc_info);
    return false;
}

static PyObject *start_response_call(PyObject *self, PyObject *const *args, size_t flags,
                                     PyObject *keywords)
{
    Py_ssize_t count = PyVectorcall_NARGS(flags);
    Py_ssize_t named = keywords ? PyTuple_GET_SIZE(keywords) : 0;
    struct wsgi_call *call = active_call(self);
    if (!call)
        return NULL;
    if (call->taken)
        return Py_NewRef(call->writer);
    if (count < 2 || count + named > 3 ||
        (named == 1 &&
         PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(keywords, 0), "exc_info"))) {
        PyErr_SetString(PyExc_TypeError, "start_response(status, headers, exc_info=None)");
        return NULL;
    }
    if (!may_set_head(call, count + named == 3 ? args[2] : Py_None))
        return NULL;
    if (set_head(call->response, args[0], args[1]) < 0) {
        /* repr() for the error text may have let other threads run, and one of them may have sent
         * the head, or the request may have ended: then the response stays as it is. */
        if (((struct bound *)self)->call == call && !call->head_sent)
            response_reset(call->response);
        return NULL;
    }
    return Py_NewRef(call->writer);
}

static PyObject *writer_call(PyObject *self, PyObject *const *args, size_t flags,
                             PyObject *keywords)
{
    struct wsgi_call *call = active_call(self);
    if (!call)
        return NULL;
    /* Sending may release the GIL, and the request's own thread could send at the same time. */
    if (PyThread_get_thread_ident() != call->thread) {
        PyErr_SetString(PyExc_RuntimeError, "write() was called on another thread");
        return NULL;
    }
    if (PyVectorcall_NARGS(flags) != 1 || keywords || !PyBytes_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "write(data) takes bytes");
        return NULL;
    }
    size_t len = (size_t)PyBytes_GET_SIZE(args[0]);
    struct response *response = call->response;
    if (len == 0 || call->taken)
        Py_RETURN_NONE;
    if (response->status == 0) {
        PyErr_SetString(PyExc_RuntimeError, "write() was called after start_response had failed");
        return NULL;
    }
    if (response->content_length >= 0 &&
        response->body_bytes + len > (uint64_t)response->content_length &&
        !(response->head_finished && response->framing == RESPONSE_NO_BODY)) {
        PyErr_SetString(PyExc_ValueError, "write() goes beyond the Content-Length");
        return NULL;
    }
    call->known_bytes = -1;
    (void)call->client.send(call->client.context, PyBytes_AS_STRING(args[0]), len);
    Py_RETURN_NONE;
}

static PyTypeObject start_response_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "myserver.start_response",
    .tp_doc = "start_response(status, headers, exc_info=None) -> write (PEP 3333)",
    .tp_basicsize = sizeof(struct bound),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_vectorcall_offset = offsetof(struct bound, vectorcall),
    .tp_call = PyVectorcall_Call,
};

static PyTypeObject writer_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "myserver.write",
    .tp_doc = "write(data): sends bytes at once (PEP 3333)",
    .tp_basicsize = sizeof(struct bound),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_vectorcall_offset = offsetof(struct bound, vectorcall),
    .tp_call = PyVectorcall_Call,
};

static PyObject *bind(PyTypeObject *type, vectorcallfunc function, struct wsgi_call *call)
{
    struct bound *bound = PyObject_New(struct bound, type);
    if (!bound)
        return NULL;
    bound->vectorcall = function;
    bound->call = call;
    return (PyObject *)bound;
}

/* After a request: keeps the callable for the next one unless the application kept it too. */
static void unbind(PyObject **bound)
{
    if (*bound && Py_REFCNT(*bound) > 1) {
        ((struct bound *)*bound)->call = NULL;
        Py_CLEAR(*bound);
    }
}

/* ---- what the environ offers ---- */

static PyObject *set_timeout(PyObject *Py_UNUSED(self), PyObject *seconds)
{
    double value = PyFloat_AsDouble(seconds);
    if (value == -1. && PyErr_Occurred())
        return NULL;
    if (!(value >= 0 && value <= TIMEOUT_MAX_S))
        return PyErr_Format(PyExc_ValueError, "the timeout %R is not between 0 and %d seconds",
                            seconds, TIMEOUT_MAX_S);
    if (!running) {
        PyErr_SetString(PyExc_RuntimeError, "this thread runs no request");
        return NULL;
    }
    if (running->client.set_limit)
        running->client.set_limit(running->client.context, (uint64_t)(value * (double)NS_PER_S));
    Py_RETURN_NONE;
}

static PyObject *client_disconnected(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(none))
{
    if (!running) {
        PyErr_SetString(PyExc_RuntimeError, "this thread runs no request");
        return NULL;
    }
    return PyBool_FromLong(running->client.has_ended &&
                           running->client.has_ended(running->client.context));
}

/* For myserver.sockets: (descriptor, bytes that came ahead). */
static PyObject *take_socket(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(none))
{
    const char *why = "this thread runs no request";
    struct text ahead = {0};
    int fd = -1;
    if (running && running->taken)
        why = "it is taken already";
    else if (running && running->client.take)
        fd = running->client.take(running->client.context, &ahead, &why);
    if (fd < 0)
        return PyErr_Format(PyExc_RuntimeError, "the client's socket cannot be had: %s", why);
    running->taken = true;
    return Py_BuildValue("(iy#)", fd, ahead.data, (Py_ssize_t)ahead.len);
}

static PyMethodDef take_method = {"take_socket", take_socket, METH_NOARGS, NULL};

/* Lets myserver.sockets put the socket into the environ of requests that may have it. */
static int offer_socket(void)
{
    PyObject *take = PyCFunction_New(&take_method, NULL);
    PyObject *offer = take ? python_begin_sockets(take) : NULL;
    Py_XDECREF(take);
    if (offer)
        environ_offer_upgrade(offer);
    return offer ? 0 : -1;
}

static PyMethodDef offers[] = {
    {"set_timeout", set_timeout, METH_O,
     "set_timeout(seconds): lets this request run for so long from now on; 0: for ever."},
    {"client_disconnected", client_disconnected, METH_NOARGS,
     "client_disconnected() -> bool: the client has closed, or sends no more."},
};

static int offer_all(void)
{
    for (size_t i = 0; i < ARRAY_LEN(offers); i++) {
        char name[64];
        PyObject *function = PyCFunction_New(&offers[i], NULL);
        snprintf(name, sizeof(name), "myserver.%s", offers[i].ml_name);
        int failed = function ? environ_offer(name, function) : -1;
        Py_XDECREF(function);
        if (failed)
            return -1;
    }
    return 0;
}

int wsgi_init(const struct config *config, const struct listeners *listeners, PyObject *callable)
{
    static struct body no_body = {.fd = -1};
    application = callable;
    name_close = PyUnicode_InternFromString("close");
    if (name_close && PyType_Ready(&start_response_type) == 0 && PyType_Ready(&writer_type) == 0 &&
        wsgi_input_init() == 0 && wsgi_file_init() == 0 && environ_init(config, listeners) == 0 &&
        offer_all() == 0 && offer_socket() == 0)
        empty_input = wsgi_input_new(&no_body);
    if (empty_input)
        return 0;
    python_log_exception(LOG_ERROR, "the WSGI side cannot be set up");
    return -1;
}

static int prepare(struct wsgi_call *call)
{
    struct request *request = call->facts->request;
    if (context_begin() < 0)
        return -1;
    if (!call->start_response)
        call->start_response = bind(&start_response_type, start_response_call, call);
    if (!call->writer)
        call->writer = bind(&writer_type, writer_call, call);
    call->input = request->body.length ? wsgi_input_new(&request->body) : Py_NewRef(empty_input);
    if (!call->start_response || !call->writer || !call->input)
        return -1;
    call->environ = environ_build(call->facts, call->input);
    return call->environ ? 0 : -1;
}

/* With the socket taken, StopIteration means that there is no response: the way in which libraries
 * that know gunicorn leave their request. */
static enum wsgi_result failed(struct wsgi_call *call, const char *what)
{
    if (call->taken && PyErr_ExceptionMatches(PyExc_StopIteration)) {
        PyErr_Clear();
        return WSGI_END;
    }
    call->exceptions++;
    log_exception(call, what);
    return WSGI_FAILED;
}

/* Checks the application's return value: a file, a known length, or an iterable; then asks for the
 * first piece. */
static enum wsgi_result look_at_result(struct wsgi_call *call)
{
    PyObject *result = call->result;
    if (PyBytes_Check(result) || PyUnicode_Check(result)) {
        PyErr_Format(PyExc_TypeError,
                     "the application returned %.80s: return an iterable of bytes, "
                     "such as a list with one bytes object",
                     Py_TYPE(result)->tp_name);
        return failed(call, "bad return value");
    }
    if (call->response->status != 0 && !call->head_sent && !call->taken &&
        wsgi_file_take(result, &call->file.fd, &call->file.offset, &call->file.bytes)) {
        call->known_bytes = (int64_t)call->file.bytes;
        return WSGI_FILE;
    }
    if (PyList_CheckExact(result) || PyTuple_CheckExact(result)) {
        Py_ssize_t size = PySequence_Fast_GET_SIZE(result);
        if (size == 0)
            call->known_bytes = 0;
        else if (size == 1 && PyBytes_Check(PySequence_Fast_GET_ITEM(result, 0)))
            call->known_bytes = PyBytes_GET_SIZE(PySequence_Fast_GET_ITEM(result, 0));
        return wsgi_next(call);
    }
    call->iterator = PyObject_GetIter(result);
    return call->iterator ? wsgi_next(call) : failed(call, "bad return value");
}

enum wsgi_result wsgi_start(struct wsgi_call *call, const struct environ_facts *facts,
                            struct response *response, const struct wsgi_client *client)
{
    call->facts = facts;
    call->response = response;
    call->client = *client;
    running = call;
    call->thread = PyThread_get_thread_ident();
    call->known_bytes = -1;
    call->head_sent = call->ended = call->was_called = call->taken = false;
    call->exceptions = 0;
    call->index = 0;
    call->data = NULL;
    call->len = 0;
    if (prepare(call) < 0)
        return failed(call, "the environ cannot be built");
    PyObject *args[] = {call->environ, call->start_response};
    call->result = PyObject_Vectorcall(application, args, 2, NULL);
    if (call->taken && call->result == Py_None)
        return WSGI_END;
    return call->result ? look_at_result(call) : failed(call, "uncaught exception");
}

/* The next item of the result: new reference in call->chunk, or NULL (with an exception set, or
 * at the end). */
static void pull(struct wsgi_call *call)
{
    Py_CLEAR(call->chunk);
    if (call->iterator)
        call->chunk = PyIter_Next(call->iterator);
    else if (call->index < PySequence_Fast_GET_SIZE(call->result))
        call->chunk = Py_NewRef(PySequence_Fast_GET_ITEM(call->result, call->index++));
}

enum wsgi_result wsgi_next(struct wsgi_call *call)
{
    pull(call);
    if (!call->chunk && PyErr_Occurred())
        return failed(call, "uncaught exception in the response's iterable");
    if (call->chunk && !PyBytes_Check(call->chunk)) {
        PyErr_Format(PyExc_TypeError, "the response's iterable gave %.80s, not bytes",
                     Py_TYPE(call->chunk)->tp_name);
        return failed(call, "bad response body");
    }
    if (call->chunk && PyBytes_GET_SIZE(call->chunk) == 0)
        return WSGI_EMPTY;
    if (call->response->status == 0) { /* the socket was not taken either */
        PyErr_SetString(PyExc_RuntimeError, "start_response was not called before the body");
        return failed(call, "bad response");
    }
    if (!call->chunk)
        return WSGI_END;
    call->data = PyBytes_AS_STRING(call->chunk);
    call->len = (size_t)PyBytes_GET_SIZE(call->chunk);
    return WSGI_CHUNK;
}

/* Calls close() of a response, if it has one. NULL, or with an exception set what went wrong. */
static const char *call_close(PyObject *result)
{
    PyObject *method = PyObject_GetAttr(result, name_close);
    if (!method) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError))
            return "close() of the response cannot be had";
        PyErr_Clear();
        return NULL;
    }
    PyObject *done = PyObject_CallNoArgs(method);
    Py_DECREF(method);
    Py_XDECREF(done);
    return done ? NULL : "exception in close() of the response";
}

static void close_result(struct wsgi_call *call)
{
    if (!call->result || PyList_CheckExact(call->result) || PyTuple_CheckExact(call->result))
        return;
    const char *wrong = call_close(call->result);
    if (wrong)
        (void)failed(call, wrong);
}

struct wsgi_unclosed *wsgi_keep_open(struct wsgi_call *call)
{
    struct wsgi_unclosed *unclosed = xcalloc(1, sizeof(*unclosed));
    unclosed->result = call->result;
    call->result = NULL;
    return unclosed;
}

unsigned wsgi_close(struct wsgi_unclosed *unclosed)
{
    bool has_context = context_begin() == 0;
    if (!has_context)
        PyErr_Clear(); /* no memory for it: closed all the same */
    const char *wrong = call_close(unclosed->result);
    if (wrong)
        log_exception_of(unclosed->method, strlen(unclosed->method), unclosed->path,
                         strlen(unclosed->path), wrong);
    Py_DECREF(unclosed->result);
    if (has_context)
        context_end();
    free(unclosed);
    return wrong != NULL;
}

void wsgi_finish(struct wsgi_call *call, PyObject **keep)
{
    call->ended = true; /* before close(), in which write() would come after the end of the body */
    close_result(call);
    if (keep) {
        *keep = call->chunk;
        call->chunk = NULL;
    }
    Py_CLEAR(call->chunk);
    Py_CLEAR(call->iterator);
    Py_CLEAR(call->result);
    if (call->input && call->input != empty_input)
        wsgi_input_detach(call->input);
    Py_CLEAR(call->input);
    Py_CLEAR(call->environ);
    unbind(&call->start_response);
    unbind(&call->writer);
    context_end(); /* after all that may still run the application's code */
    call->facts = NULL;
    call->response = NULL;
    running = NULL;
}

void wsgi_drop(PyObject **kept)
{
    Py_CLEAR(*kept);
}

void wsgi_fini(struct wsgi_call *call)
{
    Py_CLEAR(call->start_response);
    Py_CLEAR(call->writer);
}
