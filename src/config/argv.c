/* argv.c: the command line.
 *
 * Owns its grammar: long and short options, values, a file that ends with .ini, the application.
 * Prints what needs no settings: help, versions, documents. Never looks at a value. */
#include "config/argv.h"

#include "base/text.h"
#include "config/notes.h"
#include "docs.h"
#include "names.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct cursor {
    struct command *command;
    const char *place; /* "command line" */
    bool has_actions;  /* all of them may stand there, not only the ini file */
    bool verb_given;
    char **next;          /* borrowed; ends with NULL */
    const char *attached; /* the value in the argument itself, or NULL */
};

static void add_argument(struct cursor *r, const struct option *option, const char *value)
{
    struct command *c = r->command;
    c->arguments = xrealloc(c->arguments, (c->count + 1) * sizeof(*c->arguments));
    c->arguments[c->count++] = (struct argument){option, xstrdup(value)};
}

/* The value of the option that was just read: in the same argument, or the next one. A next one
 * that begins with -- is an option, so the value was forgotten. */
static const char *take_value(struct cursor *r, const char *name, const char *metavar)
{
    if (r->attached)
        return r->attached;
    if (!*r->next || strncmp(*r->next, "--", 2) == 0)
        die(EXIT_CONFIG, "%s: --%s needs a value; write --%s %s", r->place, name, name, metavar);
    return *r->next++;
}

static void set_ini_path(struct cursor *r, const char *path)
{
    assert(path);
    if (text_ends_with(path, ".py"))
        die(EXIT_CONFIG, "%s: --config %s: that is a Python file; settings stand in an ini file",
            r->place, text_quote(path));
    if (r->command->ini_path)
        die(EXIT_CONFIG, "%s: two ini files are given, %s and another; keep one of them", r->place,
            text_quote(r->command->ini_path));
    r->command->ini_path = xstrdup(path);
}

static void set_verb(struct cursor *r, enum command_verb verb)
{
    if (r->verb_given)
        die(EXIT_CONFIG,
            "command line: of --check-config, --print-config and --health two are given, or one of "
            "them twice; keep one of them");
    r->command->verb = verb;
    r->verb_given = true;
}

static void print_version(void)
{
    puts("myserver " MYSERVER_VERSION " (Python " MYSERVER_PYTHON ")");
}

static bool finish(struct cursor *r)
{
    r->command->verb = COMMAND_DONE;
    return true;
}

/* True: nothing else on the command line counts. */
static bool do_action(struct cursor *r, enum action action, const char *value)
{
    switch (action) {
    case ACTION_CONFIG:
        set_ini_path(r, value);
        return false;
    case ACTION_CHECK:
        set_verb(r, COMMAND_CHECK);
        return false;
    case ACTION_PRINT:
        set_verb(r, COMMAND_PRINT);
        return false;
    case ACTION_OPTIONS:
        if (!config_docs_write(value, stdout))
            die(EXIT_CONFIG, "%s: --options: \"%s\" is no format; write %s", r->place,
                text_quote(value), actions_table[action].metavar);
        return finish(r);
    case ACTION_MEMORY:
        r->command->pid = value;
        r->command->verb = COMMAND_REPORT;
        return true;
    case ACTION_HEALTH:
        set_verb(r, COMMAND_HEALTH);
        return false;
    case ACTION_VERSION:
        print_version();
        return finish(r);
    case ACTION_HELP:
        config_docs_help(stdout);
        return finish(r);
    case ACTION_COUNT:
        break;
    }
    assert(false);
    return true;
}

static bool take_action(struct cursor *r, enum action action)
{
    const struct action_row *row = &actions_table[action];

    if (!r->has_actions && action != ACTION_CONFIG)
        die(EXIT_CONFIG, "%s: --%s works on the command line only", r->place, row->name);
    if (row->metavar)
        return do_action(r, action, take_value(r, row->name, row->metavar));
    if (r->attached)
        die(EXIT_CONFIG, "%s: --%s takes no value; write --%s", r->place, row->name, row->name);
    return do_action(r, action, NULL);
}

/* gunicorn's --proxy-protocol may stand alone. */
static bool lacks_version(const struct cursor *r, const struct option *option)
{
    const char *next = *r->next;

    return option->type == OPTION_PROXY && !r->attached &&
           (!next || next[0] == '-' || strpbrk(next, ".:/") != NULL);
}

