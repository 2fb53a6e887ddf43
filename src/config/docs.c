/* docs.c: help, sample ini, reference page, manual page and JSON, from the table of options.
 *
 * Owns the frames of the documents; every line about an option comes from its row. The files in
 * conf/ are the output of this, and a test compares them, so the output must not differ between two
 * machines or two builds. Never reads a setting. */
#include "docs.h"

#include "config/options.h"
#include "foreign.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define HELP_COLUMN 38

static const char about[] = "A pre-forking HTTP/1.1 server for one Python WSGI application.";

/* The atoms that access.c knows; a test compares them with the list in its message about an unknown
 * atom. */
static const struct {
    const char *atom, *meaning;
} atoms[] = {
    {"%(h)s", "the client's address"},
    {"%(l)s", "-"},
    {"%(u)s", "the user name of Basic authentication"},
    {"%(t)s", "when the request began, as [day/month/year:hour:minute:second zone]"},
    {"%(r)s", "the request line"},
    {"%(m)s", "the method of the request"},
    {"%(U)s", "the path of the request"},
    {"%(q)s", "the query of the request"},
    {"%(H)s", "the protocol of the request"},
    {"%(s)s",
     "the status; before there was one 499 when the client left, 000 when the worker ended"},
    {"%(b)s", "how many bytes of the body were sent, - for none"},
    {"%(B)s", "the same, 0 for none"},
    {"%(f)s", "the Referer"},
    {"%(a)s", "the User-Agent"},
    {"%(T)s", "how long it took, in whole seconds"},
    {"%(L)s", "the same in seconds with six decimals"},
    {"%(M)s", "the same in milliseconds"},
    {"%(D)s", "the same in microseconds"},
    {"%(p)s", "the pid of the worker, as <pid>"},
    {"%({NAME}i)s", "the header NAME of the request"},
    {"%({NAME}o)s", "the header NAME of the response"},
    {"%({COST}m)s",
     "a part of the request's time in milliseconds (receive, thread, gil, cpu, db, runqueue, other "
     "or send), or its view, its trace or its number of queries"},
    {"%%", "a %"},
};

static const struct {
    const char *names, *meaning;
} signals[] = {
    {"TERM", "Finishes the running requests, for at most graceful-timeout, then stops."},
    {"INT, QUIT, a second TERM", "Stops at once."},
    {"HUP",
     "Loads the settings and the application again beside the old ones, then replaces the workers "
     "one by one; if loading fails, the old ones go on."},
    {"USR2",
     "Starts the program again beside itself, with the same sockets and all new settings, and "
     "leaves when the new master serves; TERM to the new master before that cancels the upgrade."},
    {"WINCH", "Stops the workers and keeps the sockets: clients wait until HUP or TTIN."},
    {"USR1", "Reopens the log files, for all processes."},
    {"TTIN, TTOU",
     "One worker more, one worker less, until a reload finds another number in the settings."},
};

static bool begins_section(const struct option *option)
{
    return option == options_table || strcmp(option[-1].section, option->section) != 0;
}

/* Whether the metavar is enough in the documents: the only other rule for a text is its length. */
static bool is_plain_text(const struct option *option)
{
    return option->type == OPTION_STRING || option->type == OPTION_LIST;
}

static bool is_named(const struct option *option, const char *field)
{
    return strcmp(option->field, field) == 0;
}

/* ---- --help ---- */

static void help_line(FILE *out, char flag, const char *name, const char *metavar, const char *help)
{
    int column = flag == 0 ? fprintf(out, "      ") : fprintf(out, "  -%c, ", flag);

    column += fprintf(out, "--%s", name);
    if (metavar)
        column += fprintf(out, " %s", metavar);
    fprintf(out, "%*s%s", column < HELP_COLUMN ? HELP_COLUMN - column : 1, "", help);
}

static void help_option(FILE *out, const struct option *option)
{
    bool is_flag = option->type == OPTION_BOOL;

    help_line(out, option->short_flag, option->name, is_flag ? NULL : option->metavar,
              option->help);
    if (option->default_text && *option->default_text != '\0')
        fprintf(out, " [%s]", option->default_text);
    fputc('\n', out);
}

