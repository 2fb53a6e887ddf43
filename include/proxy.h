/* proxy.h: the PROXY protocol, versions 1 and 2: what a load balancer says of a connection before
 * its first byte. Layer 2: pure functions over bytes.
 *
 * Only for peers that are trusted to speak it; from them the header must come. */
#ifndef MYSERVER_PROXY_H
#define MYSERVER_PROXY_H

#include "base.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

/* Longer headers are wrong. The largest address takes 232 bytes; the rest is for TLVs. */
#define PROXY_MAX_BYTES 2048

enum proxy_result {
    PROXY_MORE,  /* a header so far: ask again with more bytes */
    PROXY_DONE,  /* `header` is filled */
    PROXY_WRONG, /* no header: close, answer nothing */
};

struct proxy_header {
    size_t bytes;    /* of the connection, before its first request */
    bool has_client; /* false: it speaks for itself (LOCAL) or does not say (UNKNOWN, unix) */
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } client;
};

/* `data` begins where the connection does; `versions` has bit N-1 set when version N may come.
 * Whatever the split of the bytes over calls, the result is the same. */
MUST_CHECK enum proxy_result proxy_parse(unsigned versions, const char *data, size_t len,
                                         struct proxy_header *header);

#endif
