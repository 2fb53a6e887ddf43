/* config.c: where settings come from: defaults, environment, ini file, command line. Layer 1.
 *
 * Owns the order and the origin of values, and every sentence about one that does not fit its
 * option. The ini file and the command line are first collected as a list of settings and only then
 * applied, so nothing of a broken file takes effect.
 *
 * Never falls back, warns or ignores: anything that is not understood ends the process with status
 * 2. Other files: options.c for types and ranges, config_check.c for mistakes that these allow,
 * config_ini.c for the file's format, config_names.c for names of other servers, config_origin.c
 * for sentences of other modules, config_docs.c for help and documents. Runs in the master, before
 * anything else, and in every mold but the first. */
#include "config/settings.h"

#include "config/docs.h"
#include "config/ini.h"
#include "config/options.h"
#include "config/origin.h"
#include "config_check.h"
#include "config_names.h"
#include "control/memory.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum origin_kind { ORIGIN_DEFAULT, ORIGIN_ENVIRONMENT, ORIGIN_INI, ORIGIN_ARGV };

struct setting {
    const struct option *option; /* NULL until the name is looked up */
    char *name;                  /* owned; as written, but '_' is '-'; NULL where not needed */
    char *value;                 /* owned */
    enum origin_kind kind;
    unsigned line; /* of the ini file */
};

struct reader {
    struct config *config;
    struct setting *settings; /* owned; in the order in which they were read, each kind together */
    size_t count;
    enum origin_kind origins[OPTION_COUNT];
    enum config_verb verb;
    bool verb_given;
};

const struct config_action_row config_actions[CONFIG_ACTION_COUNT] = {
    [CONFIG_ACTION_CONFIG] = {"config", 'c', "FILE.ini",
                              "Reads settings from this file; so does FILE.ini as an argument."},
    [CONFIG_ACTION_CHECK] =
        {"check-config", 0, NULL,
         "Checks the settings, loads the application as a start would, and exits."},
    [CONFIG_ACTION_PRINT] = {"print-config", 0, NULL,
                             "Prints the settings and where each comes from, and exits."},
    [CONFIG_ACTION_OPTIONS] = {"options", 0, "md|man|ini|json",
                               "Prints the table of options as a document, and exits."},
    [CONFIG_ACTION_MEMORY] = {"memory-report", 0, "PID",
                              "Prints the memory of the server whose master is PID, and exits."},
    [CONFIG_ACTION_VERSION] = {"version", 0, NULL, "Prints the versions, and exits."},
    [CONFIG_ACTION_HELP] = {"help", 'h', NULL, "Prints this list, and exits."},
};

/* Environment variables that give defaults, and the text to put before the variable's value. */
static const struct {
    size_t option;
    const char *variable;
    const char *prefix;
} environment_defaults[] = {
    {OPTION_INDEX_bind, "PORT", "0.0.0.0:"},
    {OPTION_INDEX_workers, "WEB_CONCURRENCY", ""},
    {OPTION_INDEX_tmp_dir, "TMPDIR", ""},
    {OPTION_INDEX_virtualenv, "VIRTUAL_ENV", ""},
};

/* ---------------------------------------------------------------- sentences about errors */

static const char *environment_variable(const struct option *option)
{
    for (size_t i = 0; i < ARRAY_LEN(environment_defaults); i++)
        if (&options_table[environment_defaults[i].option] == option)
            return environment_defaults[i].variable;
    return NULL;
}

/* "shop.ini:3", "command line", "environment variable PORT", "default"; owned by the caller. */
static char *where(const struct reader *r, const struct setting *s)
{
    switch (s->kind) {
    case ORIGIN_DEFAULT:
        return xstrdup("default");
    case ORIGIN_ENVIRONMENT:
        return xasprintf("environment variable %s", environment_variable(s->option));
    case ORIGIN_INI:
        return xasprintf("%s:%u", r->config->ini_path, s->line);
    case ORIGIN_ARGV:
        return xstrdup("command line");
    }
    assert(false);
    return NULL;
}

/* "shop.ini:3: bind", "command line: --bind"; owned by the caller. */
static char *place_of(const struct reader *r, const struct setting *s)
{
    char *origin = where(r, s);
    char *place =
        xasprintf("%s: %s%s", origin, s->kind == ORIGIN_ARGV ? "--" : "", s->option->name);

    free(origin);
    return place;
}

