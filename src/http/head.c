/* head.c: the grammar of a request's head: its first line, its fields, its framing.
 *
 * Owns the rules of RFC 9110 and 9112 for single bytes, lines and the head as a whole. Every byte
 * of the head is checked here, once, when its line is complete. In doubt the request is refused,
 * because a proxy in front may have read the same bytes in another way.
 *
 * Never moves the buffer, never looks behind the head, never asks llhttp. */
#include "head.h"

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
    while (i < len && is_class(s[i], class))
        i++;
    return i;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static int hex_digit(char c)
{
    if (is_digit(c))
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_word(const char *s, size_t len, const char *lower, size_t lower_len)
{
    return len == lower_len && ascii_equal(s, lower, len);
}
#define IS(s, len, literal) is_word(s, len, literal, sizeof(literal) - 1)

static struct http_text text_of(const struct head *h, const char *s, size_t len)
{
    return (struct http_text){.offset = (uint32_t)(s - h->request->in.data),
                              .length = (uint32_t)len};
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
        if (n == 0 || n >= sizeof(address) || memchr(s, 0, n))
            return 0;
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
    if (i == 0)
        return false;
    if (i < len && s[i] == ':') {
        i++;
        while (i < len && is_digit(s[i]))
            i++;
    }
    return i == len;
}

/* ---- the request line ---- */

/* What a method means is the application's affair; any token is one (RFC 9110 9.1). */
static bool check_method(struct head *h)
{
    const char *method = request_at(h->request, h->request->method);
    size_t len = h->request->method.length;
    h->request->is_head = len == 4 && memcmp(method, "HEAD", 4) == 0;
    /* RFC 9110 9.3.6: what follows a CONNECT is not HTTP, and this server is no proxy. */
    return len != 7 || memcmp(method, "CONNECT", 7) != 0 ||
           request_refuse(h->request, 501, "method not implemented");
}

/* RFC 9113 3.4: what an HTTP/2 client sends first. */
static bool is_http2_preface(const struct head *h, const char *version, size_t len)
{
    return h->request->method.length == 3 &&
           memcmp(request_at(h->request, h->request->method), "PRI", 3) == 0 && len == 8 &&
           memcmp(version, "HTTP/2.0", 8) == 0;
}

static bool scan_version(struct head *h, const char *s, size_t len)
{
    if (is_http2_preface(h, s, len))
        return request_refuse(h->request, 400, "HTTP/2 where HTTP/1.1 is spoken");
    if (len != 8 || memcmp(s, "HTTP/", 5) != 0 || !is_digit(s[5]) || s[6] != '.' || !is_digit(s[7]))
        return request_refuse(h->request, 400, "malformed request line");
    h->request->line = text_of(h, request_at(h->request, h->request->method),
                               (size_t)(s + len - request_at(h->request, h->request->method)));
    /* A proxy that sends uwsgi packets tells what its client speaks. */
    if (h->request->is_uwsgi && (s[5] == '2' || s[5] == '3') && s[7] == '0')
        return true;
    if (s[5] != '1' || s[7] > '1')
        return request_refuse(h->request, 505, "HTTP version not supported");
    h->request->version_minor = (unsigned)(s[7] - '0');
    return true;
}

static void split_query(struct head *h, const char *s, size_t len)
{
    const char *mark = memchr(s, '?', len);
    size_t path_len = mark ? (size_t)(mark - s) : len;
    h->request->path = text_of(h, s, path_len);
    if (mark)
        h->request->query = text_of(h, mark + 1, len - path_len - 1);
}

/* absolute-form, RFC 9112 3.2.2: its authority is the host, whatever Host says. */
static bool scan_absolute(struct head *h, const char *s, size_t len)
{
    size_t scheme_len = 0;
    if (len > 7 && ascii_equal(s, "http://", 7))
        scheme_len = 7;
    else if (len > 8 && ascii_equal(s, "https://", 8))
        scheme_len = 8;
    else
        return request_refuse(h->request, 400, "malformed request target");
    const char *authority = s + scheme_len;
    const char *end = s + len;
    const char *path = authority;
    while (path < end && *path != '/' && *path != '?')
        path++;
    if (!is_authority(authority, (size_t)(path - authority)))
        return request_refuse(h->request, 400, "malformed authority in the request target");
    h->request->host = text_of(h, authority, (size_t)(path - authority));
    h->request->authority_in_target = true;
    split_query(h, path, (size_t)(end - path));
    if (h->request->path.length == 0) {
        /* RFC 9110 4.2.3: an empty path is "/"; uses the slash in front of the authority. */
        h->request->path = text_of(h, authority - 1, 1);
    }
    return true;
}

static bool scan_target(struct head *h)
{
    const char *s = request_at(h->request, h->request->target);
    size_t len = h->request->target.length;
    if (s[0] == '/')
        return true;
    if (len == 1 && s[0] == '*') {
        const char *method = request_at(h->request, h->request->method);
        h->request->path = text_of(h, s, 0);
        return (h->request->method.length == 7 && memcmp(method, "OPTIONS", 7) == 0) ||
               request_refuse(h->request, 400, "target * without OPTIONS");
    }
    return scan_absolute(h, s, len);
}

bool head_may_begin(char first)
{
    return is_class(first, TOKEN);
}

size_t head_token_span(const char *s, size_t len)
{
    return span(s, len, TOKEN);
}

size_t head_target_span(const char *s, size_t len)
{
    return span(s, len, TARGET);
}

size_t head_value_span(const char *s, size_t len)
{
    return span(s, len, VALUE);
}

bool head_refuse_protocol(struct head *h, const char *advice)
{
    h->request->refusal_shown = true;
    return request_refuse(h->request, 400, advice);
}

bool head_request_line(struct head *h, const char *line, size_t len)
{
    size_t method_len = span(line, len, TOKEN);
    if (method_len == 0 || method_len == len || line[method_len] != ' ')
        return request_refuse(h->request, 400, "malformed request line");
    const char *target = line + method_len + 1;
    size_t rest = len - method_len - 1;
    size_t target_len = span(target, rest, TARGET);
    if (target_len == 0 || target_len == rest || target[target_len] != ' ')
        return request_refuse(h->request, 400, "malformed request line");
    h->request->method = text_of(h, line, method_len);
    h->request->target = text_of(h, target, target_len);
    split_query(h, target, target_len);
    return scan_version(h, target + target_len + 1, rest - target_len - 1) && check_method(h) &&
           scan_target(h);
}

/* ---- fields ---- */

enum http_field head_field_of(const char *name, size_t len)
{
#define NAMED(literal, field)                                                                      \
    if (IS(name, len, literal))                                                                    \
        return field;
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
        NAMED("traceparent", HTTP_FIELD_TRACEPARENT)
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
        if (len > 12 && ascii_equal(name, "x-forwarded-", 12))
            return HTTP_FIELD_X_FORWARDED_OTHER; /* -User, -Prefix, ... */
        break;
    }
#undef NAMED
    return HTTP_FIELD_OTHER;
}

