/* queries.c: the statements that one request makes.
 *
 * Owns: which texts were seen before, so that a statement is read once and then known by a hash of
 * its bytes; and who finds lines of the application. What a request has made stands in its clock
 * until it ends, and is then added to the board: one addition for each statement, not for each
 * query. Values are never kept: of the parameters only the hash, for the time of the request. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "base/buf.h"
#include "queries.h"
#include "shared/board.h"
#include "shared/statements.h"

#define SEEN_MAX 2048 /* a power of two */

/* A text that was seen, by the hash of its bytes and of its database: 64 bits of texts that the
 * application makes. */
struct seen {
    uint64_t raw;
    uint64_t hash; /* the statement's */
    uint32_t place;
};

static struct seen seen[SEEN_MAX];
static PyObject *finder; /* owned; NULL: none */

/* Eight bytes at a time: this is on the path of every query. */
static uint64_t hash_bytes(const char *data, size_t len)
{
    const uint64_t factor = 0x9e3779b97f4a7c15ull;
    uint64_t hash = len * factor, piece;
    for (; len >= sizeof piece; data += sizeof piece, len -= sizeof piece) {
        memcpy(&piece, data, sizeof piece);
        hash = (hash ^ piece) * factor;
        hash ^= hash >> 29;
    }
    piece = 0;
    memcpy(&piece, data, len);
    hash = (hash ^ piece) * factor;
    return (hash ^ hash >> 32) | 1;
}

/* The bytes of a text; data NULL: it is none. */
static struct text bytes_of(PyObject *sql)
{
    Py_ssize_t len = 0;
    if (sql && PyBytes_Check(sql))
        return (struct text){PyBytes_AS_STRING(sql), (size_t)PyBytes_GET_SIZE(sql)};
    if (!sql || !PyUnicode_Check(sql))
        return (struct text){0};
    if (PyUnicode_IS_COMPACT_ASCII(sql))
        return (struct text){(const char *)PyUnicode_1BYTE_DATA(sql),
                             (size_t)PyUnicode_GET_LENGTH(sql)};
    const char *data = PyUnicode_AsUTF8AndSize(sql, &len);
    if (!data)
        PyErr_Clear(); /* it has surrogates */
    return (struct text){data, (size_t)len};
}

/* ---- where it runs ---- */

/* An attribute that is a text, as far as it fits. */
static void read_attribute(PyObject *owner, const char *name, char *out, size_t room)
{
    PyObject *value = owner ? PyObject_GetAttrString(owner, name) : NULL;
    const char *text = value && PyUnicode_Check(value) ? PyUnicode_AsUTF8(value) : NULL;
    snprintf(out, room, "%s", text ? text : "");
    PyErr_Clear();
    Py_XDECREF(value);
}

static enum sql_dialect dialect_of(const char *vendor)
{
    static const char *const names[] = {
        [SQL_POSTGRESQL] = "postgresql", [SQL_SQLITE] = "sqlite", [SQL_MYSQL] = "mysql"};
    for (unsigned i = SQL_POSTGRESQL; i < ARRAY_LEN(names); i++)
        if (strcmp(names[i], vendor) == 0)
            return (enum sql_dialect)i;
    return strcmp(vendor, "mariadb") == 0 ? SQL_MYSQL : SQL_STANDARD;
}

/* Django's cursors know their connection as `db`, with alias and vendor; SQLAlchemy's dialects have
 * a name. */
static enum sql_dialect read_database(const struct query_call *call, char *alias, size_t room)
{
    char vendor[16];
    alias[0] = '\0';
    if (call->driver != SQL_STANDARD)
        return call->driver;
    PyObject *db = call->is_django ? PyObject_GetAttrString(call->owner, "db") : NULL;
    PyErr_Clear();
    read_attribute(db, "alias", alias, room);
    read_attribute(db ? db : call->owner, db ? "vendor" : "name", vendor, sizeof vendor);
    Py_XDECREF(db);
    return dialect_of(vendor);
}

