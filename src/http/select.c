/* select.c: which form of a file, and which part of it, answers a request. Owns nothing. */
#include "http/select.h"

#include "base/date.h"

#include <string.h>

const char *const select_coding_names[CODING_COUNT] = {"br", "zstd", "gzip"};
const char *const select_coding_suffixes[CODING_COUNT] = {".br", ".zst", ".gz"};

/* ---- preconditions ---- */

/* Whether `list` is "*" or has the entity tag of the file. Weak comparison takes W/ for nothing;
 * strong comparison lets no weak tag match (RFC 9110 8.8.3.2). */
static bool has_etag(struct text list, const char *etag, bool is_weak)
{
    struct text element;
    if (text_is(list, "*"))
        return true;
    while (text_next_element(&list, &element)) {
        bool weak_tag = element.len > 2 && memcmp(element.data, "W/", 2) == 0;
        if (weak_tag && !is_weak)
            continue;
        if (weak_tag)
            element = (struct text){element.data + 2, element.len - 2};
        if (text_is(element, etag))
            return true;
    }
    return false;
}

/* A date that cannot be read is as good as none. */
static bool is_modified_since(struct text date, const struct select_file *file)
{
    time_t since;
    return !date_read_http(date.data, date.len, &since) || file->modified > since;
}

static bool fails(const struct select_request *request, const struct select_file *file)
{
    time_t since;
    if (request->if_match.data)
        return !has_etag(request->if_match, file->etag, false);
    struct text date = request->if_unmodified_since;
    return date.data && date_read_http(date.data, date.len, &since) && file->modified > since;
}

static bool is_not_modified(const struct select_request *request, const struct select_file *file)
{
    if (request->if_none_match.data)
        return has_etag(request->if_none_match, file->etag, true);
    return request->if_modified_since.data && !is_modified_since(request->if_modified_since, file);
}

/* RFC 9110 13.1.5: the exact date counts, and a weak tag never. */
static bool is_range_wanted(const struct select_request *request, const struct select_file *file)
{
    struct text condition = request->if_range;
    time_t date;
    if (!request->range.data)
        return false;
    if (!condition.data)
        return true;
    if (date_read_http(condition.data, condition.len, &date))
        return date == file->modified;
    return text_is(condition, file->etag);
}

/* ---- ranges ---- */

/* Takes digits from the front of `text`. False: there are none, or too many for a number. */
static bool take_number(struct text *text, uint64_t *number)
{
    size_t len = 0;
    *number = 0;
    for (; len < text->len && text_is_digit(text->data[len]); len++)
        if (__builtin_mul_overflow(*number, 10, number) ||
            __builtin_add_overflow(*number, (uint64_t)(text->data[len] - '0'), number))
            return false;
    *text = (struct text){text->data + len, text->len - len};
    return len > 0;
}

/* "FIRST-", "FIRST-LAST" or "-COUNT". False: it is none of them. `range->bytes` is 0 when it lies
 * behind the end of the file. */
static bool read_range(struct text text, uint64_t file_bytes, struct select_range *range)
{
    uint64_t first = 0, last = file_bytes - 1, count = 0;
    bool has_first = take_number(&text, &first);
    if (text.len == 0 || text.data[0] != '-')
        return false;
    text = (struct text){text.data + 1, text.len - 1};
    if (!has_first) {
        if (!take_number(&text, &count) || text.len > 0)
            return false;
        count = count < file_bytes ? count : file_bytes;
        *range = (struct select_range){file_bytes - count, count};
        return true;
    }
    if (text.len > 0 && (!take_number(&text, &last) || text.len > 0 || last < first))
        return false;
    last = last < file_bytes ? last : file_bytes - 1;
    *range = (struct select_range){first, first < file_bytes ? last - first + 1 : 0};
    return true;
}

/* Joins a range with one before it that it overlaps or touches: a client must not get the same
 * bytes a thousand times (RFC 9110 17.15). */
static void add_range(struct select_ranges *ranges, struct select_range range)
{
    for (unsigned i = 0; i < ranges->count; i++) {
        struct select_range *other = &ranges->items[i];
        uint64_t end = range.offset + range.bytes, other_end = other->offset + other->bytes;
        if (range.offset > other_end || other->offset > end)
            continue;
        range.offset = range.offset < other->offset ? range.offset : other->offset;
        range.bytes = (end > other_end ? end : other_end) - range.offset;
        memmove(other, other + 1, (--ranges->count - i) * sizeof(*other));
        i = (unsigned)-1; /* the larger one may now touch another */
    }
    ranges->items[ranges->count++] = range;
}