/* Cuts the next element off a comma-separated list, without the blanks around it. */
static bool next_element(const char **list, size_t *list_len, const char **element, size_t *len)
{
    if (!*list)
        return false;
    const char *comma = memchr(*list, ',', *list_len);
    const char *start = *list;
    const char *end = comma ? comma : start + *list_len;
    *list_len -= (size_t)(end - start) + (comma ? 1 : 0);
    *list = comma ? comma + 1 : NULL;
    while (start < end && (*start == ' ' || *start == '\t'))
        start++;
    while (end > start && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *element = start;
    *len = (size_t)(end - start);
    return true;
}

static void scan_connection(struct head *h, const char *value, size_t len)
{
    const char *option;
    size_t option_len;
    while (next_element(&value, &len, &option, &option_len)) {
        h->asks_close |= IS(option, option_len, "close");
        h->asks_keep_alive |= IS(option, option_len, "keep-alive");
        h->asks_upgrade |= IS(option, option_len, "upgrade");
    }
}

static bool scan_content_length(struct head *h, const char *value, size_t len)
{
    uint64_t bytes = 0;
    bool overflow = false;
    if (len == 0)
        return request_refuse(h->request, 400, "empty Content-Length");
    for (size_t i = 0; i < len; i++) {
        if (!is_digit(value[i]))
            return request_refuse(h->request, 400, "malformed Content-Length");
        overflow |= __builtin_mul_overflow(bytes, 10, &bytes);
        overflow |= __builtin_add_overflow(bytes, (uint64_t)(value[i] - '0'), &bytes);
    }
    h->request->content_length = overflow ? UINT64_MAX : bytes;
    return true;
}

static bool note_field(struct head *h, enum http_field field, const char *value, size_t len)
{
    const unsigned once = 1u << HTTP_FIELD_CONTENT_LENGTH | 1u << HTTP_FIELD_TRANSFER_ENCODING |
                          1u << HTTP_FIELD_HOST | 1u << HTTP_FIELD_CONTENT_TYPE;
    bool repeated = (h->seen & 1u << field) != 0;
    if (repeated && once & 1u << field)
        return request_refuse(h->request, 400, "a field that may stand once is repeated");
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
        if (len > 0 && !is_authority(value, len))
            return request_refuse(h->request, 400, "malformed Host");
        if (!h->request->authority_in_target)
            h->request->host = text_of(h, value, len);
    }
    return true;
}