void config_docs_help(FILE *out)
{
    fprintf(out, "%s\n\n", about);
    fputs("Usage: myserver [OPTION...] MODULE[:CALLABLE]\n"
          "       myserver [OPTION...] FILE.ini\n"
          "       myserver COMMAND ...\n"
          "\n"
          "The command line wins over the environment, where options are MYSERVER_NAME=VALUE, and\n"
          "that over the ini file, where they stand below [myserver] as NAME = VALUE.\n"
          "Times: 30, 1.5, 500ms, 2m, 1h. Sizes: 8190, 64k, 1m, 2g.\n"
          "An option without a value is --NAME or --no-NAME, and true or false elsewhere.\n"
          "What gunicorn has and is harmless here is accepted, and the log says so.\n"
          "\nCommands (COMMAND --help says more)\n",
          out);
    for (const struct command_row *row = commands_table; row->name; row++) {
        int column = fprintf(out, "  %s %s", row->name, row->arguments);
        fprintf(out, "%*s%s\n", column < HELP_COLUMN ? HELP_COLUMN - column : 1, "", row->help);
    }
    fputs("\nGeneral\n", out);
    for (size_t i = 0; i < ACTION_COUNT; i++) {
        const struct action_row *row = &actions_table[i];
        help_line(out, row->short_flag, row->name, row->metavar, row->help);
        fputc('\n', out);
    }
    for (const struct option *o = options_table; o < options_table + OPTION_COUNT; o++) {
        if (begins_section(o))
            fprintf(out, "\n%s\n", o->section);
        help_option(out, o);
    }
}

/* ---- sample ini ---- */

static void write_ini(FILE *out)
{
    fputs("# Settings of myserver: myserver FILE.ini, or myserver -c FILE.ini\n"
          "#\n"
          "# Every option is here with its default or, if it has none, with the form of its\n"
          "# value. Remove the ; in front of an option to set it. A comment begins with ; or #\n"
          "# at the start of a line, or with ; after a blank. ${NAME} is the value of that\n"
          "# environment variable, ${NAME:-VALUE} is VALUE if it is not set or empty, $$ is a $.\n"
          "# An option that may be repeated has one line for each value. The command line and\n"
          "# the variables MYSERVER_<OPTION> win over this file.\n"
          "\n"
          "[myserver]\n",
          out);
    for (const struct option *o = options_table; o < options_table + OPTION_COUNT; o++) {
        if (begins_section(o))
            fprintf(out, "\n## %s\n", o->section);
        const char *value = is_named(o, "app")                  ? "shop.wsgi"
                            : is_named(o, "prewarm")            ? "/"
                            : is_named(o, "access_log_exclude") ? "/healthz"
                            : o->default_text                   ? o->default_text
                            : o->type == OPTION_MODE            ? "0022"
                            : o->type == OPTION_UINT            ? "100"
                                                                : o->metavar;
        fprintf(out, "\n# %s\n;%s =%s%s\n", o->help, o->name, *value != '\0' ? " " : "", value);
    }
}

/* ---- reference page ---- */

/* `|` ends a cell of a table, `<` and `*` are markup. */
static void write_cell(FILE *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (strchr("|<>*_[]$\\", *text) != NULL)
            fputc('\\', out);
        fputc(*text, out);
    }
}

static void write_md_option(FILE *out, const struct option *option)
{
    char *rule = is_plain_text(option) ? xstrdup(option->metavar) : options_rule(option);

    fprintf(out, "| `--%s`", option->name);
    if (option->short_flag != 0)
        fprintf(out, ", `-%c`", option->short_flag);
    fputs(" | ", out);
    if (!option->default_text)
        fputs("not set", out);
    else if (*option->default_text == '\0')
        fputs("empty", out);
    else
        fprintf(out, "`%s`", option->default_text);
    fputs(" | ", out);
    write_cell(out, rule);
    fputs(option->when == OPTION_RELOAD ? " | reload | " : " | restart | ", out);
    write_cell(out, option->help);
    fputs(" |\n", out);
    free(rule);
}