/* Of the attribute's text, which has computed it once; takes the owner. 0: there is none. */
static uint64_t hash_attribute(PyObject *owner, PyObject *name)
{
    PyObject *value = owner ? PyObject_GetAttr(owner, name) : NULL;
    Py_hash_t hash = value && PyUnicode_Check(value) ? PyObject_Hash(value) : 0;
    PyErr_Clear();
    Py_XDECREF(value);
    Py_XDECREF(owner);
    return (uint64_t)hash;
}

/* Tells the databases of a process apart: by Django's alias, by the name of SQLAlchemy's dialect.
 * This is on the path of every query. */
static uint64_t hash_database(const struct query_call *call)
{
    static PyObject *db, *alias, *name; /* owned */
    if (call->driver != SQL_STANDARD)
        return (uint64_t)call->driver;
    if (!db) {
        db = PyUnicode_InternFromString("db");
        alias = PyUnicode_InternFromString("alias");
        name = PyUnicode_InternFromString("name");
    }
    if (!db || !alias || !name) {
        PyErr_Clear();
        return 0;
    }
    return call->is_django ? hash_attribute(PyObject_GetAttr(call->owner, db), alias)
                           : hash_attribute(Py_NewRef(call->owner), name);
}

/* ---- what statement it is ---- */

static void look_at(struct seen *entry, struct text sql, const struct query_call *call,
                    uint64_t time_ns)
{
    char alias[STATEMENTS_ALIAS_MAX];
    struct buf shown = {0};
    enum sql_dialect dialect = read_database(call, alias, sizeof alias);
    sql_shown(&shown, sql, dialect);
    struct text text = {shown.data ? shown.data : "", shown.len};
    entry->hash = statements_hash(text, dialect, alias);
    entry->place = statements_find(costs_statements(), text, dialect, alias, time_ns);
    buf_fini(&shown);
}

/* The entry of the text of a statement; NULL: it is no text. */
static const struct seen *find(const struct query_call *call, uint64_t time_ns)
{
    struct text sql = bytes_of(call->sql);
    if (!sql.data)
        return NULL;
    struct seen *entry = &seen[call->raw & (SEEN_MAX - 1)];
    bool is_known = entry->raw == call->raw && entry->place != STATEMENTS_NONE &&
                    statements_is(costs_statements(), entry->place, entry->hash);
    if (UNLIKELY(!is_known)) {
        look_at(entry, sql, call, time_ns);
        entry->raw = call->raw;
    }
    return entry;
}

void queries_show(struct costs_clock *clock, struct query_call *call)
{
    struct text sql = bytes_of(call->sql);
    call->raw = sql.data ? hash_bytes(sql.data, sql.len) ^ hash_database(call) << 1 : 0;
    const struct seen *entry = find(call, 0);
    uint32_t place = entry && entry->place != STATEMENTS_NONE ? entry->place + 1 : 0;
    atomic_store_explicit(&clock->seat->statement, place, memory_order_relaxed);
}

/* ---- what a request has made ---- */

static struct query *query_of(struct query_log *log, uint64_t hash)
{
    for (unsigned i = 0; i < log->count; i++)
        if (log->items[i].hash == hash)
            return &log->items[i];
    return NULL;
}

/* Makes room by adding the first half to the board: a request that makes so many different
 * statements repeats few. */
static struct query *add_query(struct costs_clock *clock, const struct seen *entry)
{
    struct query_log *log = &clock->queries;
    if (log->count == QUERY_LOG_MAX)
        costs_flush(clock);
    struct query *query = &log->items[log->count++];
    *query = (struct query){.hash = entry->hash, .place = entry->place, .repeat = STATEMENTS_NONE};
    return query;
}

/* Of a text so long the hash is not computed: that takes as long as copying it. */
#define HASHED_BYTES_MAX 4096

static bool is_long(PyObject *value)
{
    if (PyUnicode_Check(value))
        return PyUnicode_GET_LENGTH(value) > HASHED_BYTES_MAX;
    return PyBytes_Check(value) && PyBytes_GET_SIZE(value) > HASHED_BYTES_MAX;
}

