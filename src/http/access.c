/* access.c: one line of the access log from one finished request.
 *
 * Owns compiled formats. Never writes anywhere and keeps nothing of an entry. Whatever a client or
 * the application chose (target, headers, user name) is escaped, so that a line stays one line and
 * a quoted field one field. */
#include "http/access.h"
#include "base/date.h"

#include "base/log.h"
#include "http/request.h"
#include "http/response.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#define ATOMS    "hlutrsmUqHbBfaTDMLp"
#define COMBINED "%(h)s %(l)s %(u)s %(t)s \"%(r)s\" %(s)s %(b)s \"%(f)s\" \"%(a)s\""

const char *const access_part_names[ACCESS_PARTS] = {"receive",  "thread",   "gil",   "cpu",
                                                     "database", "runqueue", "other", "send"};

/* A format is a list of pieces: texts between atoms, and atoms. */
struct piece {
    /* one of ATOMS, 'i' and 'o' for headers, 'c' for costs, 0 for a text, '{' for the JSON object
     */
    char atom;
    char *text; /* the text, or the name of header or cost; owned; NULL for other atoms */
};

struct access_format {
    struct piece *pieces; /* owned */
    size_t count;
};

struct span {
    const char *text; /* NULL: there is none */
    size_t len;
};

/* ---- compiling ---- */

static void add_piece(struct access_format *format, char atom, const char *text, size_t len)
{
    format->pieces = xrealloc(format->pieces, (format->count + 1) * sizeof *format->pieces);
    format->pieces[format->count++] =
        (struct piece){.atom = atom, .text = text ? xasprintf("%.*s", (int)len, text) : NULL};
}

/* The part of that name; ACCESS_PARTS: there is none. */
static unsigned find_part(const char *name, size_t len)
{
    unsigned part = 0;
    if (len == 2 && memcmp(name, "db", len) == 0)
        return find_part("database", strlen("database"));
    while (part < ACCESS_PARTS && (strlen(access_part_names[part]) != len ||
                                   memcmp(access_part_names[part], name, len) != 0))
        part++;
    return part;
}

static bool is_cost_name(const char *name, size_t len)
{
    static const char *const others[] = {"view", "trace", "queries"};
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        if (strlen(others[i]) == len && memcmp(others[i], name, len) == 0)
            return true;
    return find_part(name, len) < ACCESS_PARTS;
}

/* `atom` points behind a '%'. Returns where the text goes on; NULL: there is no such atom. */
static const char *add_atom(struct access_format *format, const char *atom)
{
    if (*atom == '%') {
        add_piece(format, 0, "%", 1);
        return atom + 1;
    }
    if (atom[0] == '(' && atom[1] == '{') {
        size_t name_len = strcspn(atom + 2, "}");
        const char *after = atom + 2 + name_len;
        bool is_cost = strncmp(after, "}m)s", 4) == 0;
        bool is_header = strncmp(after, "}i)s", 4) == 0 || strncmp(after, "}o)s", 4) == 0;
        if (name_len == 0 || !(is_header || (is_cost && is_cost_name(atom + 2, name_len))))
            return NULL;
        add_piece(format, is_cost ? 'c' : after[1], atom + 2, name_len);
        return after + 4;
    }
    if (atom[0] != '(' || !atom[1] || !strchr(ATOMS, atom[1]) || atom[2] != ')' || atom[3] != 's')
        return NULL;
    add_piece(format, atom[1], NULL, 0);
    return atom + 4;
}

struct access_format *access_compile(const char *text, char **error)
{
    struct access_format *format = xcalloc(1, sizeof *format);
    if (strcmp(text, "json") == 0) {
        add_piece(format, '{', NULL, 0);
        return format;
    }
    if (strcmp(text, "combined") == 0)
        text = COMBINED;
    while (*text) {
        size_t len = strcspn(text, "%");
        if (len)
            add_piece(format, 0, text, len);
        text += len;
        const char *next = *text ? add_atom(format, text + 1) : text;
        if (!next) {
            *error =
                xasprintf("\"%.12s\" starts no atom of the access log; there are %%(X)s with X "
                          "one of %s, %%({NAME}i)s, %%({NAME}o)s, %%({COST}m)s and %%%%; COST is "
                          "view, trace, queries, receive, thread, gil, cpu, db, runqueue, other or "
                          "send",
                          text, ATOMS);
            access_free(format);
            return NULL;
        }
        text = next;
    }
    return format;
}

void access_free(struct access_format *format)
{
    if (!format)
        return;
    for (size_t i = 0; i < format->count; i++)
        free(format->pieces[i].text);
    free(format->pieces);
    free(format);
}

/* ---- what is known of a request ---- */

static struct span request_text(const struct access_entry *entry, struct http_text text)
{
    return (struct span){request_at(entry->request, text), text.length};
}

static bool is_understood(const struct access_entry *entry)
{
    return entry->request && request_has_line(entry->request);
}

/* Not version_minor, which an unknown version leaves as it was. */
static struct span protocol_of(const struct access_entry *entry)
{
    return request_text(entry, request_protocol(entry->request));
}

