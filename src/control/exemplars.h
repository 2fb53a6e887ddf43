/* exemplars.h: the requests that explain buckets of the views' histograms, each by its trace. */
#ifndef MYSERVER_CONTROL_EXEMPLARS_H
#define MYSERVER_CONTROL_EXEMPLARS_H

#include "base/buf.h"
#include "shared/ledger.h"
#include "stats.h"

/* The buckets of those histograms: powers of two from 1 ms to 34 s, which are bounds of the ledger,
 * too, and one more for all above. */
#define EXEMPLARS_BUCKETS 17
/* The upper bound in nanoseconds of such a bucket, but the last. */
uint64_t exemplars_bound_ns(unsigned bucket);

/* The request is the exemplar of its bucket from now on, if it ended later than the one before and
 * has a trace. */
void exemplars_note(const struct ledger_slow *slow);
/* Appends " # {...}", with the time of the request and when it ended, to the line of a bucket of
 * the view; nothing where there is no recent one. */
void exemplars_append(const struct stats_facts *facts, unsigned view, unsigned bucket,
                      struct buf *out);

#endif