NORETURN static void die_unknown(const struct reader *r, const struct setting *s)
{
    char *place = where(r, s);

    config_names_die_unknown(place, s->name, s->kind == ORIGIN_ARGV);
}

NORETURN static void die_value(const struct reader *r, const struct setting *s, const char *wrong)
{
    char *rule = options_rule(s->option);
    char *place = place_of(r, s);

    die(EXIT_CONFIG, "%s: \"%s\" %s; write %s", place, config_names_quote(s->value), wrong, rule);
}

NORETURN static void die_twice(const struct reader *r, const struct setting *s)
{
    char *place = where(r, s);
    const struct setting *first = r->settings;

    while (first->option != s->option || first->kind != s->kind)
        first++;
    if (s->kind == ORIGIN_INI)
        die(EXIT_CONFIG, "%s: %s is already set on line %u; keep one of them", place,
            s->option->name, first->line);
    if (s->option != &options_table[OPTION_INDEX_app])
        die(EXIT_CONFIG, "%s: --%s is given twice; keep one of them", place, s->option->name);
    bool is_answer = strcmp(s->value, "true") == 0 || strcmp(s->value, "false") == 0 ||
                     strcmp(first->value, "true") == 0 || strcmp(first->value, "false") == 0;
    if (is_answer)
        die(EXIT_CONFIG,
            "%s: true and false are no applications; write --OPTION=false, in one word", place);
    die(EXIT_CONFIG, "%s: two applications are given, \"%s\" and another; keep one of them", place,
        config_names_quote(first->value));
}

/* ---------------------------------------------------------------- the list of settings */

/* Takes what `s` owns. */
static void add_setting(struct reader *r, struct setting s)
{
    r->settings = xrealloc(r->settings, (r->count + 1) * sizeof(*r->settings));
    r->settings[r->count++] = s;
}

static void add_argument(struct reader *r, const struct option *option, const char *value)
{
    add_setting(r,
                (struct setting){.option = option, .value = xstrdup(value), .kind = ORIGIN_ARGV});
}

/* A copy of the name in its only spelling; the caller owns it. */
static char *spell(const char *name, size_t len)
{
    char *copy = xasprintf("%.*s", (int)len, name);

    for (char *p = copy; *p != '\0'; p++)
        if (*p == '_')
            *p = '-';
    return copy;
}

static void free_settings(struct reader *r)
{
    for (size_t i = 0; i < r->count; i++) {
        free(r->settings[i].name);
        free(r->settings[i].value);
    }
    free(r->settings);
}

static void apply(struct reader *r, const struct setting *s)
{
    enum origin_kind *origin = &r->origins[s->option - options_table];
    bool is_first = *origin != s->kind;

    if (!is_first && !options_is_list(s->option))
        die_twice(r, s);
    if (is_first)
        options_clear(r->config, s->option);
    *origin = s->kind;
    char *wrong = options_set(r->config, s->option, s->value);
    if (wrong != NULL)
        die_value(r, s, wrong);
    char *advice = config_check_value(s->option, s->value);
    if (advice != NULL)
        die(EXIT_CONFIG, "%s: \"%s\": %s", place_of(r, s), config_names_quote(s->value), advice);
}

static void apply_all(struct reader *r, enum origin_kind kind)
{
    for (size_t i = 0; i < r->count; i++)
        if (r->settings[i].kind == kind)
            apply(r, &r->settings[i]);
}

static void apply_defaults(struct reader *r)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const struct option *option = &options_table[i];
        options_clear(r->config, option);
        char *wrong = option->default_text == NULL
                          ? NULL
                          : options_set(r->config, option, option->default_text);
        assert(wrong == NULL);
    }
}

/* Uses a variable only where nothing else is set: a variable that is not used cannot be wrong. An
 * empty variable counts as not set. */
