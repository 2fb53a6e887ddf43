/* sql.c: statements without their values.
 *
 * Owns nothing. Not a parser: it knows what texts, numbers, names and comments look like in the
 * dialects, and leaves all else as it is. */
#include "shared/sql.h"

#include <string.h>

#define MASK          "%s"
#define DEPTH_MOST    64
#define NAME_MOST     63
/* The length of $12, where the dialect is not known: a longer one may be an amount of money. */
#define NUMBERED_MOST 3

/* What a parenthesis holds: values after IN, a row of VALUES, names of columns, or anything else.
 */
enum group { GROUP_ANY, GROUP_LIST, GROUP_ROW, GROUP_NAMES };

/* What the last token was, where VALUES has rows. */
enum rows { ROWS_NONE, ROWS_FIRST, ROWS_MORE };

struct reader {
    struct text rest;
    enum sql_dialect dialect;
    struct buf *out;
    char before;      /* the last byte that was written and is no blank; 0: none */
    bool blank;       /* a blank is due before the next token */
    struct text word; /* the last token, if it was a word */
    enum group groups[DEPTH_MOST];
    unsigned depth;
    bool had_value;   /* the last token was a value in a list */
    bool has_sign;    /* the last token was the sign of a list's first value */
    bool lists_names; /* the last token was a name that columns follow */
    /* In the list behind BY or SET; `item`: at the beginning of one of its items. */
    enum { LISTS_NOTHING, LISTS_BY, LISTS_SET } lists;
    unsigned lists_depth;
    bool item;
    bool skips;     /* what is read now is not written */
    bool creates;   /* CREATE ... ON table (columns); elsewhere what follows ON is a condition */
    bool is_ranged; /* behind BETWEEN, before its AND */
    enum rows rows;
    unsigned row_depth; /* outside of the rows */
};

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80;
}

static bool is_name(char c)
{
    return is_letter(c) || text_is_digit(c) || c == '$';
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r') || c == '\0';
}

static void skip(struct reader *r, size_t len)
{
    len = len < r->rest.len ? len : r->rest.len;
    r->rest = (struct text){r->rest.data + len, r->rest.len - len};
}

static char at(const struct reader *r, size_t i)
{
    return i < r->rest.len ? r->rest.data[i] : '\0';
}

static enum group group(const struct reader *r)
{
    return r->depth && r->depth <= DEPTH_MOST ? r->groups[r->depth - 1] : GROUP_ANY;
}

static void write(struct reader *r, const char *text, size_t len)
{
    if (r->skips)
        return;
    if (r->blank && r->out->len)
        buf_append(r->out, " ", 1);
    r->blank = false;
    buf_append(r->out, text, len);
    r->before = text[len - 1];
}

/* ---- what is left out ---- */

/* The length of a comment at the reader; 0: there is none. */
static size_t comment_length(const struct reader *r)
{
    const struct text *t = &r->rest;
    bool is_line =
        (at(r, 0) == '-' && at(r, 1) == '-') || (at(r, 0) == '#' && r->dialect == SQL_MYSQL);
    if (is_line) {
        const char *end = memchr(t->data, '\n', t->len);
        return end ? (size_t)(end - t->data) : t->len;
    }
    if (at(r, 0) != '/' || at(r, 1) != '*')
        return 0;
    size_t depth = 1, i = 2;
    for (; i < t->len && depth > 0; i++) {
        bool nests = r->dialect == SQL_POSTGRESQL || r->dialect == SQL_STANDARD;
        bool opens = at(r, i) == '/' && at(r, i + 1) == '*' && nests;
        bool closes = at(r, i) == '*' && at(r, i + 1) == '/';
        depth += opens;
        depth -= closes;
        i += opens || closes;
    }
    return i;
}

/* The length of a text in quotes `quote` that begins at `from`. One that does not end goes to the
 * end of the statement. */
static size_t quoted_length(const struct reader *r, size_t from, char quote, bool has_escapes)
{
    size_t i = from + 1;
    for (; i < r->rest.len; i++)
        if (at(r, i) == '\\' && has_escapes)
            i++;
        else if (at(r, i) == quote && at(r, i + 1) == quote)
            i++;
        else if (at(r, i) == quote)
            return i + 1;
    return r->rest.len;
}

/* $tag$...$tag$ of PostgreSQL; 0: it is none. */
static size_t dollar_length(const struct reader *r)
{
    size_t tag = 1;
    while (is_letter(at(r, tag)) || (tag > 1 && text_is_digit(at(r, tag))))
        tag++;
    if (at(r, tag) != '$' || r->dialect == SQL_MYSQL || r->dialect == SQL_SQLITE)
        return 0;
    tag++;
    const char *end = r->rest.len > 2 * tag
                          ? memmem(r->rest.data + tag, r->rest.len - tag, r->rest.data, tag)
                          : NULL;
    return end ? (size_t)(end - r->rest.data) + tag : r->rest.len;
}

