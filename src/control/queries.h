/* queries.h: the statements to databases, as text. Only formats; times are seconds. */
#ifndef MYSERVER_CONTROL_QUERIES_H
#define MYSERVER_CONTROL_QUERIES_H

#include "base/buf.h"
#include "stats.h"

/* All statements that are kept, and what requests repeat, as JSON. */
void queries_json(const struct stats_facts *facts, struct buf *out);

/* How the application was loaded, so that a statement of it can be explained, as JSON: no value of
 * its environment, but where who may read it finds that. */
void queries_application(const struct stats_facts *facts, struct buf *out);

#endif
