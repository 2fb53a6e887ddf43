/* options.c: the table of options and the types of their values.
 *
 * Owns the rows (from options.def) and, per type, how text becomes a member of struct config
 * and becomes text again, with the range check between. A type is one row of `number_types`,
 * or one of the texts.
 *
 * Never reads the command line, the ini file or the environment (argv.c, ini.c, read.c), never
 * prints (docs.c) and never ends the process. Only `auto` looks at the machine. */
#include "config/options.h"

#include "base/cgroup.h"
#include "base/log.h"
#include "config/settings.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AUTO_WORKERS_MAX 12

const struct option options_table[OPTION_COUNT] = {
#define OPTION(field, name, type, section, flag, def, min, max, when, metavar, help)               \
    {#field,  offsetof(struct config, field),                                                      \
     name,    OPTION_##type,                                                                       \
     section, flag,                                                                                \
     def,     min,                                                                                 \
     max,     OPTION_##when,                                                                       \
     metavar, help},
#include "config/options.def"
#undef OPTION
};

const struct action_row actions_table[ACTION_COUNT] = {
    [ACTION_CONFIG] = {"config", 'c', "FILE.ini",
                       "Reads settings from this file; so does FILE.ini as an argument."},
    [ACTION_CHECK] = {"check-config", 0, NULL,
                      "Checks the settings, loads the application as a start would, and exits."},
    [ACTION_PRINT] = {"print-config", 0, NULL,
                      "Prints the settings and where each comes from, and exits."},
    [ACTION_OPTIONS] = {"options", 0, "md|man|ini|json|schema|foreign",
                        "Prints the table of options as a document, and exits; foreign: what "
                        "other servers call them, as JSON."},
    [ACTION_MEMORY] = {"memory-report", 0, "PID",
                       "Prints the memory of the server whose master is PID, and exits."},
    [ACTION_HEALTH] = {"health", 0, NULL,
                       "Asks the server of these settings, at its control address, whether it is "
                       "ready: prints one line, and exits with 0 if it is, else with 1."},
    [ACTION_VERSION] = {"version", 'v', NULL, "Prints the versions, and exits."},
    [ACTION_HELP] = {"help", 'h', NULL, "Prints this list, and exits."},
};

const struct command_row commands_table[] = {
    {"dev", "[APP] [[HOST:]PORT]", "Serves for development: reloads, shows errors in the browser."},
    {"convert", "FILE or COMMAND LINE",
     "Prints the ini that does what the configuration of uWSGI, gunicorn, granian, "
     "mod_wsgi-express or waitress-serve does."},
    {"profile", "[OPTION...]", "Shows where the threads of a running server spend their time."},
    {"memory", "[OPTION...]", "Shows the memory of the workers over time, and what of it grows."},
    {"crash", "[N]", "Shows what a worker did in the minute before it died."},
    {"status", "[OPTION...]", "Shows the status page of a running server in a browser."},
    {"queries", "[OPTION...]", "Shows the statements of a running server to its databases."},
    {"observe", "[PART=on|off...]",
     "Shows which parts of the observation are on, and switches them."},
    {"top", "[OPTION...]", "Shows what a running server does, live: views, requests, statements."},
    {"advice", "[OPTION...]", "Says what the numbers of a running server advise."},
    {NULL, NULL, NULL},
};

const struct option *options_find(const char *name)
{
    for (size_t i = 0; i < OPTION_COUNT; i++)
        if (strcmp(options_table[i].name, name) == 0)
            return &options_table[i];
    return NULL;
}

const struct option *options_find_negated(const char *name)
{
    const struct option *option = strncmp(name, "no-", 3) == 0 ? options_find(name + 3) : NULL;

    return option && option->type == OPTION_BOOL ? option : NULL;
}

char *options_spell(const char *name, size_t len)
{
    char *copy = xasprintf("%.*s", (int)len, name);

    for (char *p = copy; *p != '\0'; p++)
        if (*p == '_')
            *p = '-';
    return copy;
}

size_t options_find_action(const char *name)
{
    size_t action = 0;

    while (action < ACTION_COUNT && strcmp(actions_table[action].name, name) != 0)
        action++;
    return action;
}

bool options_is_list(const struct option *option)
{
    return option->type == OPTION_LIST || option->type == OPTION_PAIRS;
}

static bool is_text(const struct option *option)
{
    return options_is_list(option) || option->type == OPTION_STRING ||
           option->type == OPTION_PREFIX;
}

/* ---- auto: the usable CPUs ---- */

