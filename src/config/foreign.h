/* foreign.h: the options of other servers: what each is called here, or why there is none.
 *
 * One table for each server, foreign/NAME.def, and the only place where this is written: the
 * sentences about unknown names (names.c) come from it, and, by way of --options=foreign, all that
 * `myserver convert` knows of other servers. */
#ifndef MYSERVER_CONFIG_FOREIGN_H
#define MYSERVER_CONFIG_FOREIGN_H

#include "base/base.h"

#include <stdbool.h>

enum foreign_verdict {
    FOREIGN_KEPT,     /* it is here, too */
    FOREIGN_NEEDLESS, /* it is always so here, or there is nothing to set */
    FOREIGN_DROPPED,  /* something else does it, or nothing */
    FOREIGN_CANNOT,   /* with it there is no application that could be served here */
};

struct foreign {
    const char *server; /* "uWSGI" */
    /* With blanks between them: NAME takes no value, NAME= takes one, NAME== two, NAME[=] perhaps
     * one; .NAME stands in a configuration file only; -X is short for the name in
     * front of it. All
     * with '-', never with '_'. */
    const char *names;
    enum foreign_verdict verdict;
    const char *ours; /* NULL: no option is like it */
    const char *how;  /* how `convert` reads its value: a name there; NULL: it does not */
    /* Follows "there is no NAME here: " or "NAME is called OURS here; "; NULL only with `ours` */
    const char *note;
};

extern const struct foreign foreign_table[];
extern const size_t foreign_count;

/* Whether the row is about this name. */
bool foreign_is_named(const struct foreign *row, const char *name);
/* Whether an option of that name is followed by a value, on a command line; in a file all have one.
 */
bool foreign_takes_value(const struct foreign *row, const char *name);
/* The name that the flag is short for; NULL when the row does not have it. The caller owns it. */
char *foreign_name_of_flag(const struct foreign *row, char letter);

#endif
