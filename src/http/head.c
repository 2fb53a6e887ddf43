/* http_head.c: the grammar of a request's head: its first line, its fields, its framing.
 *
 * Owns the rules of RFC 9110 and 9112 for single bytes, lines and the head as a whole. Every byte
 * of the head is checked here, once, when its line is complete. In doubt the request is refused,
 * because a proxy in front may have read the same bytes in another way.
 *
 * Never moves the buffer, never looks behind the head, never asks llhttp. */
#include "http_head.h"

#include <arpa/inet.h>
#include <string.h>

_Static_assert(HTTP_FIELD_TRANSFER_ENCODING < 32, "seen has a bit per field");

#define TOKEN    1 /* RFC 9110 5.6.2 */
#define TARGET   2 /* visible ASCII except '#': a fragment is never sent */
#define VALUE    4 /* HTAB, SP, VCHAR, obs-text (RFC 9110 5.5) */
#define REG_NAME 8 /* RFC 3986 3.2.2, without '%' */

#define ALL      (TOKEN | TARGET | VALUE | REG_NAME)
#define T_V      (TARGET | VALUE)
#define TTV      (TOKEN | TARGET | VALUE)
#define TVR      (TARGET | VALUE | REG_NAME)

/* clang-format off */
static const unsigned char class_of[256] = {
    ['\t'] = VALUE, [' '] = VALUE,
    ['!'] = ALL, ['"'] = T_V, ['#'] = TOKEN | VALUE, ['$'] = ALL, ['%'] = TTV, ['&'] = ALL,
    ['\''] = ALL, ['('] = TVR, [')'] = TVR, ['*'] = ALL, ['+'] = ALL, [','] = TVR, ['-'] = ALL,
    ['.'] = ALL, ['/'] = T_V, ['0' ... '9'] = ALL, [':'] = T_V, [';'] = TVR, ['<'] = T_V,
    ['='] = TVR, ['>'] = T_V, ['?'] = T_V, ['@'] = T_V, ['A' ... 'Z'] = ALL, ['['] = T_V,
    ['\\'] = T_V, [']'] = T_V, ['^'] = TTV, ['_'] = ALL, ['`'] = TTV, ['a' ... 'z'] = ALL,
    ['{'] = T_V, ['|'] = TTV, ['}'] = T_V, ['~'] = ALL, [0x80 ... 0xff] = VALUE,
};
/* clang-format on */

static bool is_class(char c, unsigned char class)
{
    return (class_of[(unsigned char)c] & class) != 0;
}