/* Adds a parameter to a hash of them; false: it has none. */
static bool add_parameter(Py_uhash_t *hash, PyObject *value)
{
    Py_hash_t one = is_long(value) ? -1 : PyObject_Hash(value);
    if (one == -1) {
        PyErr_Clear();
        return false;
    }
    *hash = (*hash ^ (Py_uhash_t)one) * 1099511628211ull;
    return true;
}

/* Equal for equal parameters; 0: that cannot be told. Those that have names come in one order from
 * one place of the application. */
static Py_hash_t hash_parameters(PyObject *parameters)
{
    Py_uhash_t hash = 7;
    PyObject *key, *value;
    if (!parameters || parameters == Py_None)
        return 1;
    if (PyDict_CheckExact(parameters)) {
        for (Py_ssize_t at = 0; PyDict_Next(parameters, &at, &key, &value);)
            if (!PyUnicode_CheckExact(key) || !add_parameter(&hash, value))
                return 0;
        return (Py_hash_t)(hash | 1);
    }
    if (!PyList_CheckExact(parameters) && !PyTuple_CheckExact(parameters))
        return 0;
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(parameters); i++)
        if (!add_parameter(&hash, PySequence_Fast_GET_ITEM(parameters, i)))
            return 0;
    return (Py_hash_t)(hash | 1);
}

static void count_duplicate(struct query *query, PyObject *parameters)
{
    Py_hash_t hash = hash_parameters(parameters);
    if (query->use.count == 0)
        query->first_parameters = hash;
    else if (hash && (hash == query->first_parameters || hash == query->last_parameters))
        query->use.duplicates++;
    query->last_parameters = hash;
}

/* A request has made a statement so often that it repeats it: which line does that? */
static void note_repeat(struct costs_clock *clock, struct query *query)
{
    bool is_new;
    query->repeat = statements_repeat(costs_statements(), query->hash, clock->costs->view, &is_new);
    if (!is_new || !finder)
        return;
    PyObject *line = PyObject_CallNoArgs(finder);
    struct text text = bytes_of(line);
    if (text.data)
        statements_set_origin(costs_statements(), query->repeat, text);
    PyErr_Clear();
    Py_XDECREF(line);
}

static void note_cursor(struct query_log *log, const void *cursor, uint64_t hash)
{
    log->newest = (log->newest + 1) % QUERY_CURSORS_MAX;
    log->cursors[log->newest].cursor = cursor;
    log->cursors[log->newest].hash = hash;
}

static void add_time(struct query *query, uint64_t time_ns)
{
    query->use.time_ns += time_ns;
    query->this_ns += time_ns;
    if (query->this_ns > query->use.most_ns)
        query->use.most_ns = query->this_ns;
}

void queries_note(struct costs_clock *clock, const struct query_call *call, uint64_t time_ns,
                  bool failed)
{
    PyObject *type = NULL, *value = NULL, *trace = NULL;
    if (failed)
        PyErr_Fetch(&type, &value, &trace);
    const struct seen *entry = find(call, time_ns);
    clock->costs->queries++;
    if (entry && entry->place != STATEMENTS_NONE) {
        struct query *query = query_of(&clock->queries, entry->hash);
        query = query ? query : add_query(clock, entry);
        count_duplicate(query, call->parameters);
        query->this_ns = 0;
        query->use.count++;
        query->use.failed += failed;
        add_time(query, time_ns);
        note_cursor(&clock->queries, call->cursor, entry->hash);
        if (query->use.count == STATEMENTS_REPEATED)
            note_repeat(clock, query);
    }
    if (failed)
        PyErr_Restore(type, value, trace);
}

void queries_note_fetch(struct costs_clock *clock, const void *cursor, uint64_t time_ns)
{
    struct query_log *log = &clock->queries;
    for (unsigned i = 0; i < QUERY_CURSORS_MAX; i++) {
        unsigned k = (log->newest + QUERY_CURSORS_MAX - i) % QUERY_CURSORS_MAX;
        if (log->cursors[k].cursor != cursor)
            continue;
        struct query *query = query_of(log, log->cursors[k].hash);
        if (query)
            add_time(query, time_ns);
        return;
    }
}

void queries_set_finder(PyObject *function)
{
    Py_XSETREF(finder, function);
}