/* A boolean is written --name, --no-name, or --name=false. */
static void take_option(struct cursor *r, const struct option *option, bool is_negated)
{
    const char *value = is_negated ? "false" : "true";

    if (lacks_version(r, option)) {
        value = "auto";
        config_note(LOG_INFO, "%s: --%s without a version is --%s auto here", r->place,
                    option->name, option->name);
    } else if (option->type != OPTION_BOOL)
        value = take_value(r, option->name, option->metavar);
    else if (r->attached && is_negated)
        die(EXIT_CONFIG, "%s: --no-%s takes no value; write --%s=%s", r->place, option->name,
            option->name, text_quote(r->attached));
    else if (r->attached)
        value = r->attached;
    add_argument(r, option, value);
}

/* An option of another server. `place` says where it stands. */
static void take_foreign(struct cursor *r, const char *place, const char *name)
{
    const char *value = r->attached ? r->attached : "true";

    switch (config_names_value(name)) {
    case NAME_UNKNOWN:
        config_names_die_unknown(place, name, NAME_ARGV);
    case NAME_HAS_VALUE:
        value = take_value(r, name, "VALUE");
        break;
    case NAME_IS_FLAG:
        break;
    }
    const struct option *ours = config_names_accept(place, name, value, NAME_ARGV);
    if (ours)
        add_argument(r, ours, value);
}

/* `text` is the argument without its dashes. */
static bool take_long(struct cursor *r, const char *text)
{
    size_t len = strcspn(text, "=");
    char *name = options_spell(text, len);
    const struct option *option = options_find(name);
    const struct option *negated = options_find_negated(name);
    size_t action = options_find_action(name);
    bool is_done = false;

    r->attached = text[len] == '=' ? text + len + 1 : NULL;
    if (action < ACTION_COUNT)
        is_done = take_action(r, (enum action)action);
    else if (option || negated)
        take_option(r, option ? option : negated, !option);
    else
        take_foreign(r, r->place, name);
    free(name);
    return is_done;
}

/* -x VALUE, -xVALUE or -x=VALUE. */
static bool take_short(struct cursor *r, const char *text)
{
    r->attached = text[1] != '\0' ? text + 1 + (text[1] == '=') : NULL;
    for (size_t i = 0; i < OPTION_COUNT; i++)
        if (options_table[i].short_flag == text[0]) {
            take_option(r, &options_table[i], false);
            return false;
        }
    for (size_t i = 0; i < ACTION_COUNT; i++)
        if (actions_table[i].short_flag == text[0])
            return take_action(r, (enum action)i);
    char *foreign = config_names_of_flag(text[0]);
    if (!foreign)
        die(EXIT_CONFIG, "%s: there is no option -%c; myserver --help lists them", r->place,
            isprint((unsigned char)text[0]) ? text[0] : '?');
    char *place = xasprintf("%s: -%c", r->place, text[0]);
    take_foreign(r, place, foreign);
    free(place);
    free(foreign);
    return false;
}

static void take_positional(struct cursor *r, const char *text)
{
    if (text_ends_with(text, ".ini")) {
        set_ini_path(r, text);
        return;
    }
    add_argument(r, &options_table[OPTION_INDEX_app], text);
}

static bool is_command(const char *text)
{
    const struct command_row *row = commands_table;
    while (row->name && strcmp(row->name, text) != 0)
        row++;
    return row->name != NULL;
}

static void take_all(struct cursor *r)
{
    bool is_done = false;

    *r->command = (struct command){.verb = COMMAND_SERVE};
    if (r->has_actions && *r->next && is_command(*r->next)) {
        r->command->verb = COMMAND_PYTHON;
        return;
    }
    while (!is_done && *r->next) {
        const char *text = *r->next++;
        if (strncmp(text, "--", 2) == 0)
            is_done = take_long(r, text + 2);
        else if (text[0] == '-' && text[1] != '\0')
            is_done = take_short(r, text + 1);
        else
            take_positional(r, text);
    }
}

void argv_read(struct command *command, char **argv)
{
    take_all(&(struct cursor){
        .command = command, .place = "command line", .has_actions = true, .next = argv});
}

void argv_read_words(struct command *command, char **words, const char *place)
{
    take_all(&(struct cursor){.command = command, .place = place, .next = words});
}

void argv_free(struct command *command)
{
    for (size_t i = 0; i < command->count; i++)
        free(command->arguments[i].value);
    free(command->arguments);
    free(command->ini_path);
    *command = (struct command){0};
}