/* q'[...]' of Oracle, with any other pair, or byte, for the brackets; 0: it is none. */
static size_t oracle_length(const struct reader *r)
{
    size_t from = (at(r, 0) | 0x20) == 'n';
    if ((at(r, from) | 0x20) != 'q' || at(r, from + 1) != '\'' || r->dialect != SQL_STANDARD)
        return 0;
    char open = at(r, from + 2);
    const char *pair = open ? strchr("()[]{}<>", open) : NULL;
    char end[] = {pair ? pair[1] : open, '\''};
    size_t begin = from + 3;
    const char *found = r->rest.len > begin
                            ? memmem(r->rest.data + begin, r->rest.len - begin, end, sizeof end)
                            : NULL;
    return found ? (size_t)(found - r->rest.data) + sizeof end : r->rest.len;
}

/* A text in single quotes. In a dialect that is not known a backslash may escape, or not: where
 * that makes a difference, all the rest is a value. */
static size_t single_length(const struct reader *r, size_t prefix, bool has_escapes)
{
    size_t len = quoted_length(r, prefix, '\'', has_escapes);
    bool is_known = has_escapes || r->dialect != SQL_STANDARD;
    return is_known || quoted_length(r, prefix, '\'', true) == len ? len : r->rest.len;
}

/* The length of a text, with the letter before it that says of what kind it is; 0: there is none.
 */
static size_t text_length(const struct reader *r)
{
    bool is_mysql = r->dialect == SQL_MYSQL;
    size_t prefix = oracle_length(r);
    if (prefix)
        return prefix;
    if (strchr("eEnNbBxX", at(r, 0)) && at(r, 0))
        prefix = 1;
    else if ((at(r, 0) == 'u' || at(r, 0) == 'U') && at(r, 1) == '&')
        prefix = 2;
    bool has_escapes = is_mysql || (prefix && (at(r, 0) | 0x20) == 'e');
    if (at(r, prefix) == '\'')
        return single_length(r, prefix, has_escapes);
    if (at(r, 0) == '"' && is_mysql)
        return quoted_length(r, 0, '"', true);
    return at(r, 0) == '$' ? dollar_length(r) : 0;
}

/* 12, 1.5, .5, 1e-9, 0xff, 1_000; 0: it is no number. */
static size_t number_length(const struct reader *r)
{
    size_t i = at(r, 0) == '.';
    if (!text_is_digit(at(r, i)) || (i && is_name(r->before) && !r->blank))
        return 0;
    for (; i < r->rest.len; i++) {
        bool is_sign = (at(r, i) == '-' || at(r, i) == '+') && (at(r, i - 1) | 0x20) == 'e' &&
                       at(r, 1) != 'x' && at(r, 1) != 'X';
        if (!is_name(at(r, i)) && at(r, i) != '.' && !is_sign)
            break;
    }
    return i;
}

/* ---- what stays ---- */

/* :1 is a placeholder of Oracle's; elsewhere it is an end, as in a[2:3]. */
static bool may_follow_colon(const struct reader *r)
{
    return r->dialect == SQL_STANDARD ? is_name(at(r, 1)) : is_letter(at(r, 1));
}

/* %s, %(name)s, ?, ?1, :name, $1, @name; 0: it is no placeholder. "%%", "::" and "?|" are
 * operators. */
static size_t placeholder_length(const struct reader *r)
{
    size_t i = 1;
    char c = at(r, 0);
    if (c == '%' && at(r, 1) == 's')
        return 2;
    if (c == '%' && at(r, 1) == '(') {
        for (i = 2; is_name(at(r, i)); i++)
            continue;
        return at(r, i) == ')' && at(r, i + 1) == 's' ? i + 2 : 0;
    }
    if (c == '?' && at(r, 1) != '|' && at(r, 1) != '&' && at(r, 1) != '?') {
        while (text_is_digit(at(r, i)))
            i++;
        return i;
    }
    bool begins = (c == '$' && text_is_digit(at(r, 1))) ||
                  (c == '@' && is_name(at(r, 1)) && r->before != c) ||
                  (c == ':' && may_follow_colon(r) && r->before != c);
    while (begins && is_name(at(r, i)))
        i++;
    bool is_money = c == '$' && r->dialect == SQL_STANDARD && i > NUMBERED_MOST;
    return begins && !is_money ? i : 0;
}

/* The first byte behind `from` that is no blank. */
static char next_byte(const struct reader *r, size_t from)
{
    while (from < r->rest.len && is_space(at(r, from)))
        from++;
    return at(r, from);
}

static bool is_one_of(struct text word, const char *const *words)
{
    for (; *words; words++)
        if (text_is_word(word, *words))
            return true;
    return false;
}