/* SELECT_WHOLE: the header is to be ignored: another unit, malformed, or too many ranges. */
static enum select_verdict read_ranges(struct text value, uint64_t file_bytes,
                                       struct select_ranges *ranges)
{
    static const char unit[] = "bytes=";
    struct text element;
    size_t unit_len = sizeof(unit) - 1;
    bool any = false;
    ranges->count = 0;
    if (value.len <= unit_len || !ascii_equal(value.data, unit, unit_len))
        return SELECT_WHOLE;
    value = (struct text){value.data + unit_len, value.len - unit_len};
    while (text_next_element(&value, &element)) {
        struct select_range range;
        if (element.len == 0)
            continue;
        if (!read_range(element, file_bytes, &range))
            return SELECT_WHOLE;
        any = true;
        if (range.bytes == 0)
            continue;
        if (ranges->count == SELECT_RANGES_MAX)
            return SELECT_WHOLE;
        add_range(ranges, range);
    }
    if (ranges->count > 0)
        return SELECT_RANGES;
    return any ? SELECT_UNSATISFIABLE : SELECT_WHOLE;
}

enum select_verdict select_part(const struct select_request *request, bool is_get,
                                const struct select_file *file, struct select_ranges *ranges)
{
    if (fails(request, file))
        return SELECT_FAILED;
    if (is_not_modified(request, file))
        return SELECT_NOT_MODIFIED;
    if (!is_get || !is_range_wanted(request, file))
        return SELECT_WHOLE;
    return read_ranges(request->range, file->bytes, ranges);
}

/* ---- codings ---- */

/* The weight of "NAME;q=0.5" in thousandths; 1000 without one. RFC 9110 12.4.2. What cannot be read
 * is not wanted. */
static unsigned weight_of(struct text parameters)
{
    text_trim(&parameters);
    if (parameters.len == 0)
        return 1000;
    if (parameters.len < 3 || !ascii_equal(parameters.data, "q=", 2))
        return 0;
    unsigned weight = 0, unit = 1000;
    for (size_t i = 2; i < parameters.len; i++) {
        char c = parameters.data[i];
        if (i == 3 && c == '.')
            continue;
        if (!text_is_digit(c) || unit == 0 || (i > 2 && parameters.data[3] != '.'))
            return 0;
        weight += (unsigned)(c - '0') * unit;
        unit /= 10;
    }
    return weight > 1000 ? 0 : weight;
}

static enum select_coding coding_named(struct text name)
{
    for (unsigned i = 0; i < CODING_COUNT; i++)
        if (text_is_word(name, select_coding_names[i]))
            return (enum select_coding)i;
    if (text_is_word(name, "x-gzip"))
        return CODING_GZIP;
    return CODING_IDENTITY;
}

enum select_coding select_coding_of(struct text accept_encoding, unsigned there)
{
    unsigned weights[CODING_COUNT] = {0}, rest = 0, named = 0;
    unsigned identity = 1; /* what is not mentioned may be sent, but nothing is liked less */
    struct text element;
    while (text_next_element(&accept_encoding, &element)) {
        const char *semicolon = element.len ? memchr(element.data, ';', element.len) : NULL;
        struct text name = element, parameters = {0};
        if (semicolon) {
            name.len = (size_t)(semicolon - element.data);
            parameters = (struct text){semicolon + 1, element.len - name.len - 1};
        }
        text_trim(&name);
        unsigned weight = weight_of(parameters);
        enum select_coding coding = coding_named(name);
        if (text_is(name, "*")) {
            rest = weight;
        } else if (text_is_word(name, "identity")) {
            identity = weight;
        } else if (coding != CODING_IDENTITY) {
            weights[coding] = weight;
            named |= 1u << coding;
        }
    }
    enum select_coding best = CODING_IDENTITY;
    unsigned best_weight = 0;
    for (unsigned i = 0; i < CODING_COUNT; i++) {
        unsigned weight = named & 1u << i ? weights[i] : rest;
        if (there & 1u << i && weight > best_weight && weight >= identity) {
            best = (enum select_coding)i;
            best_weight = weight;
        }
    }
    return best;
}

/* ---- names with a hash ---- */

static bool is_hex(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!text_is_digit(text[i]) && (text[i] < 'a' || text[i] > 'f'))
            return false;
    return true;
}

bool select_is_immutable(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    for (const char *dot = strchr(name, '.'); dot; dot = strchr(dot + 1, '.')) {
        size_t len = strcspn(dot + 1, ".");
        if (dot > name && len == 12 && is_hex(dot + 1, len) && dot[13] == '.' && dot[14])
            return true;
    }
    return false;
}
