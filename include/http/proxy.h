/* proxy.h: the PROXY protocol, versions 1 and 2: the header with the client's address that a load
 * balancer sends first on a connection. Pure functions over bytes.
 *
 * Only for connections of trusted peers; from them the header must come. */
#ifndef MYSERVER_HTTP_PROXY_H
#define MYSERVER_HTTP_PROXY_H

#include "base/base.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

/* A longer header is wrong. Up to the end of the largest address it has 232 bytes; the rest is for
 * TLVs. */
#define PROXY_MAX_BYTES 2048

enum proxy_result {
    PROXY_MORE,  /* correct so far, but not whole: ask again with more bytes */
    PROXY_DONE,  /* `header` is filled */
    PROXY_WRONG, /* no valid header: close without an answer */
};

struct proxy_header {
    size_t bytes;    /* length of the header; the first request follows */
    bool has_client; /* false: the balancer's own connection (LOCAL), or UNKNOWN, or unix */
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } client;
};

/* `data` are the `len` bytes that have come on the connection so far, from its first one.
 * `versions` has bit N-1 set when version N is allowed. The result does not depend on how the bytes
 * are split over calls. */
MUST_CHECK enum proxy_result proxy_parse(unsigned versions, const char *data, size_t len,
                                         struct proxy_header *header);

#endif
