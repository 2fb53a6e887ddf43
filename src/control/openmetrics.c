/* openmetrics.c: the OpenMetrics text format. Owns nothing. */
#include "openmetrics.h"

#include <string.h>

#define MEDIA_TYPE "application/openmetrics-text"
#define Q_MOST     1000

/* ---- is it wanted? ---- */

/* Cuts off what is before the next `;`. Semicolons in quotes are not looked for: no type that is
 * answered has any. */
static struct text next_piece(struct text *rest)
{
    const char *end = rest->len ? memchr(rest->data, ';', rest->len) : NULL;
    struct text piece = {rest->data, end ? (size_t)(end - rest->data) : rest->len};
    size_t taken = piece.len + (end != NULL);
    *rest = (struct text){rest->data + taken, rest->len - taken};
    text_trim(&piece);
    return piece;
}

static bool begins(struct text text, const char *name)
{
    return text.len >= strlen(name) && ascii_equal(text.data, name, strlen(name));
}

/* "0.75" in thousandths; what is no weight is 0. */
static unsigned weight_of(struct text value)
{
    unsigned weight = value.len && value.data[0] == '1' ? Q_MOST : 0, unit = Q_MOST / 10;
    for (size_t i = 2; i < value.len && text_is_digit(value.data[i]) && unit; i++, unit /= 10)
        weight += unit * (unsigned)(value.data[i] - '0');
    return weight < Q_MOST ? weight : Q_MOST;
}

/* The weight of one element of Accept; `is_other`: it asks for another version than 1.0.0. */
static unsigned read_parameters(struct text rest, bool *is_other)
{
    unsigned weight = Q_MOST;
    *is_other = false;
    while (rest.len > 0) {
        struct text piece = next_piece(&rest);
        if (begins(piece, "q="))
            weight = weight_of((struct text){piece.data + 2, piece.len - 2});
        else if (begins(piece, "version="))
            *is_other = !text_is_word(piece, "version=1.0.0");
    }
    return weight;
}

bool openmetrics_is_wanted(const struct request *request)
{
    struct buf room = {0};
    struct text list = request_list(request, HTTP_FIELD_OTHER, "Accept", &room), element;
    unsigned open = 0, plain = 0;
    while (list.data && text_next_element(&list, &element)) {
        bool is_other;
        struct text type = next_piece(&element);
        unsigned weight = read_parameters(element, &is_other);
        if (text_is_word(type, MEDIA_TYPE) && !is_other)
            open = weight > open ? weight : open;
        else if (text_is_word(type, "text/plain"))
            plain = weight > plain ? weight : plain;
    }
    buf_fini(&room);
    return open > 0 && open >= plain;
}

/* ---- the format ---- */

/* "# TYPE myserver_requests_total counter" without "_total". */
static void append_comment(struct buf *out, const char *line, size_t len)
{
    static const char suffix[] = "_total ";
    const char *name = memchr(line + 2, ' ', len - 2);
    const char *end = name ? memchr(name + 1, ' ', len - (size_t)(name + 1 - line)) : NULL;
    size_t before = end ? (size_t)(end + 1 - line) : len;
    bool is_total = before > strlen(suffix) &&
                    memcmp(line + before - strlen(suffix), suffix, strlen(suffix)) == 0;
    buf_append(out, line, is_total ? before - strlen(suffix) : before);
    if (is_total)
        buf_append(out, " ", 1);
    buf_append(out, line + before, len - before);
}

/* The bound of a bucket is a number with a fraction or an exponent, where it is a number. */
static void append_sample(struct buf *out, const char *line, size_t len)
{
    static const char label[] = "{le=\"", later[] = ",le=\"";
    const char *bound = memmem(line, len, label, strlen(label));
    bound = bound ? bound : memmem(line, len, later, strlen(later));
    size_t at = bound ? (size_t)(bound + strlen(label) - line) : len;
    size_t end = at + strspn(line + at, "0123456789");
    bool is_whole = bound && end > at && line[end] == '"';
    buf_append(out, line, is_whole ? end : len);
    if (is_whole) {
        buf_append(out, ".0", 2);
        buf_append(out, line + end, len - end);
    }
}

void openmetrics_append(struct buf *out, struct buf *plain)
{
    buf_append(plain, "", 1);
    for (const char *line = plain->data; *line != '\0';) {
        size_t len = strcspn(line, "\n") + 1;
        if (line[0] == '#')
            append_comment(out, line, len);
        else
            append_sample(out, line, len);
        line += len;
    }
    buf_append_str(out, "# EOF\n");
}