static void apply_environment(struct reader *r)
{
    for (size_t i = 0; i < ARRAY_LEN(environment_defaults); i++) {
        const struct option *option = &options_table[environment_defaults[i].option];
        const char *value = getenv(environment_defaults[i].variable);
        if (r->origins[environment_defaults[i].option] != ORIGIN_DEFAULT || value == NULL ||
            *value == '\0')
            continue;
        char *text = xasprintf("%s%s", environment_defaults[i].prefix, value);
        add_setting(r,
                    (struct setting){.option = option, .value = text, .kind = ORIGIN_ENVIRONMENT});
        apply(r, &r->settings[r->count - 1]);
    }
}

/* Adds the lines of the file. config_ini_read returns only if the whole file can be read. */
static void read_ini(struct reader *r)
{
    struct config_ini ini;

    config_ini_read(&ini, r->config->ini_path);
    for (size_t i = 0; i < ini.count; i++) {
        struct config_ini_line *line = &ini.lines[i];
        struct setting s = {.name = spell(line->name, strlen(line->name)),
                            .value = line->value,
                            .kind = ORIGIN_INI,
                            .line = line->number};
        s.option = options_find(s.name);
        if (s.option == NULL)
            die_unknown(r, &s);
        if (line->has_hash && !config_check_may_have_hash(s.option))
            die(EXIT_CONFIG,
                "%s:%u: %s: a comment stands on a line of its own, or has a ; in front of it",
                r->config->ini_path, line->number, s.option->name);
        add_setting(r, s);
        line->value = NULL;
    }
    config_ini_free(&ini);
}

/* ---------------------------------------------------------------- command line */

struct arguments {
    char **next;          /* borrowed; ends with NULL */
    const char *attached; /* the value in the argument itself, or NULL */
};

/* The value of the option that was just read: in the same argument, or the next one. A next one
 * that begins with -- is an option, so the value was forgotten. */
static const char *take_value(struct arguments *a, const char *name, const char *metavar)
{
    if (a->attached != NULL)
        return a->attached;
    if (*a->next == NULL || strncmp(*a->next, "--", 2) == 0)
        die(EXIT_CONFIG, "command line: --%s needs a value; write --%s %s", name, name, metavar);
    return *a->next++;
}

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), end_len = strlen(end);

    return len > end_len && strcmp(text + len - end_len, end) == 0;
}

static void set_ini_path(struct reader *r, const char *path)
{
    assert(path != NULL);
    if (ends_with(path, ".py"))
        die(EXIT_CONFIG,
            "command line: --config %s: that is a Python file; settings stand in an ini file",
            config_names_quote(path));
    if (r->config->ini_path != NULL)
        die(EXIT_CONFIG, "command line: two ini files are given, %s and another; keep one of them",
            config_names_quote(r->config->ini_path));
    r->config->ini_path = xstrdup(path);
}

static void set_verb(struct reader *r, enum config_verb verb)
{
    if (r->verb_given)
        die(EXIT_CONFIG,
            "command line: --check-config and --print-config are given, or one of them "
            "twice; keep one of them");
    r->verb = verb;
    r->verb_given = true;
}

static void print_version(void)
{
    puts("myserver " MYSERVER_VERSION " (Python " MYSERVER_PYTHON ")");
}

/* Returns true when the program has nothing more to do. */
static bool do_action(struct reader *r, enum config_action action, const char *value)
{
    switch (action) {
    case CONFIG_ACTION_CONFIG:
        set_ini_path(r, value);
        return false;
    case CONFIG_ACTION_CHECK:
        set_verb(r, CONFIG_CHECK);
        return false;
    case CONFIG_ACTION_PRINT:
        set_verb(r, CONFIG_PRINTED);
        return false;
    case CONFIG_ACTION_OPTIONS:
        if (!config_docs_write(value, stdout))
            die(EXIT_CONFIG, "command line: --options: \"%s\" is no format; write %s",
                config_names_quote(value), config_actions[action].metavar);
        return true;
    case CONFIG_ACTION_MEMORY:
        memory_report(value, stdout);
        return true;
    case CONFIG_ACTION_VERSION:
        print_version();
        return true;
    case CONFIG_ACTION_HELP:
        config_docs_help(stdout);
        return true;
    case CONFIG_ACTION_COUNT:
        break;
    }
    assert(false);
    return true;
}

