/* options.c: the table of options and the types of their values. Layer 1.
 *
 * Owns the rows (from options.def) and, per type, how text becomes a member of struct config
 * and becomes text again, with the range check between. A type is one row of `number_types`,
 * or one of the texts.
 *
 * Never reads the command line, the ini file or the environment (config.c), never prints
 * (config_docs.c) and never ends the process. Only `auto` looks at the machine. */
#include "config/options.h"

#include "base/log.h"
#include "config/settings.h"

#include <ctype.h>
#include <inttypes.h>
#include <sched.h>
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

    return option != NULL && option->type == OPTION_BOOL ? option : NULL;
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

/* ---------------------------------------------------------------- auto: the usable CPUs */

static double minimum(double a, double b)
{
    return a < b ? a : b;
}

/* The CPUs that the quota in `directory` allows; AUTO_WORKERS_MAX when there is none. */
static double read_quota(const char *directory, bool is_v2)
{
    const char *names[] = {is_v2 ? "cpu.max" : "cpu.cfs_quota_us", "cpu.cfs_period_us"};
    double values[] = {-1, -1}; /* quota, period; -1: no quota, which v2 writes as "max" */

    for (int i = 0; i < (is_v2 ? 1 : 2); i++) {
        char *path = xasprintf("%s/%s", directory, names[i]);
        FILE *file = fopen(path, "re");
        free(path);
        if (file == NULL)
            return AUTO_WORKERS_MAX;
        bool complete = fscanf(file, "%lf", &values[i]) == 1;
        if (complete && is_v2)
            complete = fscanf(file, "%lf", &values[1]) == 1;
        fclose(file);
        if (!complete)
            return AUTO_WORKERS_MAX;
    }
    return values[0] > 0 && values[1] > 0 ? values[0] / values[1] : AUTO_WORKERS_MAX;
}

/* The smallest quota of the group and all groups that it is in, since each of them applies. In a
 * container the path may be the host's, and of these directories only the mount's root exists. */
static double smallest_quota(const char *mount, const char *group, bool is_v2)
{
    char *directory = xasprintf("%s%s", mount, group);
    double cpus = read_quota(directory, is_v2);
    size_t end = strlen(directory);

    while (end > strlen(mount)) {
        while (directory[--end] != '/')
            ;
        directory[end] = '\0';
        cpus = minimum(cpus, read_quota(directory, is_v2));
    }
    free(directory);
    return cpus;
}

/* `line` is one of /proc/self/cgroup: "0::/path" for v2, "4:cpu,cpuacct:/path" for v1. */
static double quota_of_line(char *line)
{
    char *group = strrchr(line, ':');

    line[strcspn(line, "\n")] = '\0';
    if (group == NULL || group[1] != '/')
        return AUTO_WORKERS_MAX;
    *group++ = '\0';
    if (strcmp(line, "0:") == 0)
        return smallest_quota("/sys/fs/cgroup", group, true);
    char *controllers = strchr(line, ':');
    for (char *rest = controllers; rest != NULL;) {
        const char *name = strsep(&rest, ":,");
        if (strcmp(name, "cpu") == 0)
            return smallest_quota("/sys/fs/cgroup/cpu", group, false);
    }
    return AUTO_WORKERS_MAX;
}

static uint64_t usable_cpus(void)
{
    cpu_set_t sets[8]; /* the kernel refuses a set smaller than its own, up to 8192 CPUs */
    double cpus = AUTO_WORKERS_MAX;
    char *line = NULL;
    size_t size = 0;

    if (sched_getaffinity(0, sizeof(sets), sets) == 0)
        cpus = minimum(cpus, CPU_COUNT_S(sizeof(sets), sets));
    FILE *file = fopen("/proc/self/cgroup", "re");
    while (file != NULL && getline(&line, &size, file) > 0)
        cpus = minimum(cpus, quota_of_line(line));
    if (file != NULL)
        fclose(file);
    free(line);
    /* Rounded up: a part of a CPU is one that can be used for a part of the time. */
    uint64_t whole = (uint64_t)cpus;
    return whole + (cpus > (double)whole);
}

/* ---------------------------------------------------------------- numbers */

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
    while (unit->name != NULL && strcmp(unit->name, rest) != 0)
        unit++;
    if (unit->name == NULL)
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
    uint64_t value;

    if (!type->parse(text, &value))
        return xasprintf("is not %s", type->noun);
    if (value < option->min || value > option->max)
        return xstrdup("is out of range");
    store_number(c, option, value);
    return NULL;
}

/* ---------------------------------------------------------------- texts */

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
    bool unset = *text == '\0' && option->default_text == NULL;

    if (wrong != NULL)
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

/* ---------------------------------------------------------------- public */

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
        store_number(c, option, option->default_text == NULL ? CONFIG_UNSET : 0);
    }
}

size_t options_item_count(const struct config *c, const struct option *option)
{
    const void *member = (const char *)c + option->offset;

    if (options_is_list(option))
        return ((const struct config_list *)member)->count;
    if (is_text(option))
        return *(char *const *)member != NULL;
    return option->default_text != NULL || load_number(c, option) != CONFIG_UNSET;
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