static void add_header(struct head *h, struct http_text name, struct http_text value,
                       enum http_field field)
{
    bool replaced = field == HTTP_FIELD_HOST && h->request->authority_in_target;
    assert(h->request->header_count < HTTP_MAX_FIELDS);
    h->request->headers[h->request->header_count++] = (struct http_header){
        .name = name, .value = replaced ? h->request->host : value, .field = field};
}

bool head_field(struct head *h, const char *line, size_t len)
{
    /* A missing name, a blank before the colon, and obs-fold (RFC 9112 5.2) are all refused
     * here. */
    size_t name_len = span(line, len, TOKEN);
    if (name_len == 0 || name_len == len || line[name_len] != ':')
        return request_refuse(h->request, 400, "malformed header field");
    return head_header(h, line, name_len, line + name_len + 1, len - name_len - 1);
}

bool head_header(struct head *h, const char *name, size_t name_len, const char *value,
                 size_t value_len)
{
    if (++h->line_count > h->limits->fields || h->line_count > HTTP_MAX_FIELDS)
        return request_refuse(h->request, 431, "too many header fields");
    if (span(value, value_len, VALUE) != value_len)
        return request_refuse(h->request, 400, "control byte in a header field");
    while (value_len > 0 && (value[0] == ' ' || value[0] == '\t')) {
        value++;
        value_len--;
    }
    while (value_len > 0 && (value[value_len - 1] == ' ' || value[value_len - 1] == '\t'))
        value_len--;
    enum http_field field = head_field_of(name, name_len);
    if (field != HTTP_FIELD_OTHER && !note_field(h, field, value, value_len))
        return false;
    /* X_Y and X-Y get the same key in environ: a client could set what only a proxy may set. */
    if (memchr(name, '_', name_len) == NULL)
        add_header(h, text_of(h, name, name_len), text_of(h, value, value_len), field);
    return true;
}

/* ---- chunks ---- */

/* The length of a quoted-string (RFC 9110 5.6.4) at the start of `s`, 0 if there is none. */
static size_t quoted_span(const char *s, size_t len)
{
    size_t i = 1;
    while (i < len && s[i] != '"' && is_class(s[i], VALUE))
        i += s[i] == '\\' && i + 1 < len && is_class(s[i + 1], VALUE) ? 2 : 1;
    return i < len && s[0] == '"' && s[i] == '"' ? i + 1 : 0;
}

/* The length of what may follow the size, RFC 9112 7.1.1 without its blanks: ;NAME=VALUE, with or
 * without a value, any number of times. */
static size_t extensions_span(const char *s, size_t len)
{
    size_t i = 0;
    while (i < len && s[i] == ';') {
        size_t name_len = span(s + i + 1, len - i - 1, TOKEN);
        size_t end = i + 1 + name_len;
        if (name_len > 0 && end < len && s[end] == '=') {
            const char *value = s + end + 1;
            size_t rest = len - end - 1, token_len = span(value, rest, TOKEN);
            size_t value_len = token_len ? token_len : quoted_span(value, rest);
            end = value_len ? end + 1 + value_len : end;
        }
        if (name_len == 0)
            break;
        i = end;
    }
    return i;
}