static uint64_t usable_cpus(void)
{
    unsigned cpus = cgroup_usable_cpus();
    return cpus < AUTO_WORKERS_MAX ? cpus : AUTO_WORKERS_MAX;
}

/* ---- numbers ---- */

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit no_units[] = {{"", 1}, {NULL, 0}};
static const struct unit size_units[] = {
    {"g", 1 << 30}, {"m", 1 << 20}, {"k", 1 << 10}, {"", 1}, {NULL, 0}};
static const struct unit duration_units[] = {{"h", 3600000}, {"m", 60000}, {"s", 1000},
                                             {"ms", 1},      {"", 1000},   {NULL, 0}};

/* Reads digits, a fraction if its value is a whole number of the smallest unit, and a unit. A
 * number that is too large for 64 bits becomes UINT64_MAX, which is out of every range. */
static bool parse_scaled(const char *text, const struct unit *unit, uint64_t *value)
{
    size_t digits = strspn(text, "0123456789");
    size_t fraction_digits = 0;
    const char *rest = text + digits;
    uint64_t number = 0, divisor = 1;

    if (digits > 0 && *rest == '.') {
        fraction_digits = strspn(rest + 1, "0123456789");
        rest += 1 + fraction_digits;
    }
    if (digits == 0 || (rest != text + digits && fraction_digits == 0) || fraction_digits > 6)
        return false;
    while (unit->name && strcmp(unit->name, rest) != 0)
        unit++;
    if (!unit->name)
        return false;
    bool fits = true;
    for (const char *p = text; p < rest; p++)
        if (isdigit((unsigned char)*p))
            fits = fits && !__builtin_mul_overflow(number, 10, &number) &&
                   !__builtin_add_overflow(number, (uint64_t)(*p - '0'), &number);
    for (size_t i = 0; i < fraction_digits; i++)
        divisor *= 10;
    fits = fits && !__builtin_mul_overflow(number, unit->factor, &number);
    if (fits && number % divisor != 0)
        return false;
    *value = fits ? number / divisor : UINT64_MAX;
    return true;
}

static bool parse_bool(const char *text, uint64_t *value)
{
    *value = strcmp(text, "true") == 0;
    return *value == 1 || strcmp(text, "false") == 0;
}

static bool parse_count(const char *text, uint64_t *value)
{
    return parse_scaled(text, no_units, value);
}

static bool parse_size(const char *text, uint64_t *value)
{
    return strchr(text, '.') == NULL && parse_scaled(text, size_units, value);
}

static bool parse_memory(const char *text, uint64_t *value)
{
    if (strcmp(text, "auto") != 0) {
        bool is_size = parse_size(text, value);
        if (*value == CONFIG_AUTO)
            *value = UINT64_MAX; /* as what does not fit */
        return is_size;
    }
    *value = CONFIG_AUTO;
    return true;
}

static bool parse_duration(const char *text, uint64_t *value)
{
    return parse_scaled(text, duration_units, value);
}

static bool parse_mode(const char *text, uint64_t *value)
{
    size_t digits = strspn(text, "01234567");

    if (digits == 0 || text[digits] != '\0')
        return false;
    *value = strtoull(text, NULL, 8); /* too large: ULLONG_MAX, out of every range */
    return true;
}

static const char *const levels[] = {
    [LOG_DEBUG] = "debug", [LOG_INFO] = "info",         [LOG_WARNING] = "warning",
    [LOG_ERROR] = "error", [LOG_CRITICAL] = "critical",
};

static bool parse_level(const char *text, uint64_t *value)
{
    for (*value = 0; *value < ARRAY_LEN(levels); ++*value)
        if (strcmp(levels[*value], text) == 0)
            return true;
    return false;
}

/* Indexed by the bits that say which versions may come: 1 for v1, 2 for v2. */
static const char *const proxy_versions[] = {"off", "v1", "v2", "auto"};

static bool parse_proxy(const char *text, uint64_t *value)
{
    for (*value = 0; *value < ARRAY_LEN(proxy_versions); ++*value)
        if (strcmp(proxy_versions[*value], text) == 0)
            return true;
    return false;
}

static bool parse_workers(const char *text, uint64_t *value)
{
    if (strcmp(text, "auto") != 0)
        return parse_count(text, value);
    *value = usable_cpus();
    return true;
}

static char *text_of_bool(uint64_t value)
{
    return xstrdup(value ? "true" : "false");
}

static char *text_of_count(uint64_t value)
{
    return xasprintf("%" PRIu64, value);
}

