/* forwarded.c: which peers are trusted proxies, and which client they speak for.
 *
 * Owns the list of trusted networks. Pure functions over bytes and addresses: never looks up a
 * name, never sees a connection, never changes a header. Everything is compared as IPv6, so that
 * 10.0.0.0/8 also covers ::ffff:10.1.2.3 of a dual-stack proxy. */
#include "http/forwarded.h"
#include "base/buf.h"
#include "http/request.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#define MAPPED_BITS 96 /* ::ffff:0:0/96 holds the IPv4 addresses */

static void map_ipv4(struct in6_addr *out, struct in_addr v4)
{
    memset(out, 0, sizeof *out);
    out->s6_addr[10] = out->s6_addr[11] = 0xff;
    memcpy(&out->s6_addr[12], &v4, sizeof v4);
}

/* Accepts only a numeric address, without port, brackets or zone. */
static bool parse_address(struct in6_addr *out, const char *text, size_t len)
{
    char copy[FORWARDED_ADDRESS_MAX];
    struct in_addr v4;
    if (len >= sizeof copy)
        return false;
    memcpy(copy, text, len);
    copy[len] = '\0';
    /* A NUL inside would end the text early for inet_pton. */
    if (memchr(copy, '\0', len))
        return false;
    if (inet_pton(AF_INET6, copy, out) == 1)
        return true;
    if (inet_pton(AF_INET, copy, &v4) != 1)
        return false;
    map_ipv4(out, v4);
    return true;
}

static bool parse_decimal(unsigned *out, const char *text, size_t len, unsigned max)
{
    unsigned value = 0;
    if (len < 1 || len > 5)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        value = value * 10 + (unsigned)(text[i] - '0');
    }
    *out = value;
    return value <= max;
}

static void trim(const char **text, size_t *len)
{
    while (*len && (**text == ' ' || **text == '\t')) {
        (*text)++;
        (*len)--;
    }
    while (*len && ((*text)[*len - 1] == ' ' || (*text)[*len - 1] == '\t'))
        (*len)--;
}

/* Whether the first `bits` bits of both are the same. */
static bool same_prefix(const struct in6_addr *a, const struct in6_addr *b, unsigned bits)
{
    unsigned bytes = bits / 8, rest = bits % 8;
    if (memcmp(a, b, bytes) != 0)
        return false;
    return rest == 0 || ((a->s6_addr[bytes] ^ b->s6_addr[bytes]) >> (8 - rest)) == 0;
}

/* False: bits below the prefix are set. That is a mistake: 10.0.0.1/8 may have meant one host or a
 * network. */
static bool is_network(const struct forwarded_network *network)
{
    struct in6_addr masked = {0};
    unsigned bytes = network->prefix_bits / 8, rest = network->prefix_bits % 8;
    memcpy(&masked, &network->address, bytes);
    if (rest)
        masked.s6_addr[bytes] = network->address.s6_addr[bytes] & (uint8_t)(0xff00 >> rest);
    return memcmp(&masked, &network->address, sizeof masked) == 0;
}

static bool parse_network(struct forwarded_network *network, const char *text, size_t len)
{
    const char *slash = memchr(text, '/', len);
    size_t address_len = slash ? (size_t)(slash - text) : len;
    if (!parse_address(&network->address, text, address_len))
        return false;
    network->prefix_bits = 128;
    if (!slash)
        return true;
    unsigned offset = memchr(text, ':', address_len) ? 0 : MAPPED_BITS, bits;
    if (!parse_decimal(&bits, slash + 1, len - address_len - 1, 128 - offset))
        return false;
    network->prefix_bits = offset + bits;
    return is_network(network);
}

/* One entry between commas; false: it is wrong. */
static bool add_entry(struct forwarded_trust *trust, const char *text, size_t len)
{
    struct forwarded_network network;
    trim(&text, &len);
    if (len == 1 && *text == '*') {
        trust->everyone = true;
        return true;
    }
    if (!parse_network(&network, text, len))
        return false;
    trust->networks = xrealloc(trust->networks, (trust->count + 1) * sizeof network);
    trust->networks[trust->count++] = network;
    return true;
}

const char *forwarded_parse(struct forwarded_trust *trust, const char *list)
{
    *trust = (struct forwarded_trust){0};
    if (list[strspn(list, " \t")] == '\0')
        return NULL;
    for (const char *entry = list;;) {
        size_t len = strcspn(entry, ",");
        if (!add_entry(trust, entry, len)) {
            forwarded_fini(trust);
            return entry;
        }
        if (entry[len] == '\0')
            return NULL;
        entry += len + 1;
    }
}

void forwarded_fini(struct forwarded_trust *trust)
{
    free(trust->networks);
    *trust = (struct forwarded_trust){0};
}

static bool lists_address(const struct forwarded_trust *trust, const struct in6_addr *address)
{
    for (size_t i = 0; i < trust->count; i++)
        if (same_prefix(address, &trust->networks[i].address, trust->networks[i].prefix_bits))
            return true;
    return false;
}

static bool trusts_address(const struct forwarded_trust *trust, const struct in6_addr *address)
{
    return trust->everyone || lists_address(trust, address);
}

bool forwarded_lists(const struct forwarded_trust *trust, const char *address)
{
    struct in6_addr parsed;
    return parse_address(&parsed, address, strlen(address)) && lists_address(trust, &parsed);
}

bool forwarded_trusts(const struct forwarded_trust *trust, const struct sockaddr *peer)
{
    struct in6_addr mapped;
    switch (peer->sa_family) {
    case AF_UNIX:
        return true;
    case AF_INET:
        map_ipv4(&mapped, ((const struct sockaddr_in *)peer)->sin_addr);
        return trusts_address(trust, &mapped);
    case AF_INET6:
        return trusts_address(trust, &((const struct sockaddr_in6 *)peer)->sin6_addr);
    default:
        return false;
    }
}

