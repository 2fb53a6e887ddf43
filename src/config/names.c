/* names.c: options that other servers have and that make no difference here, and sentences about
 * unknown ones: the names of other servers, and the name that was probably meant.
 *
 * Owns the distance between two names, and what of gunicorn and uWSGI is accepted: what foreign.c
 * calls needless, and the rows of accepted.def. Of all else it only says what is right. */
#include "names.h"

#include "base/text.h"
#include "config/notes.h"
#include "config/options.h"
#include "foreign.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* The first row about that name; NULL: no other server has it. */
static const struct foreign *find_foreign(const char *name)
{
    for (size_t i = 0; i < foreign_count; i++)
        if (foreign_is_named(&foreign_table[i], name))
            return &foreign_table[i];
    return NULL;
}

/* ", that of waitress-serve --bind", for each server where the name means something else than in
 * `first`; owned by the caller. */
static char *other_meanings(const struct foreign *first, const char *name, const char *dash)
{
    char *text = xstrdup("");

    for (const struct foreign *row = first + 1; row < foreign_table + foreign_count; row++) {
        if (!row->ours || !foreign_is_named(row, name) || strcmp(row->ours, first->ours) == 0)
            continue;
        char *longer = xasprintf("%s, that of %s %s%s", text, row->server, dash, row->ours);
        free(text);
        text = longer;
    }
    return text;
}

/* ---- what is accepted ---- */

#define FLAG "" /* it stands alone */
#define ANY  "*"

static const struct accepted {
    const char *name, *ours;
    const char *accepts; /* see accepted.def */
    const char *note;
} accepted_rows[] = {
#define ACCEPTED(...) {__VA_ARGS__},
#include "accepted.def"
#undef ACCEPTED
};

/* Whether a command line of these servers works here where that is harmless. */
static bool is_imitated(const struct foreign *row)
{
    return strcmp(row->server, "gunicorn") == 0 || strcmp(row->server, "uWSGI") == 0;
}

/* What is accepted under this name; false: nothing. */
static bool find_accepted(const char *name, struct accepted *found)
{
    *found = (struct accepted){.name = NULL};
    if (options_find_action(name) < ACTION_COUNT)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(accepted_rows); i++)
        if (strcmp(accepted_rows[i].name, name) == 0) {
            *found = accepted_rows[i];
            return true;
        }
    for (size_t i = 0; i < foreign_count; i++) {
        const struct foreign *row = &foreign_table[i];
        if (!is_imitated(row) || !foreign_is_named(row, name))
            continue;
        if (row->verdict != FOREIGN_NEEDLESS)
            return false; /* it means something else in one of the two */
        if (!found->name)
            *found = (struct accepted){name, NULL, foreign_takes_value(row, name) ? ANY : FLAG,
                                       row->note};
    }
    return found->name;
}

/* Whether `value` is one of "a|b|c". */
static bool is_among(const char *words, const char *value)
{
    size_t len = strlen(value);

    for (; words; words = strchr(words, '|') ? strchr(words, '|') + 1 : NULL)
        if (strcspn(words, "|") == len && strncmp(words, value, len) == 0)
            return true;
    return false;
}

static bool is_accepted(const struct accepted *row, const char *value)
{
    if (strcmp(row->accepts, FLAG) == 0)
        return is_among("true|1|yes|on", value);
    return strcmp(row->accepts, ANY) == 0 || is_among(row->accepts, value);
}

/* The name as it is written there; owned by the caller. */
static char *spelled(enum name_style style, const char *name)
{
    const char *prefix = style == NAME_ARGV       ? "--"
                         : style == NAME_VARIABLE ? CONFIG_VARIABLE_PREFIX
                                                  : "";
    char *text = xasprintf("%s%s", prefix, text_quote(name));

    for (char *p = text; style == NAME_VARIABLE && *p != '\0'; p++)
        *p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
    return text;
}

/* ---- the nearest name ---- */

