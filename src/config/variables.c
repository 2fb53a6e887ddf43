/* variables.c: settings in environment variables.
 *
 * Owns the rule by which a variable belongs to an option, and which variables look like that and
 * are none. A wrong name is an error as in the ini file. Never changes the environment. */
#include "variables.h"

#include "base/buf.h"
#include "base/text.h"
#include "config/options.h"
#include "names.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Variables that begin as ours do and are no settings: of an upgrade (USR2), of the launcher and
 * the commands, and of the tests. */
static const char *const others[] = {
    "MYSERVER_SOCKETS", "MYSERVER_UPGRADE", "MYSERVER_LAUNCH", "MYSERVER_PROGRAM",
    "MYSERVER_BIN",     "MYSERVER_FLAVOUR", "MYSERVER_VENV",   CONFIG_VARIABLE_INI,
};

/* Kubernetes and Docker set these in every container for a service whose name begins with myserver.
 */
static bool is_service(const char *name, const char *value)
{
    const char *port = strstr(name, "_PORT_");

    return text_ends_with(name, "_SERVICE_HOST") || strstr(name, "_SERVICE_PORT") ||
           (text_ends_with(name, "_PORT") && strstr(value, "://")) ||
           (port && isdigit((unsigned char)port[strlen("_PORT_")]));
}

static bool is_other(const char *name, const char *value)
{
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        if (strcmp(others[i], name) == 0)
            return true;
    return is_service(name, value);
}

/* MYSERVER_KEEP_ALIVE is keep-alive. */
static const struct option *find_option(const char *variable)
{
    const char *rest = variable + strlen(CONFIG_VARIABLE_PREFIX);
    char *place = xasprintf("environment variable %s", text_quote(variable));
    char *name = options_spell(rest, strlen(rest));

    for (char *p = name; *p != '\0'; p++)
        *p = (char)tolower((unsigned char)*p);
    const struct option *option = options_find(name);
    if (!option)
        config_names_die_unknown(place, name, NAME_VARIABLE);
    char *right = config_variables_name(option);
    if (strcmp(right, variable) != 0)
        die(EXIT_CONFIG, "%s: write %s, in capital letters and with _", place, right);
    free(right);
    free(name);
    free(place);
    return option;
}

const char *config_variables_next(size_t *at, const struct option **option)
{
    size_t prefix_len = strlen(CONFIG_VARIABLE_PREFIX);
    const char *value = NULL;

    while (!value && environ[*at]) {
        const char *entry = environ[(*at)++], *equals = strchr(entry, '=');
        if (strncmp(entry, CONFIG_VARIABLE_PREFIX, prefix_len) != 0 || !equals)
            continue;
        char *name = xasprintf("%.*s", (int)(equals - entry), entry);
        if (equals[1] != '\0' && !is_other(name, equals + 1)) {
            value = equals + 1;
            *option = find_option(name);
        }
        free(name);
    }
    return value;
}

char *config_variables_name(const struct option *option)
{
    char *name = xasprintf(CONFIG_VARIABLE_PREFIX "%s", option->name);

    for (char *p = name; *p != '\0'; p++)
        *p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
    return name;
}

/* Appends what stands between quotes; `text` is behind the first. Returns what follows the second,
 * NULL if there is none. */
static const char *take_quoted(struct buf *word, const char *text, char quote)
{
    for (; *text != quote; text++) {
        if (quote == '"' && *text == '\\' && text[1] != '\0' && strchr("\"\\$`", text[1]))
            text++;
        if (*text == '\0')
            return NULL;
        buf_append(word, text, 1);
    }
    return text + 1;
}

/* Takes one word. Returns what follows it, NULL if a quote has no end. */
static const char *take_word(struct buf *word, const char *text)
{
    while (text && *text != '\0' && !isspace((unsigned char)*text)) {
        if (*text == '\'' || *text == '"') {
            text = take_quoted(word, text + 1, *text);
            continue;
        }
        text += *text == '\\' && text[1] != '\0';
        buf_append(word, text++, 1);
    }
    return text;
}

char **config_variables_words(const char *text)
{
    char **words = xcalloc(strlen(text) / 2 + 2, sizeof *words);
    size_t count = 0;

    while (text) {
        struct buf word = {0};
        text += strspn(text, " \t\n\r\f\v");
        if (*text == '\0')
            return words;
        text = take_word(&word, text);
        words[count++] = xasprintf("%.*s", (int)word.len, word.len == 0 ? "" : word.data);
        buf_fini(&word);
    }
    for (size_t i = 0; i < count; i++)
        free(words[i]);
    free(words);
    return NULL;
}