/* Words that only the name of something follows. */
static bool names_something(struct text word)
{
    static const char *const words[] = {
        "from",   "join",    "into",       "update",    "table", "as",
        "index",  "by",      "view",       "exists",    "to",    "references",
        "column", "collate", "constraint", "savepoint", NULL};
    return is_one_of(word, words);
}

/* Words whose name is followed by names of columns in parentheses. */
static bool names_columns_of(struct text word)
{
    static const char *const words[] = {"into", "table", "exists", "references", "on", NULL};
    return is_one_of(word, words);
}

/* Whether names of columns follow the name at the reader in parentheses. */
static bool is_columns_owner(const struct reader *r)
{
    return names_columns_of(r->word) && (r->creates || !text_is_word(r->word, "on"));
}

/* Whether SQLite cannot take what stands in double quotes, up to `len`, for a text: it does so
 * where there is no such name, and only by its place it is sure to be one. */
static bool is_in_place_of_name(const struct reader *r, size_t len)
{
    char after = next_byte(r, len);
    bool begins = r->before == '(' || r->before == ',';
    if (at(r, len) == '.' || r->before == '.' || names_something(r->word))
        return true;
    if (text_is_word(r->word, "on"))
        return after == '(';
    if (group(r) == GROUP_NAMES)
        return begins;
    return r->item && (r->lists == LISTS_BY || after == '=');
}

static bool follows_comparison(const struct reader *r)
{
    return (r->before && strchr("=<>", r->before)) || text_is_word(r->word, "like") ||
           text_is_word(r->word, "then") || text_is_word(r->word, "else") ||
           text_is_word(r->word, "between");
}

/* "name" is a name, but may be a text, in SQLite and where the dialect is not known. So it stays
 * only if it looks like a name and does not stand where a value may be. */
static bool is_quoted_name(const struct reader *r, size_t len)
{
    bool is_certain = at(r, 0) == '`';
    bool is_closed = len > 1 && at(r, len - 1) == at(r, 0);
    bool is_list = group(r) == GROUP_LIST || group(r) == GROUP_ROW;
    if (!is_closed || len > NAME_MOST + 2 || (is_list && !is_certain))
        return false;
    for (size_t i = 1; i + 1 < len; i++)
        if (!is_name(at(r, i)) && !strchr(" -.", at(r, i)))
            return false;
    if (is_certain || at(r, len) == '.')
        return true;
    return r->dialect == SQL_SQLITE ? is_in_place_of_name(r, len) : !follows_comparison(r);
}

/* ORDER BY 2, GROUP BY 1: a number that is no value, but says which column. */
static bool is_position(const struct reader *r, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!text_is_digit(at(r, i)))
            return false;
    char after = next_byte(r, len);
    return r->item && r->lists == LISTS_BY && len <= 3 &&
           (!after || strchr(",;)", after) || is_letter(after));
}

/* ---- lists ---- */

static void open_group(struct reader *r)
{
    enum group opened = text_is_word(r->word, "in")       ? GROUP_LIST
                        : text_is_word(r->word, "values") ? GROUP_ROW
                        : r->lists_names                  ? GROUP_NAMES
                                                          : GROUP_ANY;
    if (r->depth < DEPTH_MOST)
        r->groups[r->depth] = r->skips ? GROUP_ANY : opened;
    r->depth++;
}

/* Whether a comma begins more values of a list, whose first one is written: they are left out. */
static bool begins_more(const struct reader *r)
{
    return r->had_value && group(r) == GROUP_LIST;
}

static void end_more(struct reader *r)
{
    if (!r->skips || group(r) != GROUP_LIST)
        return;
    r->skips = false;
    r->blank = false;
    write(r, ", ...", 5);
}

/* A word begins or ends a list of columns. */
static void look_for_columns(struct reader *r)
{
    static const char *const ends[] = {
        "where",     "from",   "having", "limit", "offset",    "fetch", "for",   "window", "union",
        "intersect", "except", "rows",   "range", "returning", "on",    "order", "group",  NULL};
    bool is_by = text_is_word(r->word, "by"), is_set = text_is_word(r->word, "set");
    if (is_by || is_set) {
        r->lists = is_by ? LISTS_BY : LISTS_SET;
        r->lists_depth = r->depth;
    } else if (is_one_of(r->word, ends)) {
        r->lists = LISTS_NOTHING;
    }
    r->item = is_by || is_set;
}

static void take_value(struct reader *r, const char *text, size_t shown, size_t len)
{
    bool was_value = r->before == '(' || r->has_sign || r->skips;
    r->lists_names = r->item = r->has_sign = false;
    write(r, text, shown);
    skip(r, len);
    r->word = (struct text){0};
    r->had_value = group(r) == GROUP_LIST && was_value;
    r->rows = r->skips ? r->rows : ROWS_NONE;
}

