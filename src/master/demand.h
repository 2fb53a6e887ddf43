/* demand.h: how many workers the load asks for, between workers-min and workers. */
#ifndef MYSERVER_MASTER_DEMAND_H
#define MYSERVER_MASTER_DEMAND_H

#include "base/base.h"

#include <stdbool.h>

#define DEMAND_LOOK_MS         100  /* between two samples */
#define DEMAND_PATIENCE_MS     5000 /* so long the load must be low before a worker is let go */
#define DEMAND_PATIENCE_MAX_MS 600000

/* What was seen of the workers that serve. */
struct demand_sample {
    uint64_t now_ms;
    unsigned serving; /* workers, at least 1 */
    unsigned threads; /* of each */
    unsigned busy;    /* threads that could not take a request, of all */
    bool waits;       /* some request waits for a thread */
};

/* Begins as zeros. */
struct demand {
    double fraction; /* of the threads that are busy, smoothed */
    unsigned full;   /* samples in a row in which all were busy and a request waited */
    uint64_t window_ms, busy_sum, samples; /* since `window_ms` */
    uint64_t patience_ms;                  /* 0: DEMAND_PATIENCE_MS */
    uint64_t grown_ms, shrunk_ms;          /* when it last was; 0: never */
};

/* Takes a sample. Returns how many workers more there should be: 0, -1, or at most as many as
 * serve. Not while workers start, or are replaced: then demand_pause. */
int demand_judge(struct demand *d, const struct demand_sample *s);
/* What was seen before is no measure of what comes. */
void demand_pause(struct demand *d);

#endif
