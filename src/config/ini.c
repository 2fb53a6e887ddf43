/* ini.c: the ini file as a list of names and values.
 *
 * Owns the file format: one section, NAME = VALUE, comments, ${NAME}, ${NAME:-DEFAULT}. The only
 * file that knows inih. It hides what inih does: it cuts long lines and reports them one line late,
 * joins lines, and does not report sections without keys.
 *
 * Never knows which options exist. */
#include "ini.h"

#include "base/buf.h"
#include "base/text.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct parse {
    struct config_ini *result; /* borrowed */
    const char *path;
    FILE *file;
    char *line; /* owned by getline(3) */
    size_t line_size;
    unsigned number;  /* of the line, from 1 */
    char *long_value; /* value of the line, when it is too long for inih; owned */
};

/* Checks the section here, because inih does not report a section without keys and cuts long names.
 * Removes a comment after it. */
static void check_section(const struct parse *parse, char *text)
{
    char *rest = text + strlen(CONFIG_INI_SECTION);

    if (strncmp(text, CONFIG_INI_SECTION, strlen(CONFIG_INI_SECTION)) != 0)
        die(EXIT_CONFIG,
            "%s:%u: there is no section %s; all settings stand below " CONFIG_INI_SECTION,
            parse->path, parse->number, text_quote(text));
    rest += strspn(rest, " \t");
    if (*rest != '\0' && *rest != ';' && *rest != '#')
        die(EXIT_CONFIG, "%s:%u: nothing may stand behind " CONFIG_INI_SECTION " on its line",
            parse->path, parse->number);
    *rest = '\0';
}

/* The line without blanks, and without a byte order mark in the first line. Leading blanks must go,
 * because inih takes such a line as the continuation of the one before. */
static char *trim(struct parse *parse, size_t len)
{
    char *text = parse->line;

    if (strlen(text) != len)
        die(EXIT_CONFIG, "%s:%u: there is a NUL byte in this line; write text", parse->path,
            parse->number);
    if (parse->number == 1 && strncmp(text, "\xef\xbb\xbf", 3) == 0)
        text += 3;
    while (isspace((unsigned char)*text))
        text++;
    for (len = strlen(text); len > 0 && isspace((unsigned char)text[len - 1]); len--)
        text[len - 1] = '\0';
    return text;
}

/* Keeps the value of a line that inih would cut, and leaves inih "NAME =". */
static void set_aside(struct parse *parse, char *text, size_t longest)
{
    char *value = strpbrk(text, "=:");
    if (!value || (size_t)(value - text) >= longest)
        die(EXIT_CONFIG, "%s:%u: the line is long, and no NAME = VALUE", parse->path,
            parse->number);
    *value++ = '\0';
    value += strspn(value, " \t");
    for (char *at = value; *at; at++)
        if (*at == ';' && at > value && isspace((unsigned char)at[-1]))
            *at = '\0'; /* a comment after the value, by inih's rule */
    size_t len = strlen(value);
    while (len > 0 && isspace((unsigned char)value[len - 1]))
        len--;
    parse->long_value = xasprintf("%.*s", (int)len, value);
    strcat(text, "="); /* there is room where the value was cut off */
}

/* Reads a line for inih. Counts the lines, because inih does not tell its handler the number, and
 * keeps back a value that inih would cut: `room` must also hold the newline and the NUL. A comment
 * may be of any length. */
static char *on_ini_read(char *room, int room_bytes, void *stream)
{
    struct parse *parse = stream;
    size_t longest = (size_t)room_bytes - 2;

    errno = 0;
    ssize_t len = getline(&parse->line, &parse->line_size, parse->file);
    if (len < 0 && errno != 0)
        die(EXIT_CONFIG, "%s: cannot be read: %s", parse->path, strerror(errno));
    if (len < 0)
        return NULL;
    parse->number++;
    char *text = trim(parse, (size_t)len);
    if (*text == ';' || *text == '#')
        *text = '\0';
    if (*text == '[')
        check_section(parse, text);
    if (strlen(text) > longest)
        set_aside(parse, text, longest);
    return strcat(strcpy(room, text), "\n");
}

static bool has_hash(const char *value)
{
    for (const char *at = value; (at = strchr(at, '#')) != NULL; at++)
        if (at > value && isspace((unsigned char)at[-1]))
            return true;
    return false;
}

