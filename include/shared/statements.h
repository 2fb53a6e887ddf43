/* statements.h: the statements to databases that requests make: how often, for how long, and which
 * ones a request repeats. A part of the board, as the ledger is, and used like it: any process, no
 * waiting, each word on its own. Texts are without values (sql.h). */
#ifndef MYSERVER_SHARED_STATEMENTS_H
#define MYSERVER_SHARED_STATEMENTS_H

#include "base/base.h"
#include "base/text.h"
#include "shared/sql.h"

#include <stdatomic.h>
#include <stdbool.h>

/* Statements that are kept. When there are more, those that have taken least time are forgotten. */
#define STATEMENTS_MAX        512
#define STATEMENTS_TEXT_MAX   4000   /* bytes of one; longer ones are cut */
#define STATEMENTS_ARENA      204800 /* bytes of all */
#define STATEMENTS_ALIAS_MAX  24
#define STATEMENTS_NONE       UINT32_MAX
/* A request that makes the same statement so often repeats it ("n+1"). */
#define STATEMENTS_REPEATED   5
#define STATEMENTS_REPEATS    128
#define STATEMENTS_ORIGIN_MAX 200

struct statement {
    _Atomic uint64_t hash; /* of text, dialect and alias; 0: free */
    _Atomic bool whole;    /* the text is there */
    bool cut;              /* the text is not all of it */
    uint8_t dialect;       /* enum sql_dialect */
    uint16_t length, room; /* of the text, in the arena */
    uint32_t offset;
    _Atomic uint32_t slowest_view; /* in which it took longest; from ledger_view, + 1; 0: none */
    _Atomic uint64_t count, time_ns, most_ns, failed;
    _Atomic uint64_t duplicates;      /* with values that it had before in the same request */
    char alias[STATEMENTS_ALIAS_MAX]; /* the name of the database in the application */
};

/* A statement that requests of a view repeat. */
struct statement_repeat {
    _Atomic uint64_t key; /* of statement and view; 0: free */
    _Atomic bool whole;
    uint64_t hash; /* of the statement */
    uint32_t view; /* from ledger_view, + 1; 0: none was known */
    _Atomic uint32_t most;
    _Atomic uint64_t requests, queries, time_ns;
    char origin[STATEMENTS_ORIGIN_MAX]; /* the line of the application that makes it */
};

struct statements {
    _Atomic uint32_t used; /* bytes of the arena */
    _Atomic uint64_t forgotten;
    struct statement items[STATEMENTS_MAX];
    struct statement_repeat repeats[STATEMENTS_REPEATS];
    char arena[STATEMENTS_ARENA];
};

/* What a request has made of one statement. */
struct statement_use {
    uint32_t count, failed, duplicates;
    uint64_t time_ns, most_ns;
};

/* What a statement is known by: it is the same in all processes and never 0. */
uint64_t statements_hash(struct text shown, enum sql_dialect dialect, const char *alias);
/* The place of the statement with that text, perhaps a new one. STATEMENTS_NONE: there is none for
 * it. `time_ns`: what it has taken now, which decides whether it is worth another one's place. */
uint32_t statements_find(struct statements *all, struct text shown, enum sql_dialect dialect,
                         const char *alias, uint64_t time_ns);
static inline bool statements_is(const struct statements *all, uint32_t place, uint64_t hash)
{
    return atomic_load_explicit(&all->items[place].hash, memory_order_relaxed) == hash;
}
/* The place of the statement that is known by `hash`; STATEMENTS_NONE: it has none. */
uint32_t statements_place(const struct statements *all, uint64_t hash);
/* Adds to the statement, if it still has that place. `view`: from ledger_view, + 1; 0: none. */
void statements_add(struct statements *all, uint32_t place, uint64_t hash, uint32_t view,
                    const struct statement_use *use);
/* The repeat of a statement in a view; *is_new: nobody knows its origin. STATEMENTS_NONE: there is
 * no room. */
uint32_t statements_repeat(struct statements *all, uint64_t hash, uint32_t view, bool *is_new);
/* The repeat of the same statement in another view, with its origin: a request has made it before
 * it was known of which view it is. STATEMENTS_NONE: there is no room. */
uint32_t statements_repeat_of(struct statements *all, uint32_t repeat, uint32_t view);
/* Its origin, once. */
void statements_set_origin(struct statements *all, uint32_t repeat, struct text origin);
void statements_add_repeat(struct statements *all, uint32_t repeat,
                           const struct statement_use *use);
/* Copies the text of a statement with a NUL, into STATEMENTS_TEXT_MAX + 1 bytes; false: it has
 * none, or another one just now. */
bool statements_text(const struct statements *all, uint32_t place, char *out);

#endif
