/* queries.h: the statements that one request makes. */
#ifndef MYSERVER_PYTHON_QUERIES_H
#define MYSERVER_PYTHON_QUERIES_H

#include "python/costs.h"
#include "shared/sql.h"

struct _object;

/* What is known of a call that runs a statement. */
struct query_call {
    struct _object *sql;        /* borrowed; the statement */
    struct _object *parameters; /* borrowed; NULL: none. Only compared, by their hashes */
    struct _object *owner;      /* borrowed; has the database: its alias and vendor */
    bool is_django;             /* the owner has a connection, `db`, that has both; else a name */
    enum sql_dialect driver;    /* of a driver that is called directly; SQL_STANDARD: see owner */
    const void *cursor;         /* where its rows will be fetched; never followed */
    uint64_t raw;               /* from queries_show: of the bytes of the text, and its database */
};

/* Before the statement runs: the board shows it. GIL held, as for all here. */
void queries_show(struct costs_clock *clock, struct query_call *call);
/* It has run, for so long, and was shown before. `failed`: an exception is set. */
void queries_note(struct costs_clock *clock, const struct query_call *call, uint64_t time_ns,
                  bool failed);
/* Rows of the last statement of that cursor were fetched, for so long. */
void queries_note_fetch(struct costs_clock *clock, const void *cursor, uint64_t time_ns);
/* `function() -> str` says which line of the application is running. Takes the reference. */
void queries_set_finder(struct _object *function);

#endif