static int on_ini_setting(void *user, const char *section, const char *name, const char *value)
{
    struct parse *parse = user;

    if (*section == '\0')
        die(EXIT_CONFIG, "%s:%u: %s stands above " CONFIG_INI_SECTION "; write that line first",
            parse->path, parse->number, text_quote(name));
    if (*name == '\0')
        die(EXIT_CONFIG, "%s:%u: there is no name in front of the =; write NAME = VALUE",
            parse->path, parse->number);
    struct config_ini *all = parse->result;
    all->lines = xrealloc(all->lines, (all->count + 1) * sizeof(*all->lines));
    char *owned = parse->long_value ? parse->long_value : xstrdup(value);
    parse->long_value = NULL;
    all->lines[all->count++] = (struct config_ini_line){.name = xstrdup(name),
                                                        .value = owned,
                                                        .has_hash = has_hash(owned),
                                                        .number = parse->number};
    return 1;
}

/* Behind the } that ends what begins at `text`, after "${"; NULL: there is none. */
static const char *find_end(const char *text)
{
    unsigned depth = 1;

    for (; *text != '\0'; text++) {
        depth += text[0] == '$' && text[1] == '{';
        depth -= text[0] == '}';
        if (depth == 0)
            return text + 1;
    }
    return NULL;
}

static size_t name_length(const char *text)
{
    size_t len = 0;

    while (isalnum((unsigned char)text[len]) || text[len] == '_')
        len++;
    return isdigit((unsigned char)text[0]) ? 0 : len;
}

static void expand_into(struct buf *out, const char *text, size_t len, const char *place);

/* Appends the value of NAME} or NAME:-DEFAULT} at `text`, after "${". A variable that is empty has
 * the default, too, as in a shell. Returns what follows the }. */
static const char *expand_variable(struct buf *out, const char *text, const char *place)
{
    const char *end = find_end(text);
    size_t len = name_length(text);
    bool has_default = text[len] == ':' && text[len + 1] == '-';

    if (!end || len == 0)
        die(EXIT_CONFIG, "%s: a ${ without a name and }; write ${NAME}, or $$ for a $", place);
    if (text[len] != '}' && !has_default)
        die(EXIT_CONFIG, "%s: ${%.*s: write ${NAME}, or ${NAME:-DEFAULT}", place, (int)len + 1,
            text_quote(text));
    char *name = xasprintf("%.*s", (int)len, text);
    const char *value = getenv(name);
    if (has_default && (!value || *value == '\0'))
        expand_into(out, text + len + 2, (size_t)(end - text) - len - 3, place);
    else if (!value)
        die(EXIT_CONFIG, "%s: the environment variable %s is not set; set it, or write $$ for a $",
            place, text_quote(name));
    else
        buf_append_str(out, value);
    free(name);
    return end;
}

/* Appends the text with ${NAME}, ${NAME:-DEFAULT} and $$ replaced, once: the value of a variable is
 * not expanded again. */
static void expand_into(struct buf *out, const char *text, size_t len, const char *place)
{
    for (const char *end = text + len; text < end;) {
        const char *dollar = memchr(text, '$', (size_t)(end - text));
        size_t plain = (size_t)((dollar ? dollar : end) - text);
        buf_append(out, text, plain);
        text += plain;
        if (text == end)
            return;
        if (text[1] == '{') {
            text = expand_variable(out, text + 2, place);
        } else if (text[1] == '$') {
            buf_append_str(out, "$");
            text += 2;
        } else {
            die(EXIT_CONFIG, "%s: a $ stands alone; write ${NAME} for a variable, or $$ for a $",
                place);
        }
    }
}

static void expand(const char *path, struct config_ini_line *line)
{
    struct buf out = {0};
    char *place = xasprintf("%s:%u", path, line->number);

    expand_into(&out, line->value, strlen(line->value), place);
    free(place);
    free(line->value);
    line->value = xasprintf("%.*s", (int)out.len, out.len == 0 ? "" : out.data);
    buf_fini(&out);
}

void config_ini_read(struct config_ini *ini, const char *path)
{
    struct parse parse = {.result = ini, .path = path};

    *ini = (struct config_ini){0};
    parse.file = fopen(path, "re");
    if (!parse.file)
        die(EXIT_CONFIG, "%s: cannot be opened: %s", path, strerror(errno));
    int bad_line = ini_parse_stream(on_ini_read, &parse, on_ini_setting, &parse);
    free(parse.line);
    fclose(parse.file);
    if (bad_line > 0)
        die(EXIT_CONFIG,
            "%s:%d: this is no setting; write NAME = VALUE, or ; in front of a comment", path,
            bad_line);
    assert(bad_line == 0);
    for (size_t i = 0; i < ini->count; i++)
        expand(path, &ini->lines[i]);
}

void config_ini_free(struct config_ini *ini)
{
    for (size_t i = 0; i < ini->count; i++) {
        free(ini->lines[i].name);
        free(ini->lines[i].value);
    }
    free(ini->lines);
    *ini = (struct config_ini){0};
}