static void write_md(FILE *out)
{
    fprintf(out, "# Options of myserver\n\n%s\n\n", about);
    fputs(
        "    myserver [OPTION...] MODULE[:CALLABLE]\n"
        "    myserver [OPTION...] FILE.ini\n"
        "\n"
        "An option has one name: `--keep-alive 30` on the command line is `keep-alive = 30`\n"
        "below `[myserver]` in the ini file, and `MYSERVER_KEEP_ALIVE=30` in the environment,\n"
        "where each line of the value of a list is one item. `MYSERVER_CONFIG` names the ini\n"
        "file. An empty variable counts as not set. The command line wins over these variables,\n"
        "they over the ini file, the file over the other variables that are named below, and\n"
        "these over the defaults; `--print-config` shows what came from where. A list is\n"
        "replaced as a whole. An option that is true or false is `--reload` or `--no-reload` on\n"
        "the command line, and `reload = true` in the ini file.\n"
        "\n"
        "What gunicorn has, and what means the same here or makes no difference, is accepted\n"
        "under its name there (`--worker-class gthread`, `--log-file`, `--log-level INFO`), and "
        "the\n"
        "log says what became of it; so are options of uWSGI that make no difference. What\n"
        "would be different is refused with the name of what does it here. `GUNICORN_CMD_ARGS` is\n"
        "read if it is set: it wins over the ini file, and `MYSERVER_<OPTION>` over it.\n"
        "\n"
        "A reload (HUP) reads the ini file again and applies the options marked reload. Those\n"
        "marked restart need a restart or an upgrade (USR2); the log names them when a reload\n"
        "finds them changed.\n"
        "\n"
        "A mistake (an unknown name, a value out of range, an option given twice that cannot\n"
        "be repeated) ends the program with status 2 and a sentence that says where the\n"
        "mistake is and what would be right.\n"
        "\n"
        "In the ini file `${NAME}` is the value of that environment variable, `${NAME:-VALUE}`\n"
        "is `VALUE` if that is not set or empty, and `$$` is `$`.\n"
        "A comment begins with `;` or `#` at the start of a line, or with `;` after a blank.\n",
        out);
    fputs("\n## Commands\n\n| Command | What it does |\n|---|---|\n", out);
    for (const struct command_row *row = commands_table; row->name; row++)
        fprintf(out, "| `myserver %s %s` | %s |\n", row->name, row->arguments, row->help);
    fputs("\n## Command line only\n\n| Option | What it does |\n|---|---|\n", out);
    for (size_t i = 0; i < ACTION_COUNT; i++) {
        const struct action_row *row = &actions_table[i];
        fprintf(out, "| `--%s`", row->name);
        if (row->short_flag != 0)
            fprintf(out, ", `-%c`", row->short_flag);
        fprintf(out, " | %s |\n", row->help);
    }
    for (const struct option *o = options_table; o < options_table + OPTION_COUNT; o++) {
        if (begins_section(o))
            fprintf(out,
                    "\n## %s\n\n"
                    "| Option | Default | Value | Applied by | What it does |\n"
                    "|---|---|---|---|---|\n",
                    o->section);
        write_md_option(out, o);
    }
    fputs("\n## Atoms of access-logformat\n\n| Atom | What it is |\n|---|---|\n", out);
    for (size_t i = 0; i < ARRAY_LEN(atoms); i++) {
        fprintf(out, "| `%s` | ", atoms[i].atom);
        write_cell(out, atoms[i].meaning);
        fputs(" |\n", out);
    }
}

/* ---- manual page ---- */

/* roff: a plain - is a hyphen, a backslash begins an escape, and a dot at the start of a line a
 * request. */
static void write_roff(FILE *out, const char *text)
{
    if (*text == '.' || *text == '\'')
        fputs("\\&", out);
    for (; *text != '\0'; text++)
        if (*text == '\\')
            fputs("\\e", out);
        else if (*text == '-')
            fputs("\\-", out);
        else
            fputc(*text, out);
}

static void write_man_entry(FILE *out, char flag, const char *name, const char *metavar,
                            const char *help)
{
    fputs(".TP\n", out);
    if (flag != 0)
        fprintf(out, "\\fB\\-%c\\fR, ", flag);
    fputs("\\fB\\-\\-", out);
    write_roff(out, name);
    fputs("\\fR", out);
    if (metavar) {
        fputs(" \\fI", out);
        write_roff(out, metavar);
        fputs("\\fR", out);
    }
    fputc('\n', out);
    write_roff(out, help);
    fputc('\n', out);
}

