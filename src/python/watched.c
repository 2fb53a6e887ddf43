/* watched.c: functions of libraries that the server puts itself around, so that it knows what a
 * request does.
 *
 * Owns the type of such a function: it behaves as the function itself, also as a method of a class,
 * and while it runs the request is in the database. A thread that runs no request just calls the
 * function. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include "python/costs.h"
#include "python/hints.h"
#include "queries.h"
#include "watched.h"

/* What its arguments are. */
enum watched_kind {
    WATCHED_OTHER,      /* nothing that matters */
    WATCHED_FETCH,      /* (cursor, ...) */
    WATCHED_STATEMENT,  /* (cursor, sql, parameters), of Django's cursors */
    WATCHED_DIALECT,    /* (dialect, cursor, sql, parameters), of SQLAlchemy's dialects */
    WATCHED_RESULT,     /* (strategy, result, cursor, ...), of SQLAlchemy's fetching */
    WATCHED_CONNECT,    /* (wrapper), of Django's connections */
    WATCHED_POSTGRESQL, /* (cursor, sql, parameters), of a driver for it, as the next */
    WATCHED_MYSQL,
    WATCHED_KINDS
};

struct watched {
    PyObject_HEAD vectorcallfunc vectorcall;
    PyObject *function; /* owned; what it takes the place of */
    enum watched_kind kind;
    PyObject *attributes;
};

static struct query_call call_of(enum watched_kind kind, PyObject *const *args, Py_ssize_t count)
{
    static const unsigned places[WATCHED_KINDS] = {[WATCHED_DIALECT] = 1, [WATCHED_RESULT] = 2};
    static const enum sql_dialect drivers[WATCHED_KINDS] = {
        [WATCHED_POSTGRESQL] = SQL_POSTGRESQL, [WATCHED_MYSQL] = SQL_MYSQL};
    unsigned cursor = places[kind];
    struct query_call call = {0};
    if (kind == WATCHED_OTHER || kind == WATCHED_CONNECT || count <= cursor)
        return call;
    call.cursor = args[cursor];
    if (kind == WATCHED_FETCH || kind == WATCHED_RESULT || count <= cursor + 1)
        return call;
    call.owner = args[0];
    call.is_django = kind == WATCHED_STATEMENT;
    call.driver = drivers[kind];
    call.sql = args[cursor + 1];
    call.parameters = count > cursor + 2 ? args[cursor + 2] : NULL;
    return call;
}

static PyObject *watched_call(PyObject *self, PyObject *const *args, size_t flags,
                              PyObject *keywords)
{
    const struct watched *watched = (struct watched *)self;
    struct costs_clock *clock = costs_running();
    if (!clock || clock->doing == LEDGER_QUERIES || /* one within the other is one */
        UNLIKELY(!costs_observe(OBSERVED_QUERIES, clock->costs->view)))
        return PyObject_Vectorcall(watched->function, args, flags, keywords);
    struct query_call call = call_of(watched->kind, args, PyVectorcall_NARGS(flags));
    enum ledger_doing before = costs_switch(clock, LEDGER_QUERIES);
    uint64_t began_ns = clock->wall_ns;
    if (call.sql)
        queries_show(clock, &call);
    PyObject *result = PyObject_Vectorcall(watched->function, args, flags, keywords);
    if (costs_running() != clock) /* a process that the driver has forked */
        return result;
    if (watched->kind == WATCHED_CONNECT)
        hints_note_connection(args[0], now_ns() - began_ns, !result);
    (void)costs_switch(clock, before);
    if (call.sql)
        queries_note(clock, &call, clock->wall_ns - began_ns, !result);
    else if (call.cursor)
        queries_note_fetch(clock, call.cursor, clock->wall_ns - began_ns);
    return result;
}

static PyObject *watched_get(PyObject *self, PyObject *object, PyObject *Py_UNUSED(type))
{
    return object && object != Py_None ? PyMethod_New(self, object) : Py_NewRef(self);
}

static int watched_traverse(PyObject *self, visitproc visit, void *arg)
{
    const struct watched *watched = (struct watched *)self;
    Py_VISIT(watched->function);
    Py_VISIT(watched->attributes);
    return 0;
}

static int watched_clear(PyObject *self)
{
    struct watched *watched = (struct watched *)self;
    Py_CLEAR(watched->function);
    Py_CLEAR(watched->attributes);
    return 0;
}

static void watched_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    (void)watched_clear(self);
    PyObject_GC_Del(self);
}