static size_t minimum(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* How many letters must be inserted, deleted, replaced or swapped with their neighbour. */
static size_t edit_distance(const char *a, const char *b)
{
    enum { LONGEST = 40 };
    /* set for the analyzer, which does not see that all is written */
    size_t d[LONGEST + 1][LONGEST + 1] = {0};
    size_t a_len = strlen(a), b_len = strlen(b);

    if (a_len > LONGEST || b_len > LONGEST)
        return LONGEST;
    for (size_t i = 0; i <= a_len; i++)
        for (size_t j = 0; j <= b_len; j++) {
            if (i == 0 || j == 0) {
                d[i][j] = i + j;
                continue;
            }
            size_t replaced = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            d[i][j] = minimum(minimum(d[i - 1][j], d[i][j - 1]) + 1, replaced);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                d[i][j] = minimum(d[i][j], d[i - 2][j - 2] + 1);
        }
    return d[a_len][b_len];
}

/* The name that was probably meant, or NULL. */
static const char *nearest_name(const char *name, bool with_actions)
{
    const char *nearest = NULL;
    /* with more wrong letters it is another word */
    size_t nearest_distance = 2 + strlen(name) / 4;

    for (size_t i = 0; i < OPTION_COUNT + (with_actions ? ACTION_COUNT : 0); i++) {
        const char *candidate =
            i < OPTION_COUNT ? options_table[i].name : actions_table[i - OPTION_COUNT].name;
        size_t distance = edit_distance(name, candidate);
        if (distance < nearest_distance) {
            nearest = candidate;
            nearest_distance = distance;
        }
    }
    return nearest;
}

/* ---- public ---- */

enum name_value config_names_value(const char *name)
{
    struct accepted row;

    if (!find_accepted(name, &row))
        return NAME_UNKNOWN;
    return strcmp(row.accepts, FLAG) == 0 ? NAME_IS_FLAG : NAME_HAS_VALUE;
}

const struct option *config_names_accept(const char *place, const char *name, const char *value,
                                         enum name_style style)
{
    struct accepted row;

    if (!find_accepted(name, &row) || !is_accepted(&row, value))
        config_names_die_unknown(place, name, style);
    bool is_flag = strcmp(row.accepts, FLAG) == 0;
    char *there = spelled(style, name), *here = row.ours ? spelled(style, row.ours) : NULL;
    if (row.ours)
        config_note(LOG_INFO, "%s: %s is called %s here%s%s", place, there, here,
                    row.note ? "; " : "", row.note ? row.note : "");
    else
        config_note(LOG_INFO, "%s: %s%s%s changes nothing: %s", place, there,
                    is_flag              ? ""
                    : style == NAME_ARGV ? " "
                                         : " = ",
                    is_flag ? "" : text_quote(value), row.note);
    free(there);
    free(here);
    return row.ours ? options_find(row.ours) : NULL;
}

void config_names_die_unknown(const char *place, const char *name, enum name_style style)
{
    const struct foreign *foreign = find_foreign(name);
    /* the command line has taken it itself */
    const struct option *negated = options_find_negated(name);
    const char *nearest = nearest_name(name, style == NAME_ARGV);
    const char *dash = style == NAME_ARGV ? "--" : "", *shown = spelled(style, name);

    if (style != NAME_ARGV && options_find_action(name) < ACTION_COUNT)
        die(EXIT_CONFIG, "%s: %s works on the command line only", place, shown);
    if (negated)
        die(EXIT_CONFIG, "%s: there is no option %s here; write %s = false", place, shown,
            spelled(style, negated->name));
    if (foreign && foreign->ours)
        die(EXIT_CONFIG, "%s: %s is called %s here%s%s%s", place, shown,
            spelled(style, foreign->ours), other_meanings(foreign, name, dash),
            foreign->note ? "; " : "", foreign->note ? foreign->note : "");
    if (foreign)
        die(EXIT_CONFIG, "%s: there is no %s here: %s", place, shown, foreign->note);
    if (nearest)
        die(EXIT_CONFIG, "%s: there is no option %s; did you mean %s?", place, shown,
            spelled(style, nearest));
    die(EXIT_CONFIG, "%s: there is no option %s; myserver --help lists them", place, shown);
}

/* What it is short for in gunicorn; else what it means in all other servers that have it. */
char *config_names_of_flag(char letter)
{
    const struct foreign *found = NULL;
    char *name = NULL;

    for (const struct foreign *row = foreign_table; row < foreign_table + foreign_count; row++) {
        char *candidate = foreign_name_of_flag(row, letter);
        if (!candidate)
            continue;
        free(name);
        name = candidate;
        if (strcmp(row->server, "gunicorn") == 0)
            return name;
        if (found && (!found->ours || !row->ours || strcmp(found->ours, row->ours) != 0)) {
            free(name);
            return NULL;
        }
        found = row;
    }
    return name;
}