static void write_man_option(FILE *out, const struct option *option)
{
    char *rule = options_rule(option);

    write_man_entry(out, option->short_flag, option->name,
                    option->type == OPTION_BOOL ? NULL : option->metavar, option->help);
    if (!is_plain_text(option)) {
        fputs("Value: ", out);
        write_roff(out, rule);
        fputs(".\n", out);
    }
    if (option->default_text && *option->default_text != '\0') {
        fputs("Default: ", out);
        write_roff(out, option->default_text);
        fputs(".\n", out);
    }
    if (option->when == OPTION_RESTART)
        fputs("Needs a restart or an upgrade.\n", out);
    free(rule);
}

static void write_man_term(FILE *out, const char *term, const char *meaning)
{
    fputs(".TP\n\\fB", out);
    write_roff(out, term);
    fputs("\\fR\n", out);
    write_roff(out, meaning);
    fputc('\n', out);
}

static void write_man_frame_end(FILE *out)
{
    fputs(".SH ACCESS LOG\nThe atoms of \\fBaccess\\-logformat\\fR:\n", out);
    for (size_t i = 0; i < ARRAY_LEN(atoms); i++)
        write_man_term(out, atoms[i].atom, atoms[i].meaning);
    fputs(".SH INI FILE\n"
          "Options stand below the line [myserver] as NAME = VALUE. An option that may be\n"
          "repeated has one line for each value. ${NAME} is the value of that environment\n"
          "variable, ${NAME:\\-VALUE} is VALUE if that is not set or empty, $$ is a dollar sign. A "
          "comment begins with ; or # at the start of a line, or\n"
          "with ; after a blank.\n"
          ".SH SIGNALS\nTo the master:\n",
          out);
    for (size_t i = 0; i < ARRAY_LEN(signals); i++)
        write_man_term(out, signals[i].names, signals[i].meaning);
    fputs(".SH EXIT STATUS\n"
          ".TP\n0\nThe server was told to stop.\n"
          ".TP\n1\nThe system refused something that the server needs.\n"
          ".TP\n2\nA setting is wrong; the sentence on standard error says which.\n"
          ".TP\n3\nThe application could not be loaded.\n",
          out);
}

static void write_man(FILE *out)
{
    fputs(".TH MYSERVER 1 \"\" myserver \"User Commands\"\n"
          ".SH NAME\nmyserver \\- serve a Python WSGI application over HTTP\n"
          ".SH SYNOPSIS\n"
          ".B myserver\n[\\fIOPTION\\fR...] \\fIMODULE\\fR[:\\fICALLABLE\\fR]\n.br\n"
          ".B myserver\n[\\fIOPTION\\fR...] \\fIFILE\\fR.ini\n.br\n"
          ".B myserver\n\\fICOMMAND\\fR ...\n"
          ".SH DESCRIPTION\n",
          out);
    fprintf(out, "%s\n", about);
    fputs(
        "The command line wins over the environment, the environment over the ini file, and all\n"
        "of them over the defaults. In the environment \\-\\-keep\\-alive is MYSERVER_KEEP_ALIVE,\n"
        "\\-\\-config is MYSERVER_CONFIG, and each line of the value of a list is one item. What\n"
        "gunicorn has, and what means the same or makes no difference here, is accepted under its\n"
        "name there, and GUNICORN_CMD_ARGS is read, below MYSERVER_<OPTION>; the log says so.\n"
        "An option without a value is switched off by \\-\\-no\\-\\fINAME\\fR, and is true or\n"
        "false in the ini file. A reload (HUP) reads that file again and applies all options\n"
        "but those that need a restart or an upgrade (USR2).\n"
        ".SH COMMANDS\n",
        out);
    for (const struct command_row *row = commands_table; row->name; row++) {
        fputs(".TP\n\\fB", out);
        write_roff(out, row->name);
        fputs("\\fR \\fI", out);
        write_roff(out, row->arguments);
        fputs("\\fR\n", out);
        write_roff(out, row->help);
        fputc('\n', out);
    }
    fputs(".SH OPTIONS\n.SS Command line only\n", out);
    for (size_t i = 0; i < ACTION_COUNT; i++)
        write_man_entry(out, actions_table[i].short_flag, actions_table[i].name,
                        actions_table[i].metavar, actions_table[i].help);
    for (const struct option *o = options_table; o < options_table + OPTION_COUNT; o++) {
        if (begins_section(o))
            fprintf(out, ".SS %s\n", o->section);
        write_man_option(out, o);
    }
    write_man_frame_end(out);
}