/* In the largest unit that divides the value. */
static char *text_of_size(uint64_t value)
{
    const struct unit *unit = size_units;

    while (value == 0 ? unit->factor != 1 : value % unit->factor != 0)
        unit++;
    return xasprintf("%" PRIu64 "%s", value / unit->factor, unit->name);
}

static char *text_of_memory(uint64_t value)
{
    return value == CONFIG_AUTO ? xstrdup("auto") : text_of_size(value);
}

static char *text_of_duration(uint64_t value)
{
    return value % 1000 == 0 ? xasprintf("%" PRIu64 "s", value / 1000)
                             : xasprintf("%" PRIu64 "ms", value);
}

static char *text_of_mode(uint64_t value)
{
    return xasprintf("%04" PRIo64, value);
}

static char *text_of_level(uint64_t value)
{
    assert(value < ARRAY_LEN(levels));
    return xstrdup(levels[value]);
}

static char *text_of_proxy(uint64_t value)
{
    assert(value < ARRAY_LEN(proxy_versions));
    return xstrdup(proxy_versions[value]);
}

struct number_type {
    const char *noun;
    const char *rule; /* text after the range, or the whole rule when `has_range` is false */
    bool has_range;
    bool (*parse)(const char *text, uint64_t *value);
    char *(*text_of)(uint64_t value);
};

static const struct number_type number_types[] = {
    [OPTION_BOOL] = {"true or false", "true or false", false, parse_bool, text_of_bool},
    [OPTION_UINT] = {"a whole number", "", true, parse_count, text_of_count},
    [OPTION_SIZE] = {"a size", ", such as 4096, 64k or 1m", true, parse_size, text_of_size},
    [OPTION_MEMORY] = {"a size", ", such as 64m or 1g, or auto", true, parse_memory,
                       text_of_memory},
    [OPTION_DURATION] = {"a duration", ", such as 30, 1.5, 500ms, 2m or 1h", true, parse_duration,
                         text_of_duration},
    [OPTION_MODE] = {"an octal mode", "", true, parse_mode, text_of_mode},
    [OPTION_LEVEL] = {"a level", "debug, info, warning, error or critical", false, parse_level,
                      text_of_level},
    [OPTION_PROXY] = {"a version", "off, v1, v2 or auto", false, parse_proxy, text_of_proxy},
    [OPTION_WORKERS] = {"a whole number", ", or auto", true, parse_workers, text_of_count},
};

static uint64_t load_number(const struct config *c, const struct option *option)
{
    const void *member = (const char *)c + option->offset;

    switch (option->type) {
    case OPTION_BOOL:
        return *(const config_BOOL *)member;
    case OPTION_UINT:
    case OPTION_MODE:
    case OPTION_PROXY:
    case OPTION_WORKERS:
        return *(const unsigned *)member;
    case OPTION_SIZE:
    case OPTION_MEMORY:
    case OPTION_DURATION:
        return *(const uint64_t *)member;
    case OPTION_LEVEL:
        return (uint64_t) * (const config_LEVEL *)member;
    case OPTION_STRING:
    case OPTION_PREFIX:
    case OPTION_LIST:
    case OPTION_PAIRS:
        break;
    }
    assert(false);
    return 0;
}

static void store_number(struct config *c, const struct option *option, uint64_t value)
{
    void *member = (char *)c + option->offset;

    switch (option->type) {
    case OPTION_BOOL:
        *(config_BOOL *)member = value != 0;
        return;
    case OPTION_UINT:
    case OPTION_MODE:
    case OPTION_PROXY:
    case OPTION_WORKERS:
        *(unsigned *)member = (unsigned)value;
        return;
    case OPTION_SIZE:
    case OPTION_MEMORY:
    case OPTION_DURATION:
        *(uint64_t *)member = value;
        return;
    case OPTION_LEVEL:
        *(config_LEVEL *)member = (config_LEVEL)value;
        return;
    case OPTION_STRING:
    case OPTION_PREFIX:
    case OPTION_LIST:
    case OPTION_PAIRS:
        break;
    }
    assert(false);
}

static char *set_number(struct config *c, const struct option *option, const char *text)
{
    const struct number_type *type = &number_types[option->type];
    uint64_t value = 0;

    if (!type->parse(text, &value))
        return xasprintf("is not %s", type->noun);
    bool is_auto = option->type == OPTION_MEMORY && value == CONFIG_AUTO;
    if (!is_auto && (value < option->min || value > option->max))
        return xstrdup("is out of range");
    store_number(c, option, value);
    return NULL;
}

