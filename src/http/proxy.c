/* proxy.c: the PROXY protocol, versions 1 and 2 (the specification is HAProxy's
 * proxy-protocol.txt).
 *
 * Owns the grammar of both headers. Strict: balancers send correct headers, and anything else may
 * come from a client that bypasses the balancer. Never reads a socket, never decides which peers
 * may send a header, keeps nothing between calls. */
#include "http/proxy.h"

#include <arpa/inet.h>
#include <string.h>

#define V1_LINE_MAX   107 /* section 2.1: including CRLF */
#define V1_PREFIX     "PROXY "
#define V2_SIGNATURE  "\r\n\r\n\0\r\nQUIT\n"
#define V2_FIXED      16
#define V2_TLV_FIXED  3
#define V2_UNIX_BYTES 216

/* ---- version 1: a line ---- */

struct word {
    char text[INET6_ADDRSTRLEN];
};

/* Takes the text up to the next SP or the end of the line into `word`, and advances `line`. */
static bool take_word(const char **line, size_t *len, struct word *word)
{
    const char *blank = memchr(*line, ' ', *len);
    size_t word_len = blank ? (size_t)(blank - *line) : *len;
    size_t taken = word_len + (blank != NULL);
    if (word_len == 0 || word_len >= sizeof(word->text) || memchr(*line, '\0', word_len))
        return false;
    memcpy(word->text, *line, word_len);
    word->text[word_len] = '\0';
    *line += taken;
    *len -= taken;
    return true;
}

/* Decimal, without sign or leading zeros. */
static bool parse_port(const char *text, in_port_t *port)
{
    unsigned value = 0;
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 5 || text[digits] != '\0' || (text[0] == '0' && digits > 1))
        return false;
    for (; *text; text++)
        value = value * 10 + (unsigned)(*text - '0');
    *port = htons((uint16_t)value);
    return value <= 65535;
}

/* `line` is what follows "PROXY ", without its CRLF. */
static bool parse_line(const char *line, size_t len, struct proxy_header *header)
{
    struct word family, source, target, source_port, target_port;
    unsigned char ignored[sizeof(struct in6_addr)];
    in_port_t port, ignored_port;
    if (!take_word(&line, &len, &family))
        return false;
    if (strcmp(family.text, "UNKNOWN") == 0)
        return true; /* the rest of the line is to be ignored */
    bool is_v6 = strcmp(family.text, "TCP6") == 0;
    if (!is_v6 && strcmp(family.text, "TCP4") != 0)
        return false;
    int af = is_v6 ? AF_INET6 : AF_INET;
    void *address =
        is_v6 ? (void *)&header->client.v6.sin6_addr : (void *)&header->client.v4.sin_addr;
    if (!take_word(&line, &len, &source) || !take_word(&line, &len, &target) ||
        !take_word(&line, &len, &source_port) || line[-1] != ' ' ||
        !take_word(&line, &len, &target_port) || len > 0 || line[-1] == ' ')
        return false;
    header->has_client = true;
    header->client.any.sa_family = (sa_family_t)af;
    if (inet_pton(af, source.text, address) != 1 || inet_pton(af, target.text, ignored) != 1 ||
        !parse_port(source_port.text, &port) || !parse_port(target_port.text, &ignored_port))
        return false;
    if (is_v6)
        header->client.v6.sin6_port = port;
    else
        header->client.v4.sin_port = port;
    return true;
}

static enum proxy_result parse_v1(const char *data, size_t len, struct proxy_header *header)
{
    size_t prefix_len = strlen(V1_PREFIX);
    size_t seen = len < V1_LINE_MAX ? len : V1_LINE_MAX;
    if (memcmp(data, V1_PREFIX, len < prefix_len ? len : prefix_len) != 0)
        return PROXY_WRONG;
    const char *lf = memchr(data, '\n', seen);
    if (!lf)
        return len < V1_LINE_MAX ? PROXY_MORE : PROXY_WRONG;
    size_t line_len = (size_t)(lf - data);
    header->bytes = line_len + 1;
    /* A CR within the line becomes part of a word, which is then no valid address or port. */
    bool good = line_len > prefix_len && lf[-1] == '\r' &&
                parse_line(data + prefix_len, line_len - 1 - prefix_len, header);
    return good ? PROXY_DONE : PROXY_WRONG;
}