static struct span received_header(const struct access_entry *entry, const char *name)
{
    size_t len = strlen(name);
    if (!is_understood(entry))
        return (struct span){0};
    for (unsigned i = 0; i < entry->request->header_count; i++) {
        const struct http_header *header = &entry->request->headers[i];
        if (header->name.length == len &&
            ascii_equal(request_at(entry->request, header->name), name, len))
            return request_text(entry, header->value);
    }
    return (struct span){0};
}

/* Looks through the lines of the head that was sent. */
static struct span sent_header(const struct access_entry *entry, const char *name)
{
    size_t len = strlen(name);
    if (!entry->response)
        return (struct span){0};
    const char *line = entry->response->head.data;
    const char *end = line + entry->response->head.len;
    const char *newline;
    for (; line < end && (newline = memmem(line, (size_t)(end - line), "\r\n", 2));
         line = newline + 2) {
        if (newline == line)
            break;
        if ((size_t)(newline - line) <= len || line[len] != ':' || !ascii_equal(line, name, len))
            continue;
        const char *value = line + len + 1;
        while (value < newline && (*value == ' ' || *value == '\t'))
            value++;
        return (struct span){value, (size_t)(newline - value)};
    }
    return (struct span){0};
}

/* ---- atoms ---- */

static void append_span(struct buf *out, struct span span)
{
    if (span.text && span.len)
        log_escape(out, span.text, span.len);
    else
        buf_append(out, "-", 1);
}

static void append_c_string(struct buf *out, const char *text)
{
    append_span(out, (struct span){text, text ? strlen(text) : 0});
}

static void append_time(struct buf *out, const struct access_entry *entry)
{
    struct tm local;
    char text[40];
    localtime_r(&entry->start.tv_sec, &local);
    strftime(text, sizeof text, "%Y:%H:%M:%S %z", &local);
    buf_printf(out, "[%02d/%s/%s]", local.tm_mday, date_months[local.tm_mon], text);
}

static void append_request_line(struct buf *out, const struct access_entry *entry)
{
    append_span(out, is_understood(entry) ? request_text(entry, entry->request->line)
                                          : (struct span){0});
}

static int base64_value(char c)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(alphabet, c) : NULL;
    return at ? (int)(at - alphabet) : -1;
}

/* RFC 7617: base64 of name:password. Writes the name, which ends at the first colon, and returns
 * its length; 0 when there is no valid one or it does not fit. */
static size_t decode_user(struct span credentials, char *user, size_t room)
{
    unsigned bits = 0, held = 0;
    size_t len = 0;
    for (size_t i = 0; i < credentials.len && len < room; i++) {
        int six = base64_value(credentials.text[i]);
        if (six < 0)
            return 0;
        held = (held << 6 | (unsigned)six) & 0xffff;
        bits += 6;
        if (bits < 8)
            continue;
        bits -= 8;
        user[len] = (char)(held >> bits);
        if (user[len] == ':')
            return len;
        len++;
    }
    return 0;
}

/* A word that stands in the line without quotes: a blank would split it into two fields, so it is
 * escaped. */
static void append_word(struct buf *out, struct span word)
{
    const char *blank;
    while (word.len && (blank = memchr(word.text, ' ', word.len))) {
        size_t before = (size_t)(blank - word.text);
        log_escape(out, word.text, before);
        buf_append_str(out, "\\x20");
        word = (struct span){blank + 1, word.len - before - 1};
        if (word.len == 0)
            return;
    }
    append_span(out, word);
}

static void append_user(struct buf *out, const struct access_entry *entry)
{
    char user[256];
    struct span value = received_header(entry, "authorization");
    size_t len = 0;
    if (value.len > 6 && ascii_equal(value.text, "basic ", 6))
        len = decode_user((struct span){value.text + 6, value.len - 6}, user, sizeof user);
    append_word(out, (struct span){user, len});
}

static void append_of_request(struct buf *out, const struct access_entry *entry, char atom)
{
    const struct request *request = entry->request;
    if (!is_understood(entry))
        buf_append(out, "-", 1);
    else if (atom == 'm')
        append_span(out, request_text(entry, request->method));
    else if (atom == 'U')
        append_span(out, request_text(entry, request->path));
    else if (atom == 'H')
        append_span(out, protocol_of(entry));
    else /* 'q': empty without a query, as in gunicorn, not "-" */
        log_escape(out, request_at(request, request->query), request->query.length);
}

static void append_duration(struct buf *out, const struct access_entry *entry, char atom)
{
    uint64_t us = entry->duration_ns / 1000;
    if (atom == 'T')
        buf_printf(out, "%" PRIu64, us / 1000000);
    else if (atom == 'M')
        buf_printf(out, "%" PRIu64, us / 1000);
    else if (atom == 'D')
        buf_printf(out, "%" PRIu64, us);
    else
        buf_printf(out, "%" PRIu64 ".%06" PRIu64, us / 1000000, us % 1000000);
}

static void append_ms(struct buf *out, uint64_t ns)
{
    uint64_t us = ns / 1000;
    buf_printf(out, "%" PRIu64 ".%03" PRIu64, us / 1000, us % 1000);
}

