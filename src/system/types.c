/* types.c: media types by the endings of file names.
 *
 * Owns the table: sorted, made once, never changed, and so shared by all processes. */
#include "system/types.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SYSTEM_TABLE "/etc/mime.types"
#define UNKNOWN      "application/octet-stream"

struct type {
    const char *ending; /* "css" */
    const char *type;
};

/* What browsers must get right whatever the system says, then what a system without a table lacks.
 */
static const struct type ours[] = {
    {"js", "text/javascript"},
    {"mjs", "text/javascript"},
    {"wasm", "application/wasm"},
    {"webmanifest", "application/manifest+json"},
    {"avif", "image/avif"},
    {"bmp", "image/bmp"},
    {"css", "text/css"},
    {"csv", "text/csv"},
    {"eot", "application/vnd.ms-fontobject"},
    {"gif", "image/gif"},
    {"gz", "application/gzip"},
    {"htm", "text/html"},
    {"html", "text/html"},
    {"ico", "image/vnd.microsoft.icon"},
    {"jpeg", "image/jpeg"},
    {"jpg", "image/jpeg"},
    {"json", "application/json"},
    {"map", "application/json"},
    {"md", "text/markdown"},
    {"mp3", "audio/mpeg"},
    {"mp4", "video/mp4"},
    {"ogg", "audio/ogg"},
    {"otf", "font/otf"},
    {"pdf", "application/pdf"},
    {"png", "image/png"},
    {"svg", "image/svg+xml"},
    {"ttf", "font/ttf"},
    {"txt", "text/plain"},
    {"webm", "video/webm"},
    {"webp", "image/webp"},
    {"woff", "font/woff"},
    {"woff2", "font/woff2"},
    {"xhtml", "application/xhtml+xml"},
    {"xml", "application/xml"},
    {"zip", "application/zip"},
};
#define OURS_FIRST 4 /* rows that the system's table does not replace */

static struct type *table; /* owned; sorted by ending, each once */
static size_t count;

static int compare(const void *a, const void *b)
{
    return strcasecmp(((const struct type *)a)->ending, ((const struct type *)b)->ending);
}

static void add(const char *ending, const char *type)
{
    table = xrealloc(table, (count + 1) * sizeof(*table));
    table[count++] = (struct type){ending, type};
}

static char *with_charset(const char *type)
{
    bool is_text = strncmp(type, "text/", 5) == 0;
    return xasprintf("%s%s", type, is_text ? "; charset=utf-8" : "");
}

/* "text/css    css": a type and its endings; or a comment. */
static void add_line(char *line)
{
    char *rest;
    line[strcspn(line, "#")] = '\0';
    const char *type = strtok_r(line, " \t\r\n", &rest);
    const char *ending = type ? strtok_r(NULL, " \t\r\n", &rest) : NULL;
    if (!ending)
        return;
    char *full = with_charset(type);
    for (; ending; ending = strtok_r(NULL, " \t\r\n", &rest))
        add(xstrdup(ending), full);
}

static void add_system(FILE *file)
{
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, file) > 0)
        add_line(line);
    free(line);
}

/* Keeps the first row of each ending: a stable order before the sort. */
static void sort(void)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) { /* insertion into what is sorted: a thousand rows, once */
        size_t low = 0, high = kept;
        while (low < high) {
            size_t middle = (low + high) / 2;
            if (compare(&table[middle], &table[i]) < 0)
                low = middle + 1;
            else
                high = middle;
        }
        if (low < kept && compare(&table[low], &table[i]) == 0)
            continue;
        struct type row = table[i];
        memmove(&table[low + 1], &table[low], (kept - low) * sizeof(*table));
        table[low] = row;
        kept++;
    }
    count = kept;
}

void types_load(void)
{
    FILE *file = fopen(SYSTEM_TABLE, "re");
    for (size_t i = 0; i < OURS_FIRST; i++)
        add(ours[i].ending, with_charset(ours[i].type));
    if (file) {
        add_system(file);
        fclose(file);
    }
    for (size_t i = OURS_FIRST; i < ARRAY_LEN(ours); i++)
        add(ours[i].ending, with_charset(ours[i].type));
    sort();
}

const char *types_of(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    const char *dot = strrchr(name, '.');
    if (!dot || !table)
        return UNKNOWN;
    const struct type wanted = {dot + 1, NULL};
    const struct type *found = bsearch(&wanted, table, count, sizeof(*table), compare);
    return found ? found->type : UNKNOWN;
}
