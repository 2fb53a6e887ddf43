/* read.c: where settings come from: defaults, environment, ini file, command line.
 *
 * Owns the order and the origin of values, and every sentence about one that does not fit its
 * option. The ini file and the command line are first collected as a list of settings and only then
 * applied, so nothing of a broken file takes effect.
 *
 * Never falls back: anything that is not understood ends the process with status 2. Other files:
 * options.c for types and ranges, check.c for mistakes that these allow, ini.c for the file's
 * format, variables.c for variables that are options, names.c for names of other servers and
 * spell.c for their values, notes.c for what the log says of these, origin.c for sentences of other
 * modules, docs.c for help and documents. Runs in the master, before anything else, and in every
 * mold but the first. */
#include "config/read.h"

#include "base/buf.h"
#include "base/text.h"
#include "config/notes.h"
#include "config/origin.h"
#include "ini.h"
#include "names.h"
#include "spell.h"
#include "variables.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A later one replaces an earlier one, but for ORIGIN_ENVIRONMENT, which only replaces the default.
 */
enum origin_kind {
    ORIGIN_DEFAULT,
    ORIGIN_ENVIRONMENT, /* PORT and its like */
    ORIGIN_INI,
    ORIGIN_GUNICORN, /* GUNICORN_CMD_ARGS */
    ORIGIN_VARIABLE, /* MYSERVER_<OPTION> */
    ORIGIN_ARGV,
};

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
};

/* Environment variables that give defaults, and the text to put before the variable's value. */
static const struct {
    size_t option;
    const char *variable;
    const char *prefix;
} environment_defaults[] = {
    {OPTION_INDEX_bind, "PORT", "0.0.0.0:"},
    {OPTION_INDEX_workers, "WEB_CONCURRENCY", ""},
    {OPTION_INDEX_virtualenv, "VIRTUAL_ENV", ""},
    {OPTION_INDEX_forwarded_allow_ips, "FORWARDED_ALLOW_IPS", ""},
    {OPTION_INDEX_script_name, "SCRIPT_NAME", ""},
};

#define GUNICORN_FILE  "gunicorn.conf.py" /* it reads that unasked */
#define GUNICORN_PLACE "environment variable " CONFIG_VARIABLE_ARGV

/* ---- sentences about errors ---- */

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
    char *variable, *place;

    switch (s->kind) {
    case ORIGIN_DEFAULT:
        return xstrdup("default");
    case ORIGIN_ENVIRONMENT:
        return xasprintf("environment variable %s", environment_variable(s->option));
    case ORIGIN_INI:
        return xasprintf("%s:%u", r->config->ini_path, s->line);
    case ORIGIN_GUNICORN:
        return xstrdup(GUNICORN_PLACE);
    case ORIGIN_VARIABLE:
        variable = config_variables_name(s->option);
        place = xasprintf("environment variable %s", variable);
        free(variable);
        return place;
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
    bool has_dashes = s->kind == ORIGIN_ARGV || s->kind == ORIGIN_GUNICORN;
    char *place = xasprintf("%s: %s%s", origin, has_dashes ? "--" : "", s->option->name);

    free(origin);
    return place;
}

NORETURN static void die_value(const struct reader *r, const struct setting *s, const char *wrong)
{
    char *rule = options_rule(s->option);
    char *place = place_of(r, s);

    die(EXIT_CONFIG, "%s: \"%s\" %s; write %s", place, text_quote(s->value), wrong, rule);
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
        text_quote(first->value));
}

/* ---- values that fit and are a mistake ---- */

static bool is_of(const struct option *option, size_t index)
{
    return option == &options_table[index];
}

static bool is_path(const struct option *option)
{
    return strcmp(option->metavar, "FILE") == 0 || strcmp(option->metavar, "DIR") == 0;
}

static bool is_number(const char *text)
{
    return *text != '\0' && text[strspn(text, "0123456789")] == '\0';
}

/* Whether the part before the headers is one word that does not begin with '/': probably a path
 * that lacks its slash. */
static bool is_word(const char *request)
{
    size_t len = strcspn(request, "|");

    while (len > 0 && request[len - 1] == ' ')
        len--;
    return request[0] != '/' && memchr(request, ' ', len) == NULL;
}

/* What is wrong with `text`, which options_set has accepted, and what would be right; NULL:
 * nothing. The caller owns the sentence. */
static char *find_mistake(const struct option *option, const char *text)
{
    if (is_path(option) && text[0] == '~')
        return xstrdup("~ is not expanded; write the whole path, or ${HOME} in an ini file");
    if (is_of(option, OPTION_INDEX_pid) && is_number(text))
        return xstrdup("pid is the path of a file; for the number of processes write workers");
    if (is_of(option, OPTION_INDEX_prewarm) && is_word(text))
        return xasprintf("a request is a path, or a method and a path; write /%s",
                         text_quote(text));
    return NULL;
}