/* ---- texts ---- */

static bool is_prefix(const char *text)
{
    size_t len = strlen(text);

    return len == 0 || (text[0] == '/' && text[len - 1] != '/' && strpbrk(text, "?# ") == NULL);
}

static bool is_pair(const char *text)
{
    size_t len = strcspn(text, "=");

    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)text[i]) && text[i] != '_')
            return false;
    return len > 0 && text[len] == '=' && !isdigit((unsigned char)text[0]);
}

static bool has_control_byte(const char *text)
{
    for (; *text != '\0'; text++)
        if ((iscntrl((unsigned char)*text) && *text != '\t'))
            return true;
    return false;
}

/* Returns NULL, or what is wrong with `text`: a static text. */
static const char *check_text(const struct option *option, const char *text)
{
    if (strlen(text) < option->min)
        return strlen(text) == 0 ? "is empty" : "is too short";
    if (strlen(text) > option->max)
        return "is too long";
    if (option->type == OPTION_PREFIX && !is_prefix(text))
        return "is not the beginning of a path";
    if (option->type == OPTION_PAIRS)
        return is_pair(text) ? NULL : "is not of the form NAME=VALUE";
    return has_control_byte(text) ? "has a control character" : NULL;
}

static char *set_text(struct config *c, const struct option *option, const char *text)
{
    void *member = (char *)c + option->offset;
    const char *wrong = check_text(option, text);
    bool unset = *text == '\0' && !option->default_text;

    if (wrong)
        return xstrdup(wrong);
    if (options_is_list(option)) {
        struct config_list *list = member;
        list->items = xrealloc(list->items, (list->count + 1) * sizeof(*list->items));
        list->items[list->count++] = xstrdup(text);
    } else {
        char **string = member;
        free(*string);
        *string = unset ? NULL : xstrdup(text);
    }
    return NULL;
}

/* ---- public ---- */

char *options_rule(const struct option *option)
{
    if (option->type == OPTION_PREFIX)
        return xstrdup("a path that starts with / and does not end with it, or nothing");
    if (option->type == OPTION_PAIRS)
        return xstrdup("NAME=VALUE");
    if (is_text(option))
        return xasprintf("%" PRIu64 " to %" PRIu64 " bytes of text", option->min, option->max);

    const struct number_type *type = &number_types[option->type];
    if (!type->has_range)
        return xstrdup(type->rule);
    char *min = type->text_of(option->min);
    char *max = type->text_of(option->max);
    char *rule = xasprintf("%s from %s to %s%s", type->noun, min, max, type->rule);
    free(min);
    free(max);
    return rule;
}

char *options_set(struct config *c, const struct option *option, const char *text)
{
    return is_text(option) ? set_text(c, option, text) : set_number(c, option, text);
}

void options_clear(struct config *c, const struct option *option)
{
    void *member = (char *)c + option->offset;

    if (options_is_list(option)) {
        struct config_list *list = member;
        for (size_t i = 0; i < list->count; i++)
            free(list->items[i]);
        free(list->items);
        *list = (struct config_list){0};
    } else if (is_text(option)) {
        free(*(char **)member);
        *(char **)member = NULL;
    } else {
        store_number(c, option, option->default_text ? 0 : CONFIG_UNSET);
    }
}

size_t options_item_count(const struct config *c, const struct option *option)
{
    const void *member = (const char *)c + option->offset;

    if (options_is_list(option))
        return ((const struct config_list *)member)->count;
    if (is_text(option))
        return *(char *const *)member != NULL;
    return option->default_text || load_number(c, option) != CONFIG_UNSET;
}

char *options_item(const struct config *c, const struct option *option, size_t index)
{
    const void *member = (const char *)c + option->offset;

    assert(index < options_item_count(c, option));
    if (options_is_list(option))
        return xstrdup(((const struct config_list *)member)->items[index]);
    if (is_text(option))
        return xstrdup(*(char *const *)member);
    return number_types[option->type].text_of(load_number(c, option));
}

void options_free(struct config *c)
{
    for (size_t i = 0; i < OPTION_COUNT; i++)
        options_clear(c, &options_table[i]);
    free(c->ini_path);
    c->ini_path = NULL;
}

unsigned options_count_at(const char *counts, unsigned index)
{
    for (; counts && index > 0; index--) {
        counts = strchr(counts, ',');
        counts = counts ? counts + 1 : NULL;
    }
    return counts ? (unsigned)strtoul(counts, NULL, 10) : 0;
}
