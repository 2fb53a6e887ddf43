/* serving.h: what a worker knows when it begins to serve, and what never changes then. */
#ifndef MYSERVER_WORKER_SERVING_H
#define MYSERVER_WORKER_SERVING_H

#include "base/base.h"
#include "http/access.h"
#include "http/exclude.h"
#include "http/forwarded.h"
#include "http/parse.h"

struct board_worker;
struct config;
struct ledger;

struct serving {
    const struct config *config;
    struct http_limits limits;
    struct forwarded_trust trust;
    struct access_format *access; /* NULL: off */
    struct exclude *exclude;      /* what it leaves out; NULL: nothing */
    unsigned worker;              /* its number, from 1 */
    struct board_worker *board;   /* its place on the board */
    struct ledger *ledger;        /* NULL: nothing is observed */
};

#endif