bool head_begin_chunk(struct head *h, const char *line, size_t len)
{
    size_t digits = 0;
    while (digits < len && hex_digit(line[digits]) >= 0)
        digits++;
    return len == 0 || (digits > 0 && (digits == len || line[digits] == ';')) ||
           request_refuse(h->request, 400, "malformed chunk size");
}

bool head_chunk(struct head *h, const char *line, size_t len, uint64_t *size)
{
    size_t digits = 0;
    bool overflow = false;
    for (*size = 0; digits < len && hex_digit(line[digits]) >= 0; digits++) {
        overflow |= *size > UINT64_MAX >> 4;
        *size = *size << 4 | (uint64_t)hex_digit(line[digits]);
    }
    return (digits > 0 && !overflow &&
            digits + extensions_span(line + digits, len - digits) == len) ||
           request_refuse(h->request, 400, "malformed chunk size or extension");
}

bool head_trailer(struct head *h, const char *line, size_t len)
{
    size_t name_len = span(line, len, TOKEN);
    if (name_len == 0 || name_len == len || line[name_len] != ':' ||
        span(line + name_len, len - name_len, VALUE) != len - name_len)
        return request_refuse(h->request, 400, "malformed trailer");
    /* RFC 9110 6.5.1 forbids them. A Transfer-Encoding that names nothing says nothing. */
    if (IS(line, name_len, "content-length") ||
        (IS(line, name_len, "transfer-encoding") && name_len + 1 < len))
        return request_refuse(h->request, 400, "framing in a trailer");
    return ++h->line_count <= h->limits->fields ||
           request_refuse(h->request, 431, "too many trailers");
}

/* ---- the end of the head: framing ---- */

/* RFC 9112 6.1 and 6.3: only `chunked` alone is accepted; other codings are not implemented. */
static bool check_coding(struct head *h)
{
    const char *list = request_at(h->request, h->coding);
    size_t list_len = h->coding.length;
    const char *coding;
    size_t len;
    bool chunked_seen = false;
    if (h->request->version_minor == 0 || h->seen & 1u << HTTP_FIELD_CONTENT_LENGTH) {
        return request_refuse(h->request, 400,
                              "Transfer-Encoding with Content-Length or in HTTP/1.0");
    }
    h->request->chunked = IS(list, list_len, "chunked");
    if (h->request->chunked)
        return true;
    while (next_element(&list, &list_len, &coding, &len)) {
        if (len == 0 || span(coding, len, TOKEN) != len || chunked_seen)
            return request_refuse(h->request, 400, "malformed Transfer-Encoding");
        chunked_seen = IS(coding, len, "chunked");
    }
    return request_refuse(h->request, 501, "transfer coding not implemented");
}

/* RFC 9110 7.8: an Upgrade counts only with the option of Connection, and not in HTTP/1.0. */
static bool asks_upgrade(const struct head *h)
{
    struct buf room = {0};
    if (!h->asks_upgrade || h->request->version_minor == 0 || h->request->chunked ||
        h->request->content_length > 0)
        return false;
    bool asks = request_list(h->request, HTTP_FIELD_OTHER, "upgrade", &room).len > 0;
    buf_fini(&room);
    return asks;
}

bool head_end(struct head *h)
{
    h->request->has_body =
        h->seen & (1u << HTTP_FIELD_CONTENT_LENGTH | 1u << HTTP_FIELD_TRANSFER_ENCODING);
    h->request->keep_alive =
        !h->asks_close && (h->request->version_minor == 1 || h->asks_keep_alive);
    if (h->request->version_minor == 1 && !(h->seen & 1u << HTTP_FIELD_HOST))
        return request_refuse(h->request, 400, "HTTP/1.1 without Host");
    if (h->seen & 1u << HTTP_FIELD_TRANSFER_ENCODING && !check_coding(h))
        return false;
    if (h->request->content_length > h->limits->body_bytes)
        return request_refuse(h->request, 413, "Content-Length above the limit");
    if (h->request->version_minor == 1 && h->seen & 1u << HTTP_FIELD_EXPECT) {
        if (!h->asks_continue)
            return request_refuse(h->request, 417, "unknown expectation");
        h->request->expects_continue = h->request->chunked || h->request->content_length > 0;
    }
    h->request->asks_upgrade = asks_upgrade(h);
    return true;
}
