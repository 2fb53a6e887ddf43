/* hints.c: what Python says of the application, for advice.
 *
 * Owns: where it goes, and who finds out what a database allows. Several workers may say the same
 * at once, and then write the same bytes. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "python/hints.h"

#include "base/text.h"
#include "shared/hints.h"

#include <string.h>

static struct hints *hints;
static PyObject *limit_finder; /* owned; NULL: none */

void hints_begin(struct hints *where)
{
    hints = where;
}

static void copy_text(char *out, size_t room, const char *text)
{
    snprintf(out, room, "%s", text);
}

/* ---- connections ---- */

/* NULL: the wrapper is of none that is noted. */
static struct hints_database *database_of(PyObject *wrapper)
{
    PyObject *alias = PyObject_GetAttrString(wrapper, "alias");
    const char *text = alias && PyUnicode_Check(alias) ? PyUnicode_AsUTF8(alias) : NULL;
    struct hints_database *found = NULL;
    for (uint32_t i = 0; text && i < atomic_load(&hints->database_count); i++)
        if (strncmp(hints->databases[i].alias, text, HINTS_ALIAS_MAX - 1) == 0)
            found = &hints->databases[i];
    PyErr_Clear();
    Py_XDECREF(alias);
    return found;
}

/* In the words of PostgreSQL and MySQL. */
static bool says_too_many(PyObject *exception)
{
    PyObject *said = exception ? PyObject_Str(exception) : NULL;
    const char *text = said ? PyUnicode_AsUTF8(said) : NULL;
    bool is =
        text && (strcasestr(text, "too many") || strstr(text, "connection slots are reserved"));
    PyErr_Clear();
    Py_XDECREF(said);
    return is;
}

/* Asked once for all workers: whoever connects first asks. */
static void find_limit(struct hints_database *database, PyObject *wrapper)
{
    if (!limit_finder || atomic_exchange(&database->is_asked, true))
        return;
    PyObject *allowed = PyObject_CallOneArg(limit_finder, wrapper);
    long number = allowed && PyLong_Check(allowed) ? PyLong_AsLong(allowed) : 0;
    if (number > 0 && number < UINT32_MAX)
        atomic_store(&database->allowed, (uint32_t)number);
    PyErr_Clear();
    Py_XDECREF(allowed);
}

void hints_note_connection(PyObject *wrapper, uint64_t time_ns, bool failed)
{
    PyObject *type = NULL, *value = NULL, *trace = NULL;
    if (!hints || atomic_load(&hints->database_count) == 0)
        return;
    if (failed)
        PyErr_Fetch(&type, &value, &trace);
    struct hints_database *database = database_of(wrapper);
    if (database && failed) {
        atomic_fetch_add(&database->failed, 1);
        atomic_fetch_add(&database->refused, says_too_many(value));
    } else if (database) {
        atomic_fetch_add(&database->opened, 1);
        atomic_fetch_add(&database->opening_ns, time_ns);
        find_limit(database, wrapper);
    }
    if (failed)
        PyErr_Restore(type, value, trace);
}

/* ---- what Python calls ---- */

static PyObject *hint_debug(PyObject *Py_UNUSED(module), PyObject *is_on)
{
    atomic_store(&hints->debugs, PyObject_IsTrue(is_on) == 1);
    Py_RETURN_NONE;
}

static PyObject *hint_database(PyObject *Py_UNUSED(module), PyObject *args)
{
    const char *alias, *server;
    int is_network, keeps;
    unsigned pool_max;
    if (!PyArg_ParseTuple(args, "ssppI", &alias, &server, &is_network, &keeps, &pool_max))
        return NULL;
    uint32_t count = atomic_load(&hints->database_count);
    for (uint32_t i = 0; i < count; i++)
        if (strncmp(hints->databases[i].alias, alias, HINTS_ALIAS_MAX - 1) == 0)
            Py_RETURN_NONE; /* without preload each worker says it */
    if (count == HINTS_DATABASES)
        Py_RETURN_NONE;
    struct hints_database *database = &hints->databases[count];
    copy_text(database->alias, sizeof database->alias, alias);
    database->server = text_hash(TEXT_HASH, server, strlen(server));
    database->is_network = is_network;
    database->keeps = keeps;
    database->pool_max = pool_max;
    atomic_store(&hints->database_count, count + 1);
    Py_RETURN_NONE;
}

static PyObject *hint_lost_thread(PyObject *Py_UNUSED(module), PyObject *args)
{
    const char *text;
    unsigned count;
    if (!PyArg_ParseTuple(args, "sI", &text, &count))
        return NULL;
    copy_text(hints->lost_thread, sizeof hints->lost_thread, text);
    atomic_store(&hints->lost_threads, count);
    Py_RETURN_NONE;
}

static PyObject *set_limit_finder(PyObject *Py_UNUSED(module), PyObject *function)
{
    Py_XSETREF(limit_finder, Py_NewRef(function));
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"hint_debug", hint_debug, METH_O, "hint_debug(on): whether the framework's debug mode is on."},
    {"hint_database", hint_database, METH_VARARGS,
     "hint_database(alias, server, is_network, keeps, pool_max): a database of the settings; "
     "pool_max "
     "0: each thread has a connection."},
    {"hint_lost_thread", hint_lost_thread, METH_VARARGS,
     "hint_lost_thread(text, count): of so many threads of the import that this worker does not "
     "have, this is one."},
    {"set_limit_finder", set_limit_finder, METH_O,
     "set_limit_finder(function): function(wrapper) -> int says how many connections the server of "
     "a "
     "database that was just connected to allows; 0: not known."},
    {NULL, NULL, 0, NULL},
};

int hints_add(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