/* Whether " #" may be part of the value in the ini file. Elsewhere the user meant a comment, which
 * it is not. */
static bool may_have_hash(const struct option *option)
{
    return option->type == OPTION_PAIRS || is_of(option, OPTION_INDEX_access_logformat);
}

/* ---- the list of settings ---- */

/* Takes what `s` owns. A value as another server writes it becomes ours, and is noted. */
static void add_setting(struct reader *r, struct setting s)
{
    char *ours = s.option ? config_spell_value(s.option, s.value) : NULL;

    if (ours) {
        char *place = place_of(r, &s);
        config_note(LOG_INFO, "%s: \"%s\" is %s here", place, text_quote(s.value), ours);
        free(place);
        free(s.value);
        s.value = ours;
    }
    r->settings = xrealloc(r->settings, (r->count + 1) * sizeof(*r->settings));
    r->settings[r->count++] = s;
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
    if (wrong)
        die_value(r, s, wrong);
    char *advice = find_mistake(s->option, s->value);
    if (advice)
        die(EXIT_CONFIG, "%s: \"%s\": %s", place_of(r, s), text_quote(s->value), advice);
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
        char *wrong =
            option->default_text ? options_set(r->config, option, option->default_text) : NULL;
        assert(!wrong);
    }
}

/* Uses a variable only where nothing else is set: a variable that is not used cannot be wrong. An
 * empty variable counts as not set. */
static void apply_environment(struct reader *r)
{
    for (size_t i = 0; i < ARRAY_LEN(environment_defaults); i++) {
        const struct option *option = &options_table[environment_defaults[i].option];
        const char *value = getenv(environment_defaults[i].variable);
        if (r->origins[environment_defaults[i].option] != ORIGIN_DEFAULT || !value ||
            *value == '\0')
            continue;
        char *text = xasprintf("%s%s", environment_defaults[i].prefix, value);
        add_setting(r,
                    (struct setting){.option = option, .value = text, .kind = ORIGIN_ENVIRONMENT});
        apply(r, &r->settings[r->count - 1]);
    }
}

/* An option of another server. False: it has no effect, and what `s` owns is freed. */
static bool take_foreign_line(const struct reader *r, struct setting *s)
{
    char *place = where(r, s);

    if (config_names_value(s->name) == NAME_UNKNOWN)
        config_names_die_unknown(place, s->name, NAME_INI);
    s->option = config_names_accept(place, s->name, s->value, NAME_INI);
    if (!s->option) {
        free(s->name);
        free(s->value);
    }
    free(place);
    return s->option;
}

/* Adds the lines of the file. config_ini_read returns only if the whole file can be read. */
static void read_ini(struct reader *r)
{
    struct config_ini ini;

    config_ini_read(&ini, r->config->ini_path);
    for (size_t i = 0; i < ini.count; i++) {
        struct config_ini_line *line = &ini.lines[i];
        struct setting s = {.name = options_spell(line->name, strlen(line->name)),
                            .value = line->value,
                            .kind = ORIGIN_INI,
                            .line = line->number};
        line->value = NULL;
        s.option = options_find(s.name);
        if (!s.option && !take_foreign_line(r, &s))
            continue;
        if (line->has_hash && !may_have_hash(s.option))
            die(EXIT_CONFIG,
                "%s:%u: %s: a comment stands on a line of its own, or has a ; in front of it",
                r->config->ini_path, line->number, s.option->name);
        add_setting(r, s);
    }
    config_ini_free(&ini);
}

/* gunicorn's list of directories is one value: the last one stands first. */
static void add_directories(struct reader *r, struct setting s)
{
    char *comma;

    while (access(s.value, F_OK) != 0 && (comma = strrchr(s.value, ','))) {
        if (comma[1] != '\0')
            add_setting(r, (struct setting){
                               .option = s.option, .value = xstrdup(comma + 1), .kind = s.kind});
        *comma = '\0';
    }
    add_setting(r, s);
}

static void add_arguments(struct reader *r, struct command *command, enum origin_kind kind)
{
    for (size_t i = 0; i < command->count; i++) {
        struct argument *argument = &command->arguments[i];
        struct setting s = {.option = argument->option, .value = argument->value, .kind = kind};
        argument->value = NULL;
        if (is_of(s.option, OPTION_INDEX_pythonpath))
            add_directories(r, s);
        else
            add_setting(r, s);
    }
}

/* Each line of the value of a list is one item. */
static void read_variables(struct reader *r)
{
    const struct option *option;
    const char *value;
    size_t at = 0;

    while ((value = config_variables_next(&at, &option)))
        for (size_t len; *value != '\0'; value += len + (value[len] != '\0')) {
            len = options_is_list(option) ? strcspn(value, "\n") : strlen(value);
            if (len > 0)
                add_setting(r, (struct setting){.option = option,
                                                .value = xasprintf("%.*s", (int)len, value),
                                                .kind = ORIGIN_VARIABLE});
        }
}