/* ---- JSON ---- */

static const char *type_name(enum option_type type)
{
    switch (type) {
    case OPTION_BOOL:
        return "BOOL";
    case OPTION_UINT:
        return "UINT";
    case OPTION_SIZE:
        return "SIZE";
    case OPTION_MEMORY:
        return "MEMORY";
    case OPTION_DURATION:
        return "DURATION";
    case OPTION_MODE:
        return "MODE";
    case OPTION_LEVEL:
        return "LEVEL";
    case OPTION_PROXY:
        return "PROXY";
    case OPTION_WORKERS:
        return "WORKERS";
    case OPTION_STRING:
        return "STRING";
    case OPTION_PREFIX:
        return "PREFIX";
    case OPTION_LIST:
        return "LIST";
    case OPTION_PAIRS:
        return "PAIRS";
    }
    assert(false);
    return NULL;
}

static void write_json_string(FILE *out, const char *key, const char *text)
{
    fprintf(out, "\"%s\": ", key);
    if (!text) {
        fputs("null, ", out);
        return;
    }
    fputc('"', out);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', out);
        fputc(*text, out);
    }
    fputs("\", ", out);
}

static void write_json(FILE *out)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const struct option *o = &options_table[i];
        const char flag[] = {o->short_flag, '\0'};
        fputs(i == 0 ? "[\n  {" : ",\n  {", out);
        write_json_string(out, "name", o->name);
        write_json_string(out, "field", o->field);
        write_json_string(out, "type", type_name(o->type));
        write_json_string(out, "section", o->section);
        write_json_string(out, "short", *flag == '\0' ? NULL : flag);
        write_json_string(out, "default", o->default_text);
        write_json_string(out, "when", o->when == OPTION_RELOAD ? "reload" : "restart");
        write_json_string(out, "metavar", o->metavar);
        write_json_string(out, "help", o->help);
        fprintf(out, "\"repeatable\": %s, \"min\": %" PRIu64 ", \"max\": %" PRIu64 "}",
                options_is_list(o) ? "true" : "false", o->min, o->max);
    }
    fputs("\n]\n", out);
}

static void write_foreign(FILE *out)
{
    static const char *const verdicts[] = {[FOREIGN_KEPT] = "kept",
                                           [FOREIGN_NEEDLESS] = "needless",
                                           [FOREIGN_DROPPED] = "dropped",
                                           [FOREIGN_CANNOT] = "cannot"};

    for (size_t i = 0; i < foreign_count; i++) {
        const struct foreign *row = &foreign_table[i];
        fputs(i == 0 ? "[\n  {" : ",\n  {", out);
        write_json_string(out, "server", row->server);
        write_json_string(out, "names", row->names);
        write_json_string(out, "ours", row->ours);
        write_json_string(out, "how", row->how);
        write_json_string(out, "note", row->note);
        fprintf(out, "\"verdict\": \"%s\"}", verdicts[row->verdict]);
    }
    fputs("\n]\n", out);
}

bool config_docs_write(const char *format, FILE *out)
{
    static const struct {
        const char *name;
        void (*write)(FILE *out);
    } formats[] = {{"md", write_md},
                   {"man", write_man},
                   {"ini", write_ini},
                   {"json", write_json},
                   {"schema", config_docs_schema},
                   {"foreign", write_foreign}};

    for (size_t i = 0; i < ARRAY_LEN(formats); i++)
        if (strcmp(formats[i].name, format) == 0) {
            formats[i].write(out);
            return true;
        }
    return false;
}
