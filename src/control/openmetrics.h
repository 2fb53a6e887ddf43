/* openmetrics.h: the metrics in the OpenMetrics text format, version 1.0.0, which has exemplars. */
#ifndef MYSERVER_CONTROL_OPENMETRICS_H
#define MYSERVER_CONTROL_OPENMETRICS_H

#include "base/buf.h"
#include "http/request.h"

#include <stdbool.h>

#define OPENMETRICS_TYPE "application/openmetrics-text; version=1.0.0; charset=utf-8"

/* Whether the client would rather have that format than the plain one (RFC 9110 12.5.1). */
bool openmetrics_is_wanted(const struct request *request);
/* Appends the document in the plain format, 0.0.4, as OpenMetrics: families of counters have no
 * "_total", bounds of histograms are written as numbers with a fraction, and the end is marked.
 * Exemplars are those that `plain` has. Takes what is in `plain`. */
void openmetrics_append(struct buf *out, struct buf *plain);

#endif