/* What gunicorn would read, as long as it is set. Only names are logged: values may be secret. */
static void read_gunicorn(struct command *command)
{
    const char *text = getenv(CONFIG_VARIABLE_ARGV);
    struct buf names = {0};
    char **words = config_variables_words(text ? text : "");

    if (!words)
        die(EXIT_CONFIG, "%s: a quote has no end", GUNICORN_PLACE);
    argv_read_words(command, words, GUNICORN_PLACE);
    for (size_t i = 0; i < command->count; i++)
        buf_printf(&names, "%s%s", i > 0 ? ", " : "", command->arguments[i].option->name);
    if (words[0])
        config_note(LOG_INFO, "%s is read%s%.*s", GUNICORN_PLACE, names.len > 0 ? ": " : "",
                    (int)names.len, names.len > 0 ? names.data : "");
    for (char **word = words; *word; word++)
        free(*word);
    free(words);
    buf_fini(&names);
}

/* The path from the command line, else from the environment. Takes it from the commands. */
static char *take_ini_path(struct command *command, struct command *gunicorn)
{
    const char *variable = getenv(CONFIG_VARIABLE_INI);
    struct command *from = command->ini_path ? command : gunicorn;
    char *path = from->ini_path;

    if (!command->ini_path && variable && *variable != '\0')
        return xstrdup(variable);
    from->ini_path = NULL;
    return path;
}

/* Adds all settings that are written somewhere, each kind together. */
static void collect(struct reader *r, struct command *command)
{
    struct command gunicorn;

    read_gunicorn(&gunicorn);
    r->config->ini_path = take_ini_path(command, &gunicorn);
    if (r->config->ini_path)
        read_ini(r);
    else if (access(GUNICORN_FILE, F_OK) == 0)
        config_note(LOG_WARNING,
                    GUNICORN_FILE " is here, and is not read: settings stand in an ini file");
    add_arguments(r, &gunicorn, ORIGIN_GUNICORN);
    read_variables(r);
    add_arguments(r, command, ORIGIN_ARGV);
    argv_free(&gunicorn);
}

/* ---- checks and output ---- */

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
                text_quote(list->items[j]));
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
                               place_of(r, s ? s : &default_setting));
        }
    }
}

/* Checks what the table cannot express: values that depend on others or on the machine. */
static void validate(const struct reader *r, enum command_verb verb)
{
    const struct config *c = r->config;
    struct stat info;

    if (verb == COMMAND_HEALTH) /* perhaps of another user, or in another container */
        return;
    if (!c->app && verb != COMMAND_PRINT)
        die(EXIT_CONFIG, "no application is given; write \"myserver MODULE:CALLABLE\", such as "
                         "\"myserver shop.wsgi\", or app = MODULE:CALLABLE in an ini file");
    check_distinct(r, OPTION_INDEX_bind, &c->bind, '\0');
    check_distinct(r, OPTION_INDEX_env, &c->env, '=');
    bool is_auto = strcmp(c->tmp_dir, "auto") == 0;
    if (!is_auto && (c->tmp_dir[0] != '/' || stat(c->tmp_dir, &info) != 0 ||
                     !S_ISDIR(info.st_mode) || access(c->tmp_dir, W_OK | X_OK) != 0))
        config_origin_die(EXIT_CONFIG, "tmp-dir", NULL,
                          "\"%s\" is no directory to write to; write the absolute path of one",
                          text_quote(c->tmp_dir));
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
        char *origin = s ? where(r, s) : xstrdup("default");
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

/* ---- public ---- */

struct command config_read(struct config *c, int argc, char **argv)
{
    struct reader r = {.config = c};
    struct command command;

    *c = (struct config){0};
    config_notes_forget();
    apply_defaults(&r);
    argv_read(&command, argc > 0 ? argv + 1 : argv);
    if (command.verb == COMMAND_SERVE || command.verb == COMMAND_CHECK ||
        command.verb == COMMAND_PRINT || command.verb == COMMAND_HEALTH) {
        collect(&r, &command);
        for (enum origin_kind kind = ORIGIN_INI; kind <= ORIGIN_ARGV; kind++)
            apply_all(&r, kind);
        apply_environment(&r);
        note_origins(&r);
        validate(&r, command.verb);
    }
    if (command.verb == COMMAND_PRINT) {
        print_config(&r);
        command.verb = COMMAND_DONE;
    }
    if (command.verb == COMMAND_DONE)
        close_output();
    struct command asked = {.verb = command.verb, .pid = command.pid};
    free_settings(&r);
    argv_free(&command);
    return asked;
}

void config_enter(const struct config *c)
{
    if (c->chdir && chdir(c->chdir) != 0)
        config_origin_die(EXIT_CONFIG, "chdir", NULL, "cannot change to %s: %s", c->chdir,
                          strerror(errno));
}