/* "-": not known. */
static void append_cost(struct buf *out, const struct access_costs *costs, const char *name)
{
    unsigned part = find_part(name, strlen(name));
    if (!costs)
        buf_append(out, "-", 1);
    else if (part < ACCESS_PARTS)
        append_ms(out, costs->parts_ns[part]);
    else if (strcmp(name, "queries") == 0)
        buf_printf(out, "%u", costs->queries);
    else
        append_c_string(out, strcmp(name, "view") == 0 ? costs->view : costs->trace);
}

/* ---- JSON ---- */

static void append_json_text(struct buf *out, struct span span)
{
    if (!span.text) {
        buf_append_str(out, "null");
        return;
    }
    buf_append(out, "\"", 1);
    log_escape_json(out, span.text, span.len);
    buf_append(out, "\"", 1);
}

static void append_json_field(struct buf *out, const char *key, struct span value)
{
    buf_printf(out, ", \"%s\": ", key);
    append_json_text(out, value);
}

static void append_json_c_string(struct buf *out, const char *key, const char *value)
{
    append_json_field(out, key, (struct span){value, value ? strlen(value) : 0});
}

static void append_json_request(struct buf *out, const struct access_entry *entry)
{
    bool known = is_understood(entry);
    const struct request *request = entry->request;
    struct span none = {0};
    append_json_field(out, "method", known ? request_text(entry, request->method) : none);
    append_json_field(out, "path", known ? request_text(entry, request->path) : none);
    append_json_field(out, "query", known ? request_text(entry, request->query) : none);
    append_json_field(out, "protocol", known ? protocol_of(entry) : none);
}

static void append_json_costs(struct buf *out, const struct access_costs *costs)
{
    if (!costs)
        return;
    append_json_c_string(out, "view", costs->view);
    append_json_c_string(out, "trace", costs->trace);
    buf_printf(out, ", \"queries\": %u, \"ms\": {", costs->queries);
    for (unsigned i = 0; i < ACCESS_PARTS; i++) {
        buf_printf(out, "%s\"%s\": ", i ? ", " : "", access_part_names[i]);
        append_ms(out, costs->parts_ns[i]);
    }
    buf_append(out, "}", 1);
}

static void append_json(struct buf *out, const struct access_entry *entry)
{
    char date[DATE_ISO_LEN + 1];
    uint64_t us = entry->duration_ns / 1000;
    date_write_iso(date, entry->start, 'T');
    buf_printf(out, "{\"time\": \"%s\"", date);
    append_json_c_string(out, "client", entry->client);
    append_json_request(out, entry);
    buf_printf(out,
               ", \"status\": %u, \"bytes\": %" PRIu64 ", \"duration_ms\": %" PRIu64 ".%03" PRIu64,
               entry->status, entry->body_bytes, us / 1000, us % 1000);
    append_json_field(out, "referer", received_header(entry, "referer"));
    append_json_field(out, "user_agent", received_header(entry, "user-agent"));
    buf_printf(out, ", \"worker\": %u", entry->worker);
    append_json_costs(out, entry->costs);
    append_json_c_string(out, "end", entry->end);
    buf_append(out, "}", 1);
}

/* ---- a line ---- */

static void append_piece(struct buf *out, const struct access_entry *entry,
                         const struct piece *piece)
{
    switch (piece->atom) {
    case 0:
        buf_append_str(out, piece->text);
        break;
    case '{':
        append_json(out, entry);
        break;
    case 'h':
        append_c_string(out, entry->client);
        break;
    case 'l':
        buf_append(out, "-", 1);
        break;
    case 'u':
        append_user(out, entry);
        break;
    case 't':
        append_time(out, entry);
        break;
    case 'r':
        append_request_line(out, entry);
        break;
    case 's':
        buf_printf(out, "%03u", entry->status);
        break;
    case 'm':
    case 'U':
    case 'q':
    case 'H':
        append_of_request(out, entry, piece->atom);
        break;
    case 'B':
        buf_printf(out, "%" PRIu64, entry->body_bytes);
        break;
    case 'b':
        if (entry->body_bytes)
            buf_printf(out, "%" PRIu64, entry->body_bytes);
        else
            buf_append(out, "-", 1);
        break;
    case 'f':
        append_span(out, received_header(entry, "referer"));
        break;
    case 'a':
        append_span(out, received_header(entry, "user-agent"));
        break;
    case 'T':
    case 'D':
    case 'M':
    case 'L':
        append_duration(out, entry, piece->atom);
        break;
    case 'p':
        buf_printf(out, "<%d>", (int)(entry->pid ? entry->pid : getpid()));
        break;
    case 'c':
        append_cost(out, entry->costs, piece->text);
        break;
    case 'i':
        append_span(out, received_header(entry, piece->text));
        break;
    case 'o':
        append_span(out, sent_header(entry, piece->text));
        break;
    }
}

void access_line(const struct access_format *format, const struct access_entry *entry,
                 struct buf *out)
{
    for (size_t i = 0; i < format->count; i++)
        append_piece(out, entry, &format->pieces[i]);
    buf_append(out, "\n", 1);
}
