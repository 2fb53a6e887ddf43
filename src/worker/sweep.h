/* sweep.h: what the tick does to all connections: deadlines, and room in memory and among the
 * descriptors. Leader. */
#ifndef MYSERVER_WORKER_SWEEP_H
#define MYSERVER_WORKER_SWEEP_H

#include "conn.h"

/* Every tick: ends connections that have passed their deadline, closes idle ones sooner while the
 * worker drains, and makes room where too many descriptors are used. */
void sweep(struct conn_table *table, uint64_t now);
/* When answers use more memory than is allowed even for a moment: ends those of the clients with
 * the lowest rate, until there is room. */
void sweep_held(struct conn_table *table);

#endif
