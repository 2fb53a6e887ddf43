/* spell.c: values as gunicorn writes them, in the words of this server.
 *
 * Owns the list of such values. Only what means the same, or cannot be told apart by a client, is
 * here; the names of options are in foreign.def. Never judges a value: options.c does, afterwards.
 */
#include "spell.h"

#include "config/options.h"
#include "config/settings.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* There 0 is no limit; here the largest one is so large that no server behind nginx meets it. */
static const struct {
    size_t option;
    const char *theirs, *ours;
} values[] = {
    {OPTION_INDEX_limit_request_line_bytes, "0", "64k"},
    {OPTION_INDEX_limit_request_field_size_bytes, "0", "64k"},
    {OPTION_INDEX_limit_request_fields, "0", "256"},
    {OPTION_INDEX_limit_request_fields, "32768", "256"}, /* their largest */
};

static bool begins_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

static bool is_ipv4(const char *text)
{
    unsigned dots = 0;

    for (; isdigit((unsigned char)*text) || *text == '.'; text++)
        dots += *text == '.';
    return dots == 3 && *text == '\0';
}

/* unix://PATH, tcp://HOST:PORT, and an address without a port. */
static char *spell_address(const char *value)
{
    const char *address = begins_with(value, "tcp://") ? value + strlen("tcp://") : value;

    if (begins_with(value, "unix://"))
        return xasprintf("unix:%s", value + strlen("unix://"));
    bool is_ipv6 = address[0] == '[' && address[strlen(address) - 1] == ']';
    if (is_ipv4(address) || is_ipv6 || strcmp(address, "localhost") == 0)
        return xasprintf("%s:8000", address);
    return address == value ? NULL : xstrdup(address);
}

/* INFO. */
static char *spell_level(const struct option *option, const char *value)
{
    struct config scratch = {0};
    char *lower = xstrdup(value);

    for (char *p = lower; *p != '\0'; p++)
        *p = (char)tolower((unsigned char)*p);
    char *wrong = options_set(&scratch, option, lower);
    if (!wrong && strcmp(lower, value) != 0)
        return lower;
    free(wrong);
    free(lower);
    return NULL;
}

char *config_spell_value(const struct option *option, const char *value)
{
    size_t index = (size_t)(option - options_table);

    for (size_t i = 0; i < ARRAY_LEN(values); i++)
        if (values[i].option == index && strcmp(values[i].theirs, value) == 0)
            return xstrdup(values[i].ours);
    if (index == OPTION_INDEX_bind)
        return spell_address(value);
    return option->type == OPTION_LEVEL ? spell_level(option, value) : NULL;
}