/* The word, or another that says what it is: FROM of IS DISTINCT FROM and AND of BETWEEN stand
 * before what is compared. */
static struct text known_as(struct reader *r, struct text word)
{
    bool ends_range = r->is_ranged && text_is_word(word, "and");
    bool compares = text_is_word(word, "from") && text_is_word(r->word, "distinct");
    r->is_ranged = text_is_word(word, "between") || (r->is_ranged && !ends_range);
    return ends_range || compares ? (struct text){"between", 7} : word;
}

static void take_word(struct reader *r)
{
    size_t len = 0;
    while (is_name(at(r, len)))
        len++;
    static const char *const before_columns[] = {"conflict", "using", "key", "unique", NULL};
    struct text word = {r->rest.data, len};
    bool is_cast = r->before == ':' && !r->blank; /* of a value: it may be one in a list */
    r->lists_names = is_columns_owner(r) || is_one_of(word, before_columns);
    r->creates |= text_is_word(word, "create");
    r->word = known_as(r, word);
    look_for_columns(r);
    if (group(r) == GROUP_LIST && r->before == '(' && !r->skips)
        r->groups[r->depth - 1] = GROUP_ANY; /* IN (SELECT ...) */
    write(r, r->rest.data, len);
    skip(r, len);
    r->had_value = r->had_value && is_cast;
    r->has_sign = false;
    r->rows = r->skips ? r->rows : ROWS_NONE;
}

/* Whether the reader is at a comma before one more row. */
static bool is_at_row(const struct reader *r)
{
    size_t i = 1;
    while (is_space(at(r, i)) && i < r->rest.len)
        i++;
    return at(r, 0) == ',' && at(r, i) == '(';
}

/* The rows after the first one are left out, with all that is in them. */
static void look_for_rows(struct reader *r)
{
    if (r->skips || r->rows == ROWS_NONE)
        return;
    if (!is_at_row(r)) {
        r->rows = ROWS_NONE;
        return;
    }
    if (r->rows == ROWS_FIRST)
        write(r, ", ...", 5);
    r->rows = ROWS_MORE;
    r->row_depth = r->depth;
    r->skips = true;
}

static void close_group(struct reader *r)
{
    bool was_row = group(r) == GROUP_ROW;
    r->depth -= r->depth > 0;
    if (r->depth < r->lists_depth)
        r->lists = LISTS_NOTHING;
    if (was_row)
        r->rows = ROWS_FIRST;
    else if (r->rows == ROWS_MORE && r->depth == r->row_depth)
        r->skips = r->blank = false;
}

static void take_other(struct reader *r)
{
    char c = at(r, 0);
    if (c == ',' && begins_more(r))
        r->skips = true;
    look_for_rows(r);
    if (c == ')')
        end_more(r);
    if (!(r->skips && c == ',') && c != ':')
        r->had_value = r->skips && r->had_value;
    r->has_sign = (c == '-' || c == '+') && r->before == '(' && group(r) == GROUP_LIST;
    write(r, r->rest.data, 1);
    skip(r, 1);
    if (c == '(')
        open_group(r);
    else if (c == ')')
        close_group(r);
    r->word = (struct text){0};
    r->lists_names = false;
    if (c == ';')
        r->lists = LISTS_NOTHING;
    r->item = c == ',' && r->lists != LISTS_NOTHING && r->depth == r->lists_depth;
}

static void take_token(struct reader *r)
{
    size_t len;
    if (is_space(at(r, 0))) {
        r->blank = true;
        skip(r, 1);
    } else if ((len = comment_length(r))) {
        r->blank = true;
        skip(r, len);
    } else if ((len = number_length(r)) && is_position(r, len)) {
        take_value(r, r->rest.data, len, len);
    } else if ((len = text_length(r)) || (len = number_length(r))) {
        take_value(r, MASK, strlen(MASK), len);
    } else if ((len = placeholder_length(r))) {
        take_value(r, r->rest.data, len, len);
    } else if (at(r, 0) == '"' || at(r, 0) == '`') {
        len = quoted_length(r, 0, at(r, 0), false);
        bool is_name = is_quoted_name(r, len);
        bool columns_follow = is_name && is_columns_owner(r);
        take_value(r, is_name ? r->rest.data : MASK, is_name ? len : strlen(MASK), len);
        r->lists_names = columns_follow;
    } else if (is_letter(at(r, 0))) {
        take_word(r);
    } else {
        take_other(r);
    }
}

void sql_shown(struct buf *out, struct text sql, enum sql_dialect dialect)
{
    struct reader r = {.rest = sql, .dialect = dialect, .out = out};
    while (r.rest.len > 0)
        take_token(&r);
}
