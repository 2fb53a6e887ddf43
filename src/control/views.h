/* views.h: the account of the views, as text: what each has cost, and the requests that run now and
 * those that were slow. Only formats; times are seconds. */
#ifndef MYSERVER_CONTROL_VIEWS_H
#define MYSERVER_CONTROL_VIEWS_H

#include "base/buf.h"
#include "stats.h"

/* What all views have cost, as JSON. */
void views_json(const struct stats_facts *facts, struct buf *out);
/* The same for Prometheus. As many series as there are views: bounded by the ledger. */
void views_metrics(const struct stats_facts *facts, struct buf *out);
/* The requests that run now, with what they do, and the slowest recent ones, as JSON. Never shows
 * more of a request than method, path, client and view. */
void views_requests(const struct stats_facts *facts, struct buf *out);

#endif
