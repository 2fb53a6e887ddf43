/* uwsgi.c: the head of a uwsgi packet.
 *
 * Owns the form of the packet, and which variable is what. A request line is made of the variables
 * and read by head.c, which also takes the headers, so the rules are those of HTTP. Obeys no
 * variable that tells uWSGI what to load or to change (UWSGI_SCRIPT, UWSGI_CHDIR, UWSGI_SETENV,
 * ...); of all that begin with UWSGI_ it knows only UWSGI_SCHEME.
 *
 * Every decision is made from the first four bytes, or from the whole head. */
#include "uwsgi.h"

#include "base/text.h"

#include <string.h>

#define MARK_BYTES   4
#define LENGTH_BYTES 2

/* The variables that the server itself uses or makes: each may stand once. */
#define VARIABLES(X)                                                                               \
    X(REQUEST_METHOD)                                                                              \
    X(REQUEST_URI)                                                                                 \
    X(PATH_INFO)                                                                                   \
    X(QUERY_STRING)                                                                                \
    X(SERVER_PROTOCOL)                                                                             \
    X(CONTENT_TYPE)                                                                                \
    X(CONTENT_LENGTH)                                                                              \
    X(REMOTE_ADDR)                                                                                 \
    X(REMOTE_PORT)                                                                                 \
    X(REQUEST_SCHEME)                                                                              \
    X(HTTPS)                                                                                       \
    X(UWSGI_SCHEME)                                                                                \
    X(SCRIPT_NAME)                                                                                 \
    X(RAW_URI)                                                                                     \
    X(SERVER_SOFTWARE)

enum variable {
#define X(name) name,
    VARIABLES(X)
#undef X
        OTHER
};

static const char *const variables[] = {
#define X(name) #name,
    VARIABLES(X)
#undef X
};

static const char *const repeated[] = {
#define X(name) "the variable " #name " is sent twice",
    VARIABLES(X)
#undef X
};

/* One variable of the packet. */
struct pair {
    struct text name, value;
};

struct packet {
    struct head *h;
    size_t bytes;                   /* of the head, without what was added to it */
    struct http_text values[OTHER]; /* of the variables that are known; offset 0: not sent */
};

static size_t little_endian(const char *bytes)
{
    return (size_t)(unsigned char)bytes[0] | (size_t)(unsigned char)bytes[1] << 8;
}

/* ---- the packet ---- */

static struct http_text text_in(const struct request *r, struct text text)
{
    return (struct http_text){(uint32_t)(text.data - r->in.data), (uint32_t)text.len};
}

/* HTTP and TLS begin with other bytes: "GET " has modifier1 71. */
bool uwsgi_begin(struct head *h, size_t *bytes)
{
    const struct buf *in = &h->request->in;
    if (in->len > 0 && in->data[0] != UWSGI_FIRST_BYTE) {
        return head_may_begin(in->data[0])
                   ? head_refuse_protocol(h, "HTTP where uwsgi is spoken; nginx needs uwsgi_pass "
                                             "instead of proxy_pass, or bind must have no uwsgi: "
                                             "before its address")
                   : request_refuse(h->request, 400, "no uwsgi packet with modifier1 0");
    }
    if (in->len < MARK_BYTES)
        return true;
    if (in->data[3] != 0)
        return request_refuse(h->request, 400, "uwsgi packet with modifier2 other than 0");
    *bytes = MARK_BYTES + little_endian(in->data + 1);
    return *bytes <= h->limits->head_bytes || request_refuse(h->request, 431, "head too long");
}

/* Cuts a length and its text off what is between *at and `end`. */
static bool cut_text(const char **at, const char *end, struct text *text)
{
    if (end - *at < LENGTH_BYTES)
        return false;
    *text = (struct text){*at + LENGTH_BYTES, little_endian(*at)};
    if ((size_t)(end - text->data) < text->len)
        return false;
    *at = text->data + text->len;
    return true;
}

/* The next variable; *at is an offset into `in`, 0 at first. False: there is no other, or what is
 * left is none. */
static bool next_pair(const struct packet *packet, size_t *at, struct pair *pair)
{
    const char *in = packet->h->request->in.data;
    const char *next = in + (*at ? *at : MARK_BYTES), *end = in + packet->bytes;
    if (!cut_text(&next, end, &pair->name) || !cut_text(&next, end, &pair->value))
        return false;
    *at = (size_t)(next - in);
    return true;
}

static bool begins_with(const struct pair *pair, const char *prefix)
{
    size_t len = strlen(prefix);
    return pair->name.len >= len && memcmp(pair->name.data, prefix, len) == 0;
}

static bool is_header(const struct pair *pair)
{
    return begins_with(pair, "HTTP_");
}

static enum variable variable_of(const struct pair *pair)
{
    for (unsigned i = 0; i < OTHER; i++)
        if (text_is(pair->name, variables[i]))
            return (enum variable)i;
    return OTHER;
}