static bool take_action(struct reader *r, struct arguments *a, enum config_action action)
{
    const struct config_action_row *row = &config_actions[action];

    if (row->metavar != NULL)
        return do_action(r, action, take_value(a, row->name, row->metavar));
    if (a->attached != NULL)
        die(EXIT_CONFIG, "command line: --%s takes no value; write --%s", row->name, row->name);
    return do_action(r, action, NULL);
}

/* A boolean is written --name, --no-name, or --name=false. */
static void take_option(struct reader *r, struct arguments *a, const struct option *option,
                        bool is_negated)
{
    const char *value = is_negated ? "false" : "true";

    if (option->type != OPTION_BOOL)
        value = take_value(a, option->name, option->metavar);
    else if (a->attached != NULL && is_negated)
        die(EXIT_CONFIG, "command line: --no-%s takes no value; write --%s=%s", option->name,
            option->name, config_names_quote(a->attached));
    else if (a->attached != NULL)
        value = a->attached;
    add_argument(r, option, value);
}

/* `text` is the argument without its dashes. */
static bool take_long(struct reader *r, struct arguments *a, const char *text)
{
    size_t len = strcspn(text, "=");
    char *name = spell(text, len);
    const struct option *option = options_find(name);
    const struct option *negated = options_find_negated(name);
    size_t action = config_names_action(name);
    bool is_done = false;

    a->attached = text[len] == '=' ? text + len + 1 : NULL;
    if (action < CONFIG_ACTION_COUNT)
        is_done = take_action(r, a, (enum config_action)action);
    else if (option != NULL || negated != NULL)
        take_option(r, a, option != NULL ? option : negated, option == NULL);
    else
        die_unknown(r, &(struct setting){.name = name, .kind = ORIGIN_ARGV});
    free(name);
    return is_done;
}

/* -x VALUE or -xVALUE. */
static bool take_short(struct reader *r, struct arguments *a, const char *text)
{
    a->attached = text[1] != '\0' ? text + 1 : NULL;
    for (size_t i = 0; i < OPTION_COUNT; i++)
        if (options_table[i].short_flag == text[0]) {
            take_option(r, a, &options_table[i], false);
            return false;
        }
    for (size_t i = 0; i < CONFIG_ACTION_COUNT; i++)
        if (config_actions[i].short_flag == text[0])
            return take_action(r, a, (enum config_action)i);
    config_names_die_flag(text[0]);
}

static void take_positional(struct reader *r, const char *text)
{
    if (ends_with(text, ".ini")) {
        set_ini_path(r, text);
        return;
    }
    add_argument(r, &options_table[OPTION_INDEX_app], text);
}

/* Returns true when the program has nothing more to do. */
static bool read_arguments(struct reader *r, char **argv)
{
    struct arguments a = {.next = argv};
    bool is_done = false;

    while (!is_done && *a.next != NULL) {
        const char *text = *a.next++;
        if (strncmp(text, "--", 2) == 0)
            is_done = take_long(r, &a, text + 2);
        else if (text[0] == '-' && text[1] != '\0')
            is_done = take_short(r, &a, text + 1);
        else
            take_positional(r, text);
    }
    return is_done;
}

/* ---------------------------------------------------------------- checks and output */

/* The setting that item `index` of an option comes from; NULL: its default. */
static const struct setting *setting_of(const struct reader *r, size_t option, size_t index)
{
    for (size_t i = 0; i < r->count; i++) {
        const struct setting *s = &r->settings[i];
        if (s->option == &options_table[option] && s->kind == r->origins[option] && index-- == 0)
            return s;
    }
    return NULL;
}

/* Refuses two items of the list that are equal up to `end` (a character, or 0 for the whole). */
static void check_distinct(const struct reader *r, size_t option, const struct config_list *list,
                           char end)
{
    const char ends[] = {end, '\0'};

    for (size_t i = 1; i < list->count; i++)
        for (size_t j = 0; j < i; j++) {
            size_t len = strcspn(list->items[i], ends);
            if (len != strcspn(list->items[j], ends) ||
                strncmp(list->items[i], list->items[j], len) != 0)
                continue;
            char *place = place_of(r, setting_of(r, option, i));
            die(EXIT_CONFIG, "%s: \"%.*s\" is given twice; keep one of them", place, (int)len,
                config_names_quote(list->items[j]));
        }
}

