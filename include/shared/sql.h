/* sql.h: what of an SQL statement may be kept and shown: its text without any value. */
#ifndef MYSERVER_SHARED_SQL_H
#define MYSERVER_SHARED_SQL_H

#include "base/buf.h"
#include "base/text.h"

/* Whose SQL it is: which quotes mean a text. */
enum sql_dialect { SQL_STANDARD, SQL_POSTGRESQL, SQL_SQLITE, SQL_MYSQL };

/* Appends the statement with "%s" for each text and number in it, without comments, blanks as one,
 * and of the values after IN and the rows after VALUES only the first, followed by ", ...". So
 * statements that differ only in their values become one text. Placeholders of all kinds, names and
 * operators stay. Where it is not clear whether something is a value, it is left out. Any bytes;
 * never fails. */
void sql_shown(struct buf *out, struct text sql, enum sql_dialect dialect);

#endif