/* How many of the first `len` bytes are of `class`. */
static size_t span(const char *s, size_t len, unsigned char class)
{
    size_t i = 0;
    while (i < len && is_class(s[i], class)) {
        i++;
    }
    return i;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int hex_digit(char c)
{
    if (is_digit(c)) {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_word(const char *s, size_t len, const char *lower, size_t lower_len)
{
    return len == lower_len && ascii_equal(s, lower, len);
}
#define IS(s, len, literal) is_word(s, len, literal, sizeof(literal) - 1)

static struct http_text text_of(const struct http *h, const char *s, size_t len)
{
    return (struct http_text){.offset = (uint32_t)(s - h->in.data), .length = (uint32_t)len};
}

/* ---- the value of Host, the authority of a target ---- */

/* The length of a host at the start of `s`, 0 if there is none. */
static size_t host_span(const char *s, size_t len)
{
    if (len > 0 && s[0] == '[') {
        char address[INET6_ADDRSTRLEN];
        struct in6_addr ignored;
        const char *end = memchr(s, ']', len);
        size_t n = end ? (size_t)(end - s - 1) : 0;
        if (n == 0 || n >= sizeof(address) || memchr(s, 0, n)) {
            return 0;
        }
        memcpy(address, s + 1, n);
        address[n] = '\0';
        return inet_pton(AF_INET6, address, &ignored) == 1 ? n + 2 : 0;
    }
    size_t i = span(s, len, REG_NAME);
    while (i + 2 < len && s[i] == '%' && hex_digit(s[i + 1]) >= 0 && hex_digit(s[i + 2]) >= 0) {
        i += 3;
        i += span(s + i, len - i, REG_NAME);
    }
    return i;
}

/* RFC 9110 7.2: uri-host [ ":" port ]. No userinfo, no empty host (RFC 9110 4.2.1). */
static bool is_authority(const char *s, size_t len)
{
    size_t i = host_span(s, len);
    if (i == 0) {
        return false;
    }
    if (i < len && s[i] == ':') {
        i++;
        while (i < len && is_digit(s[i])) {
            i++;
        }
    }
    return i == len;
}

/* ---- the request line ---- */

/* The methods that llhttp 8 knows. Newer ones know more, but what is served must not depend on the
 * version. */
static bool is_known_method(const char *s, size_t len)
{
    static const char *const known[] = {
        "ACL",       "BIND",  "CHECKOUT", "CONNECT",  "COPY",   "DELETE",      "GET",
        "HEAD",      "LINK",  "LOCK",     "M-SEARCH", "MERGE",  "MKACTIVITY",  "MKCALENDAR",
        "MKCOL",     "MOVE",  "NOTIFY",   "OPTIONS",  "PATCH",  "POST",        "PROPFIND",
        "PROPPATCH", "PURGE", "PUT",      "REBIND",   "REPORT", "SEARCH",      "SOURCE",
        "SUBSCRIBE", "TRACE", "UNBIND",   "UNLINK",   "UNLOCK", "UNSUBSCRIBE",
    };
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (strlen(known[i]) == len && memcmp(known[i], s, len) == 0) {
            return true;
        }
    }
    return false;
}

static bool check_method(struct http *h)
{
    const char *method = http_at(h, h->method);
    size_t len = h->method.length;
    h->is_head = len == 4 && memcmp(method, "HEAD", 4) == 0;
    if (len == 3 && memcmp(method, "GET", 3) == 0) {
        return true;
    }
    /* RFC 9110 9.3.6: what follows a CONNECT is not HTTP, and this server is no proxy. */
    if (!is_known_method(method, len) || (len == 7 && memcmp(method, "CONNECT", 7) == 0)) {
        return http_refuse(h, 501, "method not implemented");
    }
    return true;
}

/* RFC 9113 3.4: what an HTTP/2 client sends first. */
static bool is_http2_preface(const struct http *h, const char *version, size_t len)
{
    return h->method.length == 3 && memcmp(http_at(h, h->method), "PRI", 3) == 0 && len == 8 &&
           memcmp(version, "HTTP/2.0", 8) == 0;
}

static bool scan_version(struct http *h, const char *s, size_t len)
{
    if (is_http2_preface(h, s, len)) {
        return http_refuse(h, 400, "HTTP/2 where HTTP/1.1 is spoken");
    }
    if (len != 8 || memcmp(s, "HTTP/", 5) != 0 || !is_digit(s[5]) || s[6] != '.' ||
        !is_digit(s[7])) {
        return http_refuse(h, 400, "malformed request line");
    }
    h->line = text_of(h, http_at(h, h->method), (size_t)(s + len - http_at(h, h->method)));
    if (s[5] != '1' || s[7] > '1') {
        return http_refuse(h, 505, "HTTP version not supported");
    }
    h->version_minor = (unsigned)(s[7] - '0');
    return true;
}

static void split_query(struct http *h, const char *s, size_t len)
{
    const char *mark = memchr(s, '?', len);
    size_t path_len = mark ? (size_t)(mark - s) : len;
    h->path = text_of(h, s, path_len);
    if (mark) {
        h->query = text_of(h, mark + 1, len - path_len - 1);
    }
}

/* absolute-form, RFC 9112 3.2.2: its authority is the host, whatever Host says. */
static bool scan_absolute(struct http *h, const char *s, size_t len)
{
    size_t scheme_len = 0;
    if (len > 7 && ascii_equal(s, "http://", 7)) {
        scheme_len = 7;
    } else if (len > 8 && ascii_equal(s, "https://", 8)) {
        scheme_len = 8;
    } else {
        return http_refuse(h, 400, "malformed request target");
    }
    const char *authority = s + scheme_len;
    const char *end = s + len;
    const char *path = authority;
    while (path < end && *path != '/' && *path != '?') {
        path++;
    }
    if (!is_authority(authority, (size_t)(path - authority))) {
        return http_refuse(h, 400, "malformed authority in the request target");
    }
    h->host = text_of(h, authority, (size_t)(path - authority));
    h->authority_in_target = true;
    split_query(h, path, (size_t)(end - path));
    if (h->path.length == 0) {
        /* RFC 9110 4.2.3: an empty path is "/"; uses the slash in front of the authority. */
        h->path = text_of(h, authority - 1, 1);
    }
    return true;
}

static bool scan_target(struct http *h)
{
    const char *s = http_at(h, h->target);
    size_t len = h->target.length;
    if (s[0] == '/') {
        return true;
    }
    if (len == 1 && s[0] == '*') {
        const char *method = http_at(h, h->method);
        h->path = text_of(h, s, 0);
        return (h->method.length == 7 && memcmp(method, "OPTIONS", 7) == 0) ||
               http_refuse(h, 400, "target * without OPTIONS");
    }
    return scan_absolute(h, s, len);
}

bool http_head_may_begin(char first)
{
    return is_class(first, TOKEN);
}

bool http_head_request_line(struct http *h, const char *line, size_t len)
{
    size_t method_len = span(line, len, TOKEN);
    if (method_len == 0 || method_len == len || line[method_len] != ' ') {
        return http_refuse(h, 400, "malformed request line");
    }
    const char *target = line + method_len + 1;
    size_t rest = len - method_len - 1;
    size_t target_len = span(target, rest, TARGET);
    if (target_len == 0 || target_len == rest || target[target_len] != ' ') {
        return http_refuse(h, 400, "malformed request line");
    }
    h->method = text_of(h, line, method_len);
    h->target = text_of(h, target, target_len);
    split_query(h, target, target_len);
    return scan_version(h, target + target_len + 1, rest - target_len - 1) && check_method(h) &&
           scan_target(h);
}

/* ---- fields ---- */

static enum http_field field_of(const char *name, size_t len)
{
#define NAMED(literal, field)                                                                      \
    if (IS(name, len, literal)) {                                                                  \
        return field;                                                                              \
    }
    /* Comparing the first letter first avoids most of the comparisons. */
    switch (name[0] | 0x20) {
    case 'c':
        NAMED("connection", HTTP_FIELD_CONNECTION)
        NAMED("content-length", HTTP_FIELD_CONTENT_LENGTH)
        NAMED("content-type", HTTP_FIELD_CONTENT_TYPE)
        NAMED("cookie", HTTP_FIELD_COOKIE)
        break;
    case 'e':
        NAMED("expect", HTTP_FIELD_EXPECT)
        break;
    case 'f':
        NAMED("forwarded", HTTP_FIELD_FORWARDED)
        break;
    case 'h':
        NAMED("host", HTTP_FIELD_HOST)
        break;
    case 't':
        NAMED("transfer-encoding", HTTP_FIELD_TRANSFER_ENCODING)
        break;
    case 'x':
        NAMED("x-forwarded-for", HTTP_FIELD_X_FORWARDED_FOR)
        NAMED("x-forwarded-host", HTTP_FIELD_X_FORWARDED_HOST)
        NAMED("x-forwarded-port", HTTP_FIELD_X_FORWARDED_PORT)
        NAMED("x-forwarded-proto", HTTP_FIELD_X_FORWARDED_PROTO)
        NAMED("x-forwarded-protocol", HTTP_FIELD_X_FORWARDED_PROTOCOL)
        NAMED("x-forwarded-ssl", HTTP_FIELD_X_FORWARDED_SSL)
        NAMED("x-real-ip", HTTP_FIELD_X_REAL_IP)
        if (len > 12 && ascii_equal(name, "x-forwarded-", 12)) {
            return HTTP_FIELD_X_FORWARDED_OTHER; /* -User, -Prefix, ... */
        }
        break;
    }
#undef NAMED
    return HTTP_FIELD_OTHER;
}

/* Cuts the next element off a comma-separated list, without the blanks around it. */
static bool next_element(const char **list, size_t *list_len, const char **element, size_t *len)
{
    if (*list == NULL) {
        return false;
    }
    const char *comma = memchr(*list, ',', *list_len);
    const char *start = *list;
    const char *end = comma ? comma : start + *list_len;
    *list_len -= (size_t)(end - start) + (comma ? 1 : 0);
    *list = comma ? comma + 1 : NULL;
    while (start < end && (*start == ' ' || *start == '\t')) {
        start++;
    }
    while (end > start && (end[-1] == ' ' || end[-1] == '\t')) {
        end--;
    }
    *element = start;
    *len = (size_t)(end - start);
    return true;
}

static void scan_connection(struct http *h, const char *value, size_t len)
{
    const char *option;
    size_t option_len;
    while (next_element(&value, &len, &option, &option_len)) {
        h->asks_close |= IS(option, option_len, "close");
        h->asks_keep_alive |= IS(option, option_len, "keep-alive");
    }
}

static bool scan_content_length(struct http *h, const char *value, size_t len)
{
    uint64_t bytes = 0;
    bool overflow = false;
    if (len == 0) {
        return http_refuse(h, 400, "empty Content-Length");
    }
    for (size_t i = 0; i < len; i++) {
        if (!is_digit(value[i])) {
            return http_refuse(h, 400, "malformed Content-Length");
        }
        overflow |= __builtin_mul_overflow(bytes, 10, &bytes);
        overflow |= __builtin_add_overflow(bytes, (uint64_t)(value[i] - '0'), &bytes);
    }
    h->content_length = overflow ? UINT64_MAX : bytes;
    return true;
}

static bool note_field(struct http *h, enum http_field field, const char *value, size_t len)
{
    const unsigned once = 1u << HTTP_FIELD_CONTENT_LENGTH | 1u << HTTP_FIELD_TRANSFER_ENCODING |
                          1u << HTTP_FIELD_HOST | 1u << HTTP_FIELD_CONTENT_TYPE;
    bool repeated = (h->seen & 1u << field) != 0;
    if (repeated && once & 1u << field) {
        return http_refuse(h, 400, "a field that may stand once is repeated");
    }
    h->seen |= 1u << field;
    if (field == HTTP_FIELD_CONNECTION) {
        scan_connection(h, value, len);
    } else if (field == HTTP_FIELD_CONTENT_LENGTH) {
        return scan_content_length(h, value, len);
    } else if (field == HTTP_FIELD_TRANSFER_ENCODING) {
        h->coding = text_of(h, value, len);
    } else if (field == HTTP_FIELD_EXPECT) {
        h->asks_continue = IS(value, len, "100-continue") && (!repeated || h->asks_continue);
    } else if (field == HTTP_FIELD_HOST) {
        if (len > 0 && !is_authority(value, len)) {
            return http_refuse(h, 400, "malformed Host");
        }
        if (!h->authority_in_target) {
            h->host = text_of(h, value, len);
        }
    }
    return true;
}

static void add_header(struct http *h, struct http_text name, struct http_text value,
                       enum http_field field)
{
    bool replaced = field == HTTP_FIELD_HOST && h->authority_in_target;
    assert(h->header_count < HTTP_MAX_FIELDS);
    h->headers[h->header_count++] =
        (struct http_header){.name = name, .value = replaced ? h->host : value, .field = field};
}

bool http_head_field(struct http *h, const char *line, size_t len)
{
    if (++h->line_count > h->limits->fields || h->line_count > HTTP_MAX_FIELDS) {
        return http_refuse(h, 431, "too many header fields");
    }
    /* A missing name, a blank before the colon, and obs-fold (RFC 9112 5.2) are all refused
     * here. */
    size_t name_len = span(line, len, TOKEN);
    if (name_len == 0 || name_len == len || line[name_len] != ':') {
        return http_refuse(h, 400, "malformed header field");
    }
    const char *value = line + name_len + 1;
    size_t value_len = len - name_len - 1;
    if (span(value, value_len, VALUE) != value_len) {
        return http_refuse(h, 400, "control byte in a header field");
    }
    while (value_len > 0 && (value[0] == ' ' || value[0] == '\t')) {
        value++;
        value_len--;
    }
    while (value_len > 0 && (value[value_len - 1] == ' ' || value[value_len - 1] == '\t')) {
        value_len--;
    }
    enum http_field field = field_of(line, name_len);
    if (field != HTTP_FIELD_OTHER && !note_field(h, field, value, value_len)) {
        return false;
    }
    /* X_Y and X-Y get the same key in environ: a client could set what only a proxy may set. */
    if (memchr(line, '_', name_len) == NULL) {
        add_header(h, text_of(h, line, name_len), text_of(h, value, value_len), field);
    }
    return true;
}

/* ---- the end of the head: framing ---- */

/* RFC 9112 6.1 and 6.3: only `chunked` alone is accepted; other codings are not implemented. */
static bool check_coding(struct http *h)
{
    const char *list = http_at(h, h->coding);
    size_t list_len = h->coding.length;
    const char *coding;
    size_t len;
    bool chunked_seen = false;
    if (h->version_minor == 0 || h->seen & 1u << HTTP_FIELD_CONTENT_LENGTH) {
        return http_refuse(h, 400, "Transfer-Encoding with Content-Length or in HTTP/1.0");
    }
    h->chunked = IS(list, list_len, "chunked");
    if (h->chunked) {
        return true;
    }
    while (next_element(&list, &list_len, &coding, &len)) {
        if (len == 0 || span(coding, len, TOKEN) != len || chunked_seen) {
            return http_refuse(h, 400, "malformed Transfer-Encoding");
        }
        chunked_seen = IS(coding, len, "chunked");
    }
    return http_refuse(h, 501, "transfer coding not implemented");
}

bool http_head_end(struct http *h)
{
    h->has_body = h->seen & (1u << HTTP_FIELD_CONTENT_LENGTH | 1u << HTTP_FIELD_TRANSFER_ENCODING);
    h->keep_alive = !h->asks_close && (h->version_minor == 1 || h->asks_keep_alive);
    if (h->version_minor == 1 && !(h->seen & 1u << HTTP_FIELD_HOST)) {
        return http_refuse(h, 400, "HTTP/1.1 without Host");
    }
    if (h->seen & 1u << HTTP_FIELD_TRANSFER_ENCODING && !check_coding(h)) {
        return false;
    }
    if (h->content_length > h->limits->body_bytes) {
        return http_refuse(h, 413, "Content-Length above the limit");
    }
    if (h->version_minor == 1 && h->seen & 1u << HTTP_FIELD_EXPECT) {
        if (!h->asks_continue) {
            return http_refuse(h, 417, "unknown expectation");
        }
        h->expects_continue = h->chunked || h->content_length > 0;
    }
    return true;
}

/* ---- decoding the path ---- */

size_t http_decode(const char *path, size_t len, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        int high = -1, low = -1;
        if (path[i] == '%' && len - i > 2) {
            high = hex_digit(path[i + 1]);
            low = hex_digit(path[i + 2]);
        }
        if (high >= 0 && low >= 0) {
            out[n++] = (char)(high << 4 | low);
            i += 2;
        } else {
            out[n++] = path[i];
        }
    }
    return n;
}
