/* exclude.c: which requests the access log leaves out.
 *
 * Owns compiled rules. A client must not be able to hide a request by a path that only begins as
 * the one of a rule: what has dot segments in it is never left out by its path. */
#include "http/exclude.h"

#include "base/text.h"
#include "http/request.h"

#include <stdlib.h>
#include <string.h>

#define STATUSES 1000

struct rule {
    struct text path; /* borrowed; without the slashes at its end; data NULL: any */
    uint64_t statuses[(STATUSES + 63) / 64];
};

struct exclude {
    size_t count;
    struct rule rules[];
};

/* ---- compiling ---- */

static void add_statuses(struct rule *rule, unsigned first, unsigned last)
{
    for (unsigned status = first; status <= last; status++)
        rule->statuses[status / 64] |= 1ull << status % 64;
}

/* "404" or "4xx". */
static bool take_status(struct rule *rule, struct text word)
{
    if (word.len != 3 || !text_is_digit(word.data[0]))
        return false;
    unsigned class = (unsigned)(word.data[0] - '0') * 100;
    if (word.data[1] == 'x' && word.data[2] == 'x') {
        add_statuses(rule, class, class + 99);
        return true;
    }
    if (!text_is_digit(word.data[1]) || !text_is_digit(word.data[2]))
        return false;
    unsigned status = class + (unsigned)(word.data[1] - '0') * 10 + (unsigned)(word.data[2] - '0');
    add_statuses(rule, status, status);
    return true;
}

static bool take_statuses(struct rule *rule, struct text list)
{
    struct text word;
    bool all = list.len > 0;
    while (all && text_next_element(&list, &word))
        all = take_status(rule, word);
    return all;
}

static void take_path(struct rule *rule, struct text path)
{
    while (path.len > 0 && path.data[path.len - 1] == '/')
        path.len--;
    rule->path = path;
}

static bool parse(struct rule *rule, const char *text)
{
    struct text rest = {text, strlen(text)};
    *rule = (struct rule){0};
    if (text[0] == '/') {
        size_t len = strcspn(text, " \t");
        take_path(rule, (struct text){text, len});
        rest = (struct text){text + len, rest.len - len};
        text_trim(&rest);
        if (rest.len == 0) {
            add_statuses(rule, 0, STATUSES - 1);
            return true;
        }
    }
    return take_statuses(rule, rest);
}

bool exclude_is_rule(const char *text)
{
    struct rule rule;
    return parse(&rule, text);
}

struct exclude *exclude_compile(char *const *rules, size_t count)
{
    if (count == 0)
        return NULL;
    struct exclude *exclude = xcalloc(1, sizeof *exclude + count * sizeof *exclude->rules);
    exclude->count = count;
    for (size_t i = 0; i < count; i++)
        if (!parse(&exclude->rules[i], rules[i]))
            assert(false);
    return exclude;
}

void exclude_free(struct exclude *exclude)
{
    free(exclude);
}

/* ---- fitting ---- */

/* "..", also encoded: the path is then not what it begins with. */
static bool has_dots(struct text path)
{
    for (size_t i = 0; i + 1 < path.len; i++)
        if ((path.data[i] == '.' && path.data[i + 1] == '.') ||
            (path.data[i] == '%' && path.data[i + 1] == '2' && i + 2 < path.len &&
             (path.data[i + 2] | 0x20) == 'e'))
            return true;
    return false;
}

static bool fits_path(struct text prefix, struct text path)
{
    if (path.len < prefix.len || memcmp(path.data, prefix.data, prefix.len) != 0)
        return false;
    return (path.len == prefix.len || path.data[prefix.len] == '/') && !has_dots(path);
}

static bool fits(const struct rule *rule, const struct request *request, unsigned status)
{
    if (!(rule->statuses[status / 64] >> status % 64 & 1))
        return false;
    return !rule->path.data || (request && request_has_line(request) &&
                                fits_path(rule->path, request_piece(request, request->path)));
}

bool exclude_fits(const struct exclude *exclude, const struct request *request, unsigned status)
{
    for (size_t i = 0; exclude && status < STATUSES && i < exclude->count; i++)
        if (fits(&exclude->rules[i], request, status))
            return true;
    return false;
}
