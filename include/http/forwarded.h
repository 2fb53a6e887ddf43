/* forwarded.h: which peers are trusted proxies, and what they say about the client.
 * Pure functions over bytes and addresses. */
#ifndef MYSERVER_HTTP_FORWARDED_H
#define MYSERVER_HTTP_FORWARDED_H

#include "base/base.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

/* Addresses are compared as IPv6, IPv4 as ::ffff:a.b.c.d. */
struct forwarded_network {
    struct in6_addr address;
    unsigned prefix_bits;
};

struct forwarded_trust {
    struct forwarded_network *networks; /* owned */
    size_t count;
    bool everyone; /* "*" */
};

#define FORWARDED_ADDRESS_MAX 46 /* INET6_ADDRSTRLEN */

/* Parses "127.0.0.1,::1,10.0.0.0/8" or "*". Returns NULL, or the entry that is wrong (points into
 * `list`; it ends at the next comma). An empty list trusts nobody. */
MUST_CHECK const char *forwarded_parse(struct forwarded_trust *trust, const char *list);
void forwarded_fini(struct forwarded_trust *trust);
/* Unix sockets are always trusted: their mode says who may connect. */
bool forwarded_trusts(const struct forwarded_trust *trust, const struct sockaddr *peer);
/* Whether the list itself has the address, whatever "*" says. */
bool forwarded_lists(const struct forwarded_trust *trust, const char *address);
/* The client's address from an X-Forwarded-For value (all lines joined with ','): the rightmost
 * entry that is not itself trusted; if all are, the leftmost. Writes its canonical text and returns
 * true. False: there is no entry, or the deciding one is not an address. */
MUST_CHECK bool forwarded_client(const struct forwarded_trust *trust, const char *value, size_t len,
                                 char out[FORWARDED_ADDRESS_MAX]);

/* Where a request came from, by its proxy headers if the peer is trusted. */
struct forwarded_view {
    char client[FORWARDED_ADDRESS_MAX]; /* REMOTE_ADDR: never empty */
    bool from_header; /* `client` comes from X-Forwarded-For: its port is not known */
    bool says_scheme; /* a header says whether it is https */
    bool https;
};

struct request;

/* The client that a uwsgi packet names, as an IPv6 address; AF_UNSPEC: none is named; AF_UNIX: that
 * of the proxy's own unix socket. False: it is malformed. */
MUST_CHECK bool forwarded_peer(const struct request *request, struct sockaddr_in6 *peer);

/* Fills `view` with the peer itself, or, when `trusted`, with what its proxy headers say. Headers
 * for https: X-Forwarded-Proto: https, X-Forwarded-Ssl: on, X-Forwarded-Protocol: ssl. Returns
 * false when they disagree: refuse with 400. */
MUST_CHECK bool forwarded_resolve(const struct forwarded_trust *trust, bool trusted,
                                  const char *peer, const struct request *request,
                                  struct forwarded_view *view);

#endif