/* ---- version 2: a fixed part, an address, TLVs ---- */

static size_t read_u16(const char *at)
{
    return (size_t)((unsigned char)at[0] << 8 | (unsigned char)at[1]);
}

/* The TLVs are not used, but they must fill the header exactly. */
static bool are_tlvs(const char *at, size_t len)
{
    while (len >= V2_TLV_FIXED) {
        size_t whole = V2_TLV_FIXED + read_u16(at + 1);
        if (whole > len)
            return false;
        at += whole;
        len -= whole;
    }
    return len == 0;
}

/* Fills header->client. Returns how many bytes the address takes, or more than `len` if it does not
 * fit or the family is not one of a stream. */
static size_t parse_address(unsigned family, const char *at, size_t len,
                            struct proxy_header *header)
{
    switch (family) {
    case 0x00: /* unspecified */
        return 0;
    case 0x11: /* TCP over IPv4: two addresses of 4 bytes, two ports */
        if (len < 12)
            return len + 1;
        header->has_client = true;
        header->client.v4.sin_family = AF_INET;
        memcpy(&header->client.v4.sin_addr, at, 4);
        memcpy(&header->client.v4.sin_port, at + 8, 2);
        return 12;
    case 0x21: /* TCP over IPv6: two addresses of 16 bytes, two ports */
        if (len < 36)
            return len + 1;
        header->has_client = true;
        header->client.v6.sin6_family = AF_INET6;
        memcpy(&header->client.v6.sin6_addr, at, 16);
        memcpy(&header->client.v6.sin6_port, at + 32, 2);
        return 36;
    case 0x31: /* unix stream: two paths */
        return V2_UNIX_BYTES;
    default:
        return len + 1;
    }
}

static enum proxy_result parse_v2(const char *data, size_t len, struct proxy_header *header)
{
    size_t signature_len = sizeof(V2_SIGNATURE) - 1;
    if (memcmp(data, V2_SIGNATURE, len < signature_len ? len : signature_len) != 0)
        return PROXY_WRONG;
    if (len < V2_FIXED)
        return PROXY_MORE;
    bool is_local = data[12] == 0x20;
    size_t rest = read_u16(data + 14);
    if ((!is_local && data[12] != 0x21) || rest > PROXY_MAX_BYTES - V2_FIXED)
        return PROXY_WRONG;
    header->bytes = V2_FIXED + rest;
    if (len < header->bytes)
        return PROXY_MORE;
    /* Section 2.2: LOCAL is the balancer's own connection; only the length of the rest counts. */
    if (is_local)
        return PROXY_DONE;
    const char *at = data + V2_FIXED;
    size_t address_len = parse_address((unsigned char)data[13], at, rest, header);
    if (address_len > rest)
        return PROXY_WRONG;
    /* With family 0 (unspecified) all that follows is to be ignored. */
    bool good = data[13] == 0 || are_tlvs(at + address_len, rest - address_len);
    return good ? PROXY_DONE : PROXY_WRONG;
}

enum proxy_result proxy_parse(unsigned versions, const char *data, size_t len,
                              struct proxy_header *header)
{
    memset(header, 0, sizeof(*header));
    if (len == 0)
        return PROXY_MORE;
    if (data[0] == V1_PREFIX[0])
        return versions & 1 ? parse_v1(data, len, header) : PROXY_WRONG;
    return versions & 2 ? parse_v2(data, len, header) : PROXY_WRONG;
}
