/* statsd.h: the numbers of /metrics, pushed to a statsd daemon by UDP. */
#ifndef MYSERVER_CONTROL_STATSD_H
#define MYSERVER_CONTROL_STATSD_H

#include "base/base.h"
#include "base/buf.h"

#define STATSD_EVERY_MS     5000
#define STATSD_PACKET_BYTES 1432 /* fits a datagram of Ethernet with IPv6; daemons take that */

/* A counter as it was pushed last: statsd adds up, so only what came since is sent. */
struct statsd_counter {
    char *name; /* owned */
    double value;
};

struct statsd {
    const char *address, *prefix; /* borrowed */
    int fd;                       /* -1: not open */
    unsigned pushes;
    struct statsd_counter *counters; /* owned */
    size_t count;
};

/* Returns NULL, or what is wrong with `address`, without looking any name up; owned by the caller.
 */
MUST_CHECK char *statsd_check(const char *address);
/* Begins; both texts are borrowed. Opens nothing. */
void statsd_begin(struct statsd *s, const char *address, const char *prefix);
/* Appends a line for each number in `metrics`, a NUL-terminated text in Prometheus's format. The
 * first time, counters are only remembered. */
void statsd_format(struct statsd *s, const char *metrics, struct buf *out);
/* Sends the lines, as many as fit into each datagram. Never waits; what cannot be sent is lost. */
void statsd_send(struct statsd *s, const struct buf *lines);

#endif
