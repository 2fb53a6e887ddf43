/* stats.h: what the server did and does, as text: for uWSGI's tools, for Prometheus, and as the
 * server's own JSON. Only formats: what is not on the board is in stats_facts, from the caller. */
#ifndef MYSERVER_CONTROL_STATS_H
#define MYSERVER_CONTROL_STATS_H

#include "base/base.h"
#include "base/buf.h"
#include "shared/board.h"

#include <stdbool.h>
#include <time.h>

struct backlog;
struct config;
struct usage;

struct stats_facts {
    const struct config *config;
    const struct board *board;
    const char *const *listeners;  /* names, [listener_count] */
    const struct backlog *backlog; /* [listener_count] */
    size_t listener_count;
    const struct usage *usage; /* [board->workers] */
    const char *directory;     /* the working directory */
    uid_t user;
    gid_t group;
    uint64_t now_ns;
    time_t now_s;
    bool has_exemplars; /* the metrics are to name requests of the buckets of a histogram */
};

/* Some worker serves, and the server does not stop. */
bool stats_is_ready(const struct board *board);
/* It was told to stop, even if it still serves for shutdown-delay. */
bool stats_is_stopping(const struct board *board);
/* One JSON object with uWSGI's keys, as uwsgitop and others read it. Threads appear as cores. Has
 * no header, cookie or query of a request, since everybody who can connect sees it. */
void stats_uwsgi(const struct stats_facts *facts, struct buf *out);
/* Prometheus's text format, version 0.0.4. Counters outlive workers. */
void stats_metrics(const struct stats_facts *facts, struct buf *out);
/* The server's own JSON: the same numbers by worker, and the requests that run. */
void stats_json(const struct stats_facts *facts, struct buf *out);

#endif