/* For the sentences of validate, and of the modules that use the values later. */
static void note_origins(const struct reader *r)
{
    config_origin_forget();
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const struct option *option = &options_table[i];
        for (size_t j = 0; j < options_item_count(r->config, option); j++) {
            const struct setting *s = setting_of(r, i, j);
            struct setting default_setting = {.option = option, .kind = ORIGIN_DEFAULT};
            config_origin_note(option->name, options_item(r->config, option, j),
                               place_of(r, s == NULL ? &default_setting : s));
        }
    }
}

/* Checks what the table cannot express: values that depend on others or on the machine. */
static void validate(const struct reader *r)
{
    const struct config *c = r->config;
    struct stat info;

    if (c->app == NULL && r->verb != CONFIG_PRINTED)
        die(EXIT_CONFIG, "no application is given; write \"myserver MODULE:CALLABLE\", such as "
                         "\"myserver shop.wsgi\", or app = MODULE:CALLABLE in an ini file");
    check_distinct(r, OPTION_INDEX_bind, &c->bind, '\0');
    check_distinct(r, OPTION_INDEX_env, &c->env, '=');
    if (c->tmp_dir[0] != '/' || stat(c->tmp_dir, &info) != 0 || !S_ISDIR(info.st_mode) ||
        access(c->tmp_dir, W_OK | X_OK) != 0)
        config_origin_die(EXIT_CONFIG, "tmp-dir", NULL,
                          "\"%s\" is no directory to write to; write the absolute path of one",
                          config_names_quote(c->tmp_dir));
}

/* Prints a line of an ini file: the value, with $ doubled, and its origin as a comment. */
static void print_item(const char *name, const char *value, const char *origin)
{
    int column = printf("%s =%s", name, *value == '\0' ? "" : " ");

    for (; *value != '\0'; value++)
        column +=
            printf(*value == '$' ? "$$" : "%c", iscntrl((unsigned char)*value) ? '?' : *value);
    printf("%*s; %s\n", column < 40 ? 40 - column : 1, "", origin);
}

static void print_option(const struct reader *r, size_t index)
{
    const struct option *option = &options_table[index];
    size_t count = options_item_count(r->config, option);

    for (size_t i = 0; i < (count == 0 ? 1 : count); i++) {
        const struct setting *s = setting_of(r, index, i);
        char *name = xasprintf("%s%s", count == 0 ? ";" : "", option->name);
        char *value = count == 0 ? xstrdup("") : options_item(r->config, option, i);
        char *origin = s == NULL ? xstrdup("default") : where(r, s);
        print_item(name, value, origin);
        free(name);
        free(value);
        free(origin);
    }
}

static void print_config(const struct reader *r)
{
    puts(CONFIG_INI_SECTION);
    for (size_t i = 0; i < OPTION_COUNT; i++)
        print_option(r, i);
}

static void close_output(void)
{
    if (fflush(stdout) != 0)
        die(EXIT_CRASH, "cannot write to standard output: %s", strerror(errno));
}

/* ---------------------------------------------------------------- public */

enum config_verb config_read(struct config *c, int argc, char **argv)
{
    struct reader r = {.config = c, .verb = CONFIG_SERVE};

    *c = (struct config){0};
    apply_defaults(&r);
    if (read_arguments(&r, argc > 0 ? argv + 1 : argv)) {
        r.verb = CONFIG_PRINTED;
    } else {
        if (c->ini_path != NULL)
            read_ini(&r);
        apply_all(&r, ORIGIN_INI);
        apply_all(&r, ORIGIN_ARGV);
        apply_environment(&r);
        note_origins(&r);
        validate(&r);
        if (r.verb == CONFIG_PRINTED)
            print_config(&r);
    }
    if (r.verb == CONFIG_PRINTED)
        close_output();
    free_settings(&r);
    return r.verb;
}

void config_free(struct config *c)
{
    for (size_t i = 0; i < OPTION_COUNT; i++)
        options_clear(c, &options_table[i]);
    free(c->ini_path);
    c->ini_path = NULL;
}

unsigned config_count_at(const char *counts, unsigned index)
{
    for (; counts && index > 0; index--) {
        counts = strchr(counts, ',');
        counts = counts ? counts + 1 : NULL;
    }
    return counts ? (unsigned)strtoul(counts, NULL, 10) : 0;
}