/* An entry as proxies write it: an address, IPv6 perhaps in brackets, then perhaps a port. */
static bool parse_hop(struct in6_addr *out, const char *text, size_t len)
{
    const char *end = text + len, *address = text, *after = end;
    const char *colon = memchr(text, ':', len);
    unsigned port;
    if (*text == '[') {
        const char *bracket = memchr(text, ']', len);
        if (!bracket || !colon || colon > bracket)
            return false;
        address = text + 1;
        len = (size_t)(bracket - address);
        after = bracket + 1;
    } else if (colon && !memchr(colon + 1, ':', (size_t)(end - colon - 1))) {
        len = (size_t)(colon - text);
        after = colon;
    }
    if (after != end &&
        (*after != ':' || !parse_decimal(&port, after + 1, (size_t)(end - after - 1), 65535)))
        return false;
    return parse_address(out, address, len);
}

/* Instead of inet_ntop, which uses printf: 1,300 instructions on every request behind nginx. */
static void print_ipv4(const unsigned char *bytes, char *out)
{
    for (unsigned i = 0; i < 4; i++) {
        unsigned value = bytes[i];
        if (value >= 100)
            *out++ = (char)('0' + value / 100);
        if (value >= 10)
            *out++ = (char)('0' + value / 10 % 10);
        *out++ = (char)('0' + value % 10);
        *out++ = i < 3 ? '.' : '\0';
    }
}

static void print_address(const struct in6_addr *address, char out[FORWARDED_ADDRESS_MAX])
{
    if (IN6_IS_ADDR_V4MAPPED(address)) {
        print_ipv4(&address->s6_addr[12], out);
        return;
    }
    const char *text = inet_ntop(AF_INET6, address, out, FORWARDED_ADDRESS_MAX);
    assert(text);
    (void)text;
}

/* Cuts the last entry off the list. */
static void cut_last(const char *value, size_t *len, const char **entry, size_t *entry_len)
{
    const char *comma = memrchr(value, ',', *len);
    *entry = comma ? comma + 1 : value;
    *entry_len = *len - (size_t)(*entry - value);
    *len = comma ? (size_t)(comma - value) : 0;
    trim(entry, entry_len);
}

bool forwarded_client(const struct forwarded_trust *trust, const char *value, size_t len,
                      char out[FORWARDED_ADDRESS_MAX])
{
    struct in6_addr address;
    bool found = false;
    while (len) {
        const char *entry;
        size_t entry_len;
        cut_last(value, &len, &entry, &entry_len);
        /* RFC 9110 5.6.1.2: empty elements of a list do not count. */
        if (!entry_len)
            continue;
        if (!parse_hop(&address, entry, entry_len))
            return false;
        found = true;
        if (!trusts_address(trust, &address))
            break;
    }
    if (found)
        print_address(&address, out);
    return found;
}

bool forwarded_peer(const struct request *request, struct sockaddr_in6 *peer)
{
    const char *address = request_at(request, request->remote_addr);
    const char *port_text = request_at(request, request->remote_port);
    size_t len = request->remote_addr.length, port_len = request->remote_port.length;
    unsigned port = 0;
    *peer = (struct sockaddr_in6){.sin6_family = AF_UNSPEC};
    if (len == 0)
        return true;
    if (len == 5 && memcmp(address, "unix:", len) == 0) { /* nginx's word for it */
        peer->sin6_family = AF_UNIX;
        return true;
    }
    peer->sin6_family = AF_INET6;
    if ((port_len > 0 && !parse_decimal(&port, port_text, port_len, 65535)) ||
        !parse_address(&peer->sin6_addr, address, len))
        return false;
    peer->sin6_port = htons((uint16_t)port);
    return true;
}

/* What one header says about the scheme: 1 https, 0 another, -1 it is no such header. */
static int scheme_of(const struct request *request, const struct http_header *header)
{
    const char *wanted;
    switch ((int)header->field) {
    case HTTP_FIELD_X_FORWARDED_PROTO:
        wanted = "https";
        break;
    case HTTP_FIELD_X_FORWARDED_PROTOCOL:
        wanted = "ssl";
        break;
    case HTTP_FIELD_X_FORWARDED_SSL:
        wanted = "on";
        break;
    default:
        return -1;
    }
    return header->value.length == strlen(wanted) &&
           ascii_equal(request_at(request, header->value), wanted, header->value.length);
}

static void set_client(const struct forwarded_trust *trust, const struct request *request,
                       struct forwarded_view *view)
{
    struct buf room = {0};
    struct text all = request_list(request, HTTP_FIELD_X_FORWARDED_FOR, NULL, &room);
    if (all.len && forwarded_client(trust, all.data, all.len, view->client))
        view->from_header = true;
    buf_fini(&room);
}

bool forwarded_resolve(const struct forwarded_trust *trust, bool trusted, const char *peer,
                       const struct request *request, struct forwarded_view *view)
{
    int scheme = -1;
    bool for_seen = false;
    memcpy(view->client, peer, strnlen(peer, sizeof(view->client) - 1) + 1);
    view->from_header = view->https = false;
    for (unsigned i = 0; trusted && i < request->header_count; i++) {
        int says = scheme_of(request, &request->headers[i]);
        for_seen |= request->headers[i].field == HTTP_FIELD_X_FORWARDED_FOR;
        if (says >= 0 && scheme >= 0 && says != scheme)
            return false;
        scheme = says >= 0 ? says : scheme;
    }
    view->says_scheme = scheme >= 0;
    view->https = scheme == 1;
    if (for_seen)
        set_client(trust, request, view);
    return true;
}