static PyMemberDef watched_members[] = {
    {"__wrapped__", T_OBJECT, offsetof(struct watched, function), READONLY,
     "the function that it takes the place of"},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef watched_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyTypeObject watched_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "myserver.watched",
    .tp_doc = "a function that is accounted for as time in the database",
    .tp_basicsize = sizeof(struct watched),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL |
                Py_TPFLAGS_METHOD_DESCRIPTOR | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_vectorcall_offset = offsetof(struct watched, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_descr_get = watched_get,
    .tp_traverse = watched_traverse,
    .tp_clear = watched_clear,
    .tp_dealloc = watched_dealloc,
    .tp_members = watched_members,
    .tp_getset = watched_getset,
    .tp_dictoffset = offsetof(struct watched, attributes),
};

static PyObject *watch_database(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *function;
    unsigned kind;
    if (!PyArg_ParseTuple(args, "OI", &function, &kind))
        return NULL;
    if (kind >= WATCHED_KINDS)
        return PyErr_Format(PyExc_ValueError, "there is no kind %u", kind);
    struct watched *watched = PyObject_GC_New(struct watched, &watched_type);
    if (!watched)
        return NULL;
    watched->vectorcall = watched_call;
    watched->function = Py_NewRef(function);
    watched->kind = (enum watched_kind)kind;
    watched->attributes = NULL;
    PyObject_GC_Track((PyObject *)watched);
    return (PyObject *)watched;
}

static PyObject *set_view(PyObject *Py_UNUSED(module), PyObject *name)
{
    Py_ssize_t len;
    const char *text = PyUnicode_AsUTF8AndSize(name, &len);
    if (!text)
        return NULL;
    costs_set_view((struct text){text, (size_t)len});
    Py_RETURN_NONE;
}

static PyObject *expect_views(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    costs_expect_views();
    Py_RETURN_NONE;
}

static PyObject *set_line_finder(PyObject *Py_UNUSED(module), PyObject *function)
{
    queries_set_finder(Py_NewRef(function));
    Py_RETURN_NONE;
}

static PyObject *thread_costs(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    struct costs_spent spent = costs_of_thread();
    return Py_BuildValue("(KKK)", (unsigned long long)spent.cpu_ns,
                         (unsigned long long)spent.gil_ns, (unsigned long long)spent.delay_ns);
}

static PyObject *request_costs(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(none))
{
    struct costs costs;
    uint64_t waited_ns;
    if (!costs_now(&costs, &waited_ns))
        Py_RETURN_NONE;
    const uint64_t *parts = costs.parts_ns;
    return Py_BuildValue(
        "(KKKKKKKI)", (unsigned long long)waited_ns, (unsigned long long)parts[LEDGER_GIL],
        (unsigned long long)parts[LEDGER_CPU], (unsigned long long)parts[LEDGER_DATABASE],
        (unsigned long long)parts[LEDGER_RUNQUEUE], (unsigned long long)parts[LEDGER_OTHER],
        (unsigned long long)parts[LEDGER_SEND], costs.queries);
}

static PyObject *add_costs(PyObject *Py_UNUSED(module), PyObject *args)
{
    unsigned long long cpu_ns, gil_ns, delay_ns;
    if (!PyArg_ParseTuple(args, "KKK", &cpu_ns, &gil_ns, &delay_ns))
        return NULL;
    costs_elsewhere(&(struct costs_spent){cpu_ns, gil_ns, delay_ns});
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"watch_database", watch_database, METH_VARARGS,
     "watch_database(function, kind): the same function, whose time counts as time in the "
     "database; "
     "kind: 0, or 1 to 5 if its arguments are (cursor, ...), (cursor, sql, parameters), "
     "(dialect, cursor, sql, parameters), (strategy, result, cursor, ...), (wrapper), which "
     "connects; 6 and 7: those of 2, of a driver for PostgreSQL or MySQL."},
    {"set_line_finder", set_line_finder, METH_O,
     "set_line_finder(function): function() -> str says which line of the application runs."},
    {"set_view", set_view, METH_O, "set_view(name): the view of the request of this thread."},
    {"expect_views", expect_views, METH_NOARGS,
     "expect_views(): each request that has a view will name it."},
    {"thread_costs", thread_costs, METH_NOARGS,
     "thread_costs() -> (cpu_ns, gil_ns, delay_ns): what this thread has used in its life."},
    {"request_costs", request_costs, METH_NOARGS,
     "request_costs() -> (waited, gil, cpu, database, runqueue, other, send, queries): what the "
     "request of this thread has cost so far, times in nanoseconds; None: it runs none."},
    {"add_costs", add_costs, METH_VARARGS,
     "add_costs(cpu_ns, gil_ns, delay_ns): another thread has used so much for the request of this "
     "one."},
    {NULL, NULL, 0, NULL},
};

int watched_add(PyObject *module)
{
    return PyType_Ready(&watched_type) < 0 ? -1 : PyModule_AddFunctions(module, functions);
}