/* A header is named in one way: otherwise it would be another one here than for the proxy. */
static bool is_upper_case(struct text name)
{
    for (size_t i = 0; i < name.len; i++)
        if (name.data[i] == '-' || (name.data[i] >= 'a' && name.data[i] <= 'z'))
            return false;
    return true;
}

static bool check_pair(struct head *h, const struct pair *pair)
{
    size_t header_len = is_header(pair) ? strlen("HTTP_") : 0;
    if (pair->name.len == header_len ||
        head_token_span(pair->name.data, pair->name.len) != pair->name.len ||
        (header_len && !is_upper_case(pair->name)))
        return request_refuse(h->request, 400, "malformed name of a variable");
    bool is_line = !header_len && variable_of(pair) <= QUERY_STRING;
    if (is_line && pair->value.len > h->limits->request_line_bytes)
        return request_refuse(h->request, 414, "request line too long");
    return is_line || pair->name.len + pair->value.len <= h->limits->field_bytes ||
           request_refuse(h->request, 431, "header field too long");
}

/* Reads all of the packet: finds the variables that are known, and the end in the right place. */
static bool read_packet(struct packet *packet)
{
    struct head *h = packet->h;
    struct pair pair;
    size_t at = 0;
    while (next_pair(packet, &at, &pair)) {
        if (!check_pair(h, &pair))
            return false;
        enum variable variable = variable_of(&pair);
        if (variable == OTHER)
            continue;
        if (packet->values[variable].offset)
            return request_refuse(h->request, 400, repeated[variable]);
        packet->values[variable] = text_in(h->request, pair.value);
    }
    return (at ? at : MARK_BYTES) == packet->bytes ||
           request_refuse(h->request, 400, "lengths in a uwsgi packet disagree");
}

static struct text value_of(const struct packet *packet, enum variable variable)
{
    return request_piece(packet->h->request, packet->values[variable]);
}

static bool is_sent(const struct packet *packet, enum variable variable)
{
    return packet->values[variable].length > 0;
}

/* ---- request line ---- */

/* Adds a text to the head, behind all that is there. */
static struct http_text add_text(struct request *r, const struct buf *text)
{
    size_t behind = r->in.len - r->head_bytes, offset = r->head_bytes;
    buf_reserve(&r->in, text->len);
    char *at = r->in.data + offset;
    memmove(at + text->len, at, behind);
    memcpy(at, text->data, text->len);
    r->in.len += text->len;
    r->head_bytes += text->len;
    return (struct http_text){.offset = (uint32_t)offset, .length = (uint32_t)text->len};
}

static void append_encoded(struct buf *out, struct text path)
{
    for (size_t i = 0; i < path.len; i++) {
        char c = path.data[i];
        if (c != '%' && c != '?' && head_target_span(&c, 1) == 1)
            buf_append(out, &c, 1);
        else
            buf_printf(out, "%%%02X", (unsigned char)c);
    }
}

static void append_text(struct buf *out, struct text text)
{
    buf_append(out, text.data, text.len);
}

/* A client that sends no REQUEST_URI gets one that says the same as its other variables. */
static void append_target(struct buf *out, const struct packet *packet)
{
    if (is_sent(packet, REQUEST_URI)) {
        append_text(out, value_of(packet, REQUEST_URI));
        return;
    }
    append_encoded(out, value_of(packet, PATH_INFO));
    if (is_sent(packet, QUERY_STRING)) {
        buf_append_str(out, "?");
        append_text(out, value_of(packet, QUERY_STRING));
    }
}

static bool take_line(const struct packet *packet)
{
    struct head *h = packet->h;
    struct buf line = {0};
    append_text(&line, value_of(packet, REQUEST_METHOD));
    buf_append_str(&line, " ");
    append_target(&line, packet);
    buf_append_str(&line, " ");
    if (is_sent(packet, SERVER_PROTOCOL))
        append_text(&line, value_of(packet, SERVER_PROTOCOL));
    else
        buf_append_str(&line, "HTTP/1.1");
    struct http_text text = add_text(h->request, &line);
    buf_fini(&line);
    return (text.length <= h->limits->request_line_bytes ||
            request_refuse(h->request, 414, "request line too long")) &&
           head_request_line(h, request_at(h->request, text), text.length);
}

/* PATH_INFO is decoded already, and may be another path than that of REQUEST_URI, because the proxy
 * has rewritten it. Then the request gets that one, encoded again: all who use it decode it. */
static bool take_path(const struct packet *packet)
{
    struct request *r = packet->h->request;
    struct text path = value_of(packet, PATH_INFO);
    struct buf text = {0};
    if (path.len == 0)
        return true;
    if (path.data[0] != '/' || memchr(path.data, '\0', path.len))
        return request_refuse(r, 400, "malformed PATH_INFO");
    buf_reserve(&text, r->path.length + 1);
    size_t len = request_decode(request_at(r, r->path), r->path.length, text.data);
    if (len != path.len || memcmp(text.data, path.data, len) != 0) {
        append_encoded(&text, path);
        if (text.len <= packet->h->limits->request_line_bytes)
            r->path = add_text(r, &text);
        else
            (void)request_refuse(r, 414, "request line too long");
    }
    buf_fini(&text);
    return r->refusal_status == 0;
}

