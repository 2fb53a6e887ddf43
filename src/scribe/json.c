/* json.c: whether a text is JSON (RFC 8259). Owns nothing, builds nothing. */
#include "json.h"

#include "base/log.h"

#include <ctype.h>
#include <string.h>

#define DEPTH_MAX 64

struct cursor {
    const char *at, *end;
    unsigned depth;
};

static bool skip_value(struct cursor *c);

static void skip_blanks(struct cursor *c)
{
    while (c->at < c->end && strchr(" \t\n\r", *c->at) && *c->at != '\0')
        c->at++;
}

static bool skip_char(struct cursor *c, char wanted)
{
    skip_blanks(c);
    if (c->at == c->end || *c->at != wanted)
        return false;
    c->at++;
    return true;
}

/* Behind a backslash. */
static bool skip_escape(struct cursor *c)
{
    if (c->at == c->end || *c->at == '\0' || !strchr("\"\\/bfnrtu", *c->at))
        return false;
    size_t digits = *c->at++ == 'u' ? 4 : 0;
    for (; digits > 0 && c->at < c->end && isxdigit((unsigned char)*c->at); digits--)
        c->at++;
    return digits == 0;
}

static bool skip_string(struct cursor *c)
{
    if (!skip_char(c, '"'))
        return false;
    while (c->at < c->end && *c->at != '"') {
        unsigned char byte = (unsigned char)*c->at;
        size_t len = byte < 0x80 ? 1 : log_utf8_length(c->at, (size_t)(c->end - c->at));
        if (byte < 0x20 || len == 0)
            return false;
        c->at += len;
        if (byte == '\\' && !skip_escape(c))
            return false;
    }
    return skip_char(c, '"');
}

static size_t skip_digits(struct cursor *c)
{
    const char *start = c->at;
    while (c->at < c->end && isdigit((unsigned char)*c->at))
        c->at++;
    return (size_t)(c->at - start);
}

static bool skip_number(struct cursor *c)
{
    c->at += c->at < c->end && *c->at == '-';
    bool starts_with_zero = c->at < c->end && *c->at == '0';
    size_t digits = skip_digits(c);
    if (digits == 0 || (starts_with_zero && digits > 1))
        return false;
    if (c->at < c->end && *c->at == '.') {
        c->at++;
        if (skip_digits(c) == 0)
            return false;
    }
    if (c->at < c->end && (*c->at | 0x20) == 'e') {
        c->at++;
        c->at += c->at < c->end && (*c->at == '+' || *c->at == '-');
        return skip_digits(c) > 0;
    }
    return true;
}

static bool skip_word(struct cursor *c, const char *word)
{
    size_t len = strlen(word);
    if ((size_t)(c->end - c->at) < len || memcmp(c->at, word, len) != 0)
        return false;
    c->at += len;
    return true;
}

/* An object or an array, up to its `close`. */
static bool skip_members(struct cursor *c, char close, bool named)
{
    bool right = ++c->depth <= DEPTH_MAX;
    c->at++;
    if (right && skip_char(c, close)) {
        c->depth--;
        return true;
    }
    do
        right = right && (!named || (skip_string(c) && skip_char(c, ':'))) && skip_value(c);
    while (right && skip_char(c, ','));
    c->depth--;
    return right && skip_char(c, close);
}

static bool skip_value(struct cursor *c)
{
    skip_blanks(c);
    if (c->at == c->end)
        return false;
    switch (*c->at) {
    case '{':
        return skip_members(c, '}', true);
    case '[':
        return skip_members(c, ']', false);
    case '"':
        return skip_string(c);
    case 't':
        return skip_word(c, "true");
    case 'f':
        return skip_word(c, "false");
    case 'n':
        return skip_word(c, "null");
    default:
        return skip_number(c);
    }
}

bool json_is_object(const char *text, size_t len)
{
    struct cursor c = {.at = text, .end = text + len};
    if (len == 0 || *text != '{' || !skip_value(&c))
        return false;
    skip_blanks(&c);
    return c.at == c.end;
}