static bool take_query(const struct packet *packet)
{
    struct request *r = packet->h->request;
    struct text query = value_of(packet, QUERY_STRING);
    if (head_target_span(query.data, query.len) != query.len)
        return request_refuse(r, 400, "malformed QUERY_STRING");
    if (packet->values[QUERY_STRING].offset)
        r->query = packet->values[QUERY_STRING];
    return true;
}

/* ---- headers ---- */

/* "X_FORWARDED_FOR" to "X-FORWARDED-FOR"; the name of the header is upper case. */
static bool take_header(struct head *h, size_t offset, size_t len, struct text value)
{
    char *name = h->request->in.data + offset;
    for (size_t i = 0; i < len; i++)
        name[i] = name[i] == '_' ? '-' : name[i];
    return head_header(h, name, len, value.data, value.len);
}

/* What describes the body comes from variables of its own; the proxy has done what Expect asks for,
 * and taken the chunks apart. */
static bool is_of_the_proxy(struct text name)
{
    return text_is(name, "HTTP_CONTENT_TYPE") || text_is(name, "HTTP_CONTENT_LENGTH") ||
           text_is(name, "HTTP_TRANSFER_ENCODING") || text_is(name, "HTTP_EXPECT");
}

static bool take_headers(const struct packet *packet)
{
    struct head *h = packet->h;
    const char *in = h->request->in.data;
    struct pair pair;
    size_t at = 0, prefix = strlen("HTTP_");
    while (next_pair(packet, &at, &pair))
        if (is_header(&pair) && !is_of_the_proxy(pair.name) &&
            !take_header(h, (size_t)(pair.name.data - in) + prefix, pair.name.len - prefix,
                         pair.value))
            return false;
    return true;
}

/* CONTENT_TYPE and CONTENT_LENGTH. nginx sends them empty when the client has sent none. */
static bool take_content(const struct packet *packet, enum variable variable)
{
    size_t name_len = strlen(variables[variable]);
    return !is_sent(packet, variable) ||
           take_header(packet->h, packet->values[variable].offset - LENGTH_BYTES - name_len,
                       name_len, value_of(packet, variable));
}

static bool take_framing(const struct packet *packet)
{
    struct request *r = packet->h->request;
    if (!take_content(packet, CONTENT_TYPE) || !take_content(packet, CONTENT_LENGTH))
        return false;
    r->has_body = is_sent(packet, CONTENT_LENGTH);
    return r->content_length <= packet->h->limits->body_bytes ||
           request_refuse(r, 413, "Content-Length above the limit");
}

/* ---- what a proxy says ---- */

static void note_client(const struct packet *packet)
{
    struct request *r = packet->h->request;
    struct text https = value_of(packet, HTTPS);
    r->remote_addr = packet->values[REMOTE_ADDR];
    r->remote_port = packet->values[REMOTE_PORT];
    r->says_https = is_sent(packet, UWSGI_SCHEME)
                        ? text_is_word(value_of(packet, UWSGI_SCHEME), "https")
                        : text_is_word(https, "on") || text_is_word(https, "1") ||
                              text_is_word(value_of(packet, REQUEST_SCHEME), "https");
}

/* Whether it becomes a key of environ. With '.' it could be one of WSGI's or of this server, with
 * '-' it was meant to be a header. */
static bool is_for_environ(const struct pair *pair)
{
    if (memchr(pair->name.data, '.', pair->name.len) ||
        memchr(pair->name.data, '-', pair->name.len) || is_header(pair) ||
        begins_with(pair, "UWSGI_") || variable_of(pair) != OTHER)
        return false;
    /* PEP 3333: these are never empty; nginx sends an empty name when the site has none. */
    return pair->value.len > 0 ||
           !(text_is(pair->name, "SERVER_NAME") || text_is(pair->name, "SERVER_PORT"));
}

static bool take_variables(const struct packet *packet)
{
    struct request *r = packet->h->request;
    struct pair pair;
    size_t at = 0;
    r->variable_count = 0;
    while (next_pair(packet, &at, &pair)) {
        if (!is_for_environ(&pair))
            continue;
        if (head_value_span(pair.value.data, pair.value.len) != pair.value.len)
            return request_refuse(r, 400, "control byte in a variable");
        unsigned index = r->header_count + r->variable_count++;
        if (index >= HTTP_MAX_FIELDS)
            return request_refuse(r, 431, "too many variables");
        r->headers[index] =
            (struct http_header){.name = text_in(r, pair.name), .value = text_in(r, pair.value)};
    }
    return true;
}

bool uwsgi_head(struct head *h, size_t bytes)
{
    struct packet packet = {.h = h, .bytes = bytes};
    h->request->head_bytes = bytes;
    if (!read_packet(&packet))
        return false;
    note_client(&packet);
    return take_line(&packet) && take_path(&packet) && take_query(&packet) &&
           take_headers(&packet) && take_framing(&packet) && take_variables(&packet);
}
