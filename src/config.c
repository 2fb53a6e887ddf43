/* config.c: where settings come from: defaults, environment, ini file, command line. Layer 1.
 *
 * Owns the order and the origin of values, and every sentence about a wrong one. The ini file
 * and the command line are first collected as a list of settings and only then applied,
 * so nothing of a broken file takes effect. The only file that knows inih.
 *
 * Never falls back, warns or ignores: what is not understood ends the process with status 2.
 * Types and ranges are options.c, help and documents config_docs.c. Runs once, in the master,
 * before anything else. */
#include "config.h"

#include "buf.h"
#include "config_docs.h"
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <ini.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum origin_kind { ORIGIN_DEFAULT, ORIGIN_ENVIRONMENT, ORIGIN_INI, ORIGIN_ARGV };

struct setting {
    const struct option *option; /* NULL until the name is looked up */
    char *name;                  /* owned; as it was written but for '_'; NULL where not needed */
    char *value;                 /* owned */
    enum origin_kind kind;
    unsigned line; /* of the ini file */
};

struct reader {
    struct config *config;
    struct setting *settings; /* owned; as they were met, all of one kind together */
    size_t count;
    enum origin_kind origins[OPTION_COUNT];
    enum config_verb verb;
    bool verb_given;
};

const struct config_action_row config_actions[CONFIG_ACTION_COUNT] = {
    [CONFIG_ACTION_CONFIG] = {"config", 'c', "FILE.ini",
                              "Reads settings from this file; so does FILE.ini as an argument."},
    [CONFIG_ACTION_CHECK] = {"check-config", 0, NULL,
                             "Checks the settings, loads the application, and exits."},
    [CONFIG_ACTION_PRINT] = {"print-config", 0, NULL,
                             "Prints the settings and where each comes from, and exits."},
    [CONFIG_ACTION_OPTIONS] = {"options", 0, "md|man|ini|json",
                               "Prints the table of options as a document, and exits."},
    [CONFIG_ACTION_VERSION] = {"version", 0, NULL, "Prints the versions, and exits."},
    [CONFIG_ACTION_HELP] = {"help", 'h', NULL, "Prints this list, and exits."},
};

/* Defaults that the environment may give: the text before the variable's value. */
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

/* ---------------------------------------------------------------- names of other servers */

/* uWSGI's and gunicorn's names: ours, or NULL and why there is none. With ours, `note` says
 * what is different. */
static const struct foreign {
    const char *name;
    const char *ours;
    const char *note;
} foreigns[] = {
    {"socket", "bind", "it speaks HTTP: nginx needs proxy_pass instead of uwsgi_pass"},
    {"uwsgi-socket", "bind", "it speaks HTTP: nginx needs proxy_pass instead of uwsgi_pass"},
    {"http", "bind", NULL},
    {"http-socket", "bind", NULL},
    {"http11-socket", "bind", NULL},
    {"host", "bind", NULL},
    {"port", "bind", NULL},
    {"listen", "backlog", NULL},
    {"chmod-socket", "socket-mode", NULL},
    {"processes", "workers", NULL},
    {"cheaper", NULL, "the number of workers is fixed; write workers"},
    {"module", "app", NULL},
    {"wsgi", "app", NULL},
    {"wsgi-app", "app", NULL},
    {"wsgi-file", "app", NULL},
    {"file", "app", NULL},
    {"callable", "app", "the callable stands behind the module: MODULE:CALLABLE"},
    {"mount", "script-name", NULL},
    {"manage-script-name", "script-name", NULL},
    {"worker-reload-mercy", "graceful-timeout", NULL},
    {"reload-mercy", "graceful-timeout", NULL},
    {"keepalive", "keep-alive", NULL},
    {"http-keepalive", "keep-alive", NULL},
    {"so-keepalive", NULL, "dead clients run into keep-alive and the other time limits"},
    {"socket-timeout", "body-timeout", NULL},
    {"http-timeout", "body-timeout", NULL},
    {"post-buffering", "body-buffer", NULL},
    {"post-buffering-bufsize", "body-buffer", NULL},
    {"limit-post", "limit-request-body", NULL},
    {"buffer-size", "limit-request-field-size", NULL},
    {"max-vars", "limit-request-fields", NULL},
    {"home", "virtualenv", NULL},
    {"venv", "virtualenv", NULL},
    {"pyhome", "virtualenv", NULL},
    {"pp", "pythonpath", NULL},
    {"python-path", "pythonpath", NULL},
    {"chdir2", "chdir", NULL},
    {"raw-env", "env", NULL},
    {"logto", "error-logfile", NULL},
    {"errorlog", "error-logfile", NULL},
    {"log-file", "error-logfile", NULL},
    {"loglevel", "log-level", NULL},
    {"accesslog", "access-logfile", NULL},
    {"req-logger", "access-logfile", NULL},
    {"log-format", "access-logformat", NULL},
    {"logformat", "access-logformat", NULL},
    {"access-log-format", "access-logformat", NULL},
    {"tmp-upload-dir", "tmp-dir", NULL},

    {"harakiri", NULL, "requests have no time limit"},
    {"timeout", NULL,
     "requests have no time limit; see graceful-timeout and the limits on clients"},
    {"max-requests", NULL, "workers are not recycled"},
    {"max-requests-jitter", NULL, "workers are not recycled"},
    {"max-worker-lifetime", NULL, "workers are not recycled"},
    {"reload-on-rss", NULL, "workers are not recycled"},
    {"worker-class", NULL, "there is one kind of worker; write threads"},
    {"worker-connections", NULL, "connections wait in the kernel; write threads or backlog"},
    {"gevent", NULL, "there is one kind of worker; write threads"},
    {"async", NULL, "there is one kind of worker; write threads"},
    {"asyncio", NULL, "there is one kind of worker; write threads"},
    {"worker-tmp-dir", NULL,
     "workers share memory with the master, not files; write tmp-dir for bodies"},
    {"reuse-port", NULL,
     "all workers accept from one socket, so that no request waits behind a busy one"},
    {"thunder-lock", NULL, "a worker accepts only when it has a free thread, without locks"},
    {"master", NULL, "there always is a master"},
    {"need-app", NULL, "it always needs its application"},
    {"strict", NULL, "unknown names always are errors"},
    {"vacuum", NULL, "it always removes its unix sockets"},
    {"die-on-term", NULL, "SIGTERM always stops it gracefully"},
    {"enable-threads", NULL, "threads of the application always run"},
    {"single-interpreter", NULL, "there always is one interpreter"},
    {"py-call-osafterfork", NULL, "Python's fork hooks always run"},
    {"lazy", NULL, "the application always is loaded once, then forked"},
    {"lazy-apps", NULL, "the application always is loaded once, then forked"},
    {"preload", NULL, "the application always is loaded once, then forked"},
    {"preload-app", NULL, "the application always is loaded once, then forked"},
    {"reload", NULL, "code is loaded once; restart it"},
    {"py-autoreload", NULL, "code is loaded once; restart it"},
    {"touch-reload", NULL, "code is loaded once; restart it"},
    {"disable-logging", NULL, "there is no access log unless access-logfile is set"},
    {"ignore-sigpipe", NULL, "the application never sees that a client went away"},
    {"ignore-write-errors", NULL, "the application never sees that a client went away"},
    {"disable-write-exception", NULL, "the application never sees that a client went away"},
    {"auto-procname", NULL, "processes always have titles"},
    {"proc-name", NULL, "processes always have titles"},
    {"name", NULL, "processes always have titles"},
    {"static-map", NULL, "static files are the work of nginx or of the application"},
    {"check-static", NULL, "static files are the work of nginx or of the application"},
    {"offload-threads", NULL, "no thread ever waits for a client"},
    {"sendfile", NULL, "files always are sent with sendfile where the kernel can"},
    {"no-sendfile", NULL, "files always are sent with sendfile where the kernel can"},
    {"daemon", NULL, "it stays in the foreground, for systemd or a container to supervise"},
    {"daemonize", NULL, "it stays in the foreground, for systemd or a container to supervise"},
    {"pid", NULL, "it stays in the foreground, and who started it knows its pid"},
    {"pidfile", NULL, "it stays in the foreground, and who started it knows its pid"},
    {"uid", NULL, "start it as the user that it shall run as"},
    {"gid", NULL, "start it as the group that it shall run as"},
    {"user", NULL, "start it as the user that it shall run as"},
    {"group", NULL, "start it as the group that it shall run as"},
    {"umask", NULL, "it keeps that of its caller; write socket-mode for sockets"},
    {"chroot", NULL, "that is the work of systemd or a container"},
    {"emperor", NULL, "it serves one application; start one for each"},
    {"spooler", NULL, "it only serves requests; tasks need a program of their own"},
    {"mule", NULL, "it only serves requests; tasks need a program of their own"},
    {"cron", NULL, "it only serves requests; tasks need a program of their own"},
    {"cache2", NULL, "it only serves requests; caches need a program of their own"},
    {"plugin", NULL, "there are no plugins"},
    {"plugins", NULL, "there are no plugins"},
    {"certfile", NULL, "TLS is the work of nginx"},
    {"keyfile", NULL, "TLS is the work of nginx"},
    {"https", NULL, "TLS is the work of nginx"},
    {"stats", NULL, "there is no statistics server"},
};

static const struct foreign *find_foreign(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(foreigns); i++)
        if (strcmp(foreigns[i].name, name) == 0)
            return &foreigns[i];
    return NULL;
}

/* CONFIG_ACTION_COUNT when there is none of that name. */
static size_t find_action(const char *name)
{
    size_t action = 0;

    while (action < CONFIG_ACTION_COUNT && strcmp(config_actions[action].name, name) != 0)
        action++;
    return action;
}

/* ---------------------------------------------------------------- sentences about errors */

#define QUOTED_MAX 120

/* For one line of a terminal: no control bytes, an end in sight. Static storage: one at a time. */
static const char *quoted(const char *text)
{
    static char copy[QUOTED_MAX + 1];
    size_t len = strnlen(text, sizeof(copy));

    if (len > QUOTED_MAX)
        len = QUOTED_MAX;
    for (size_t i = 0; i < len; i++)
        copy[i] = iscntrl((unsigned char)text[i]) ? '?' : text[i];
    copy[len] = '\0';
    if (text[len] != '\0')
        memcpy(copy + len - 3, "...", 3);
    return copy;
}

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

static const char *dashes(const struct setting *s)
{
    return s->kind == ORIGIN_ARGV ? "--" : "";
}

static size_t minimum(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* How many letters to insert, delete, replace or swap with their neighbour. */
static size_t edit_distance(const char *a, const char *b)
{
    enum { LONGEST = 40 };
    size_t d[LONGEST + 1][LONGEST + 1];
    size_t a_len = strlen(a), b_len = strlen(b);

    if (a_len > LONGEST || b_len > LONGEST)
        return LONGEST;
    for (size_t i = 0; i <= a_len; i++)
        for (size_t j = 0; j <= b_len; j++) {
            if (i == 0 || j == 0) {
                d[i][j] = i + j;
                continue;
            }
            size_t replaced = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            d[i][j] = minimum(minimum(d[i - 1][j], d[i][j - 1]) + 1, replaced);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                d[i][j] = minimum(d[i][j], d[i - 2][j - 2] + 1);
        }
    return d[a_len][b_len];
}

/* The name that was probably meant, or NULL. */
static const char *nearest_name(const char *name, bool with_actions)
{
    const char *nearest = NULL;
    size_t nearest_distance = 2 + strlen(name) / 4; /* more letters wrong is another word */

    for (size_t i = 0; i < OPTION_COUNT + (with_actions ? CONFIG_ACTION_COUNT : 0); i++) {
        const char *candidate =
            i < OPTION_COUNT ? options_table[i].name : config_actions[i - OPTION_COUNT].name;
        size_t distance = edit_distance(name, candidate);
        if (distance < nearest_distance) {
            nearest = candidate;
            nearest_distance = distance;
        }
    }
    return nearest;
}

NORETURN static void die_unknown(const struct reader *r, const struct setting *s)
{
    const struct foreign *foreign = find_foreign(s->name);
    const char *nearest = nearest_name(s->name, s->kind == ORIGIN_ARGV);
    const char *dash = dashes(s), *name = quoted(s->name);
    char *place = where(r, s);

    if (foreign != NULL && foreign->ours != NULL)
        die(EXIT_CONFIG, "%s: %s%s is called %s%s here%s%s", place, dash, name, dash, foreign->ours,
            foreign->note ? "; " : "", foreign->note ? foreign->note : "");
    if (foreign != NULL)
        die(EXIT_CONFIG, "%s: there is no %s%s here: %s", place, dash, name, foreign->note);
    if (s->kind == ORIGIN_INI && find_action(s->name) < CONFIG_ACTION_COUNT)
        die(EXIT_CONFIG, "%s: %s works on the command line only", place, name);
    if (nearest != NULL)
        die(EXIT_CONFIG, "%s: there is no option %s%s; did you mean %s%s?", place, dash, name, dash,
            nearest);
    die(EXIT_CONFIG, "%s: there is no option %s%s; myserver --help lists them", place, dash, name);
}

NORETURN static void die_value(const struct reader *r, const struct setting *s, const char *wrong)
{
    char *rule = options_rule(s->option);
    char *place = where(r, s);

    die(EXIT_CONFIG, "%s: %s%s: \"%s\" %s; write %s", place, dashes(s), s->option->name,
        quoted(s->value), wrong, rule);
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
    if (s->option == &options_table[OPTION_INDEX_app])
        die(EXIT_CONFIG, "%s: two applications are given, \"%s\" and another; keep one of them",
            place, quoted(first->value));
    die(EXIT_CONFIG, "%s: --%s is given twice; keep one of them", place, s->option->name);
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

/* A copy of the name in its one spelling; the caller owns it. */
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

/* Only where nothing else is set: a variable that is not used cannot be wrong. An empty
 * variable is as none. */
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

/* ---------------------------------------------------------------- ini file */

struct ini {
    struct reader *reader;
    const char *path;
    FILE *file;
    char *line; /* owned by getline(3) */
    size_t line_size;
    unsigned number; /* of the line, from 1 */
};

#define SECTION "[myserver]"

/* inih tells nobody about a section without keys, and cuts long names. */
static void check_section(const struct ini *ini, const char *text)
{
    const char *rest = text + strlen(SECTION);

    if (strncmp(text, SECTION, strlen(SECTION)) != 0)
        die(EXIT_CONFIG, "%s:%u: there is no section %s; all settings stand below " SECTION,
            ini->path, ini->number, quoted(text));
    rest += strspn(rest, " \t");
    if (*rest != '\0' && *rest != ';' && *rest != '#')
        die(EXIT_CONFIG, "%s:%u: nothing may stand behind " SECTION " on its line", ini->path,
            ini->number);
}

/* The line without what surrounds it. Blanks in front go too, because to inih they make a
 * line the continuation of the one before. */
static char *trim(struct ini *ini, size_t len)
{
    char *text = ini->line;

    if (strlen(text) != len)
        die(EXIT_CONFIG, "%s:%u: there is a NUL byte in this line; write text", ini->path,
            ini->number);
    if (ini->number == 1 && strncmp(text, "\xef\xbb\xbf", 3) == 0)
        text += 3;
    while (isspace((unsigned char)*text))
        text++;
    for (len = strlen(text); len > 0 && isspace((unsigned char)text[len - 1]); len--)
        text[len - 1] = '\0';
    return text;
}

/* inih's reader. Counts lines, which inih does not tell its handler, and refuses one that inih
 * would cut: it needs room for the newline and the NUL. A comment may be of any length. */
static char *on_ini_read(char *room, int room_bytes, void *stream)
{
    struct ini *ini = stream;
    size_t longest = (size_t)room_bytes - 2;

    errno = 0;
    ssize_t len = getline(&ini->line, &ini->line_size, ini->file);
    if (len < 0 && errno != 0)
        die(EXIT_CONFIG, "%s: cannot be read: %s", ini->path, strerror(errno));
    if (len < 0)
        return NULL;
    ini->number++;
    char *text = trim(ini, (size_t)len);
    if (*text == ';' || *text == '#')
        *text = '\0';
    if (*text == '[')
        check_section(ini, text);
    if (strlen(text) > longest)
        die(EXIT_CONFIG,
            "%s:%u: the line is longer than %zu bytes; put its value into an environment variable "
            "and write ${NAME}",
            ini->path, ini->number, longest);
    return strcat(strcpy(room, text), "\n");
}

static int on_ini_setting(void *user, const char *section, const char *name, const char *value)
{
    struct ini *ini = user;

    if (*section == '\0')
        die(EXIT_CONFIG, "%s:%u: %s stands above " SECTION "; write that line first", ini->path,
            ini->number, quoted(name));
    if (*name == '\0')
        die(EXIT_CONFIG, "%s:%u: there is no name in front of the =; write NAME = VALUE", ini->path,
            ini->number);
    add_setting(ini->reader, (struct setting){.name = spell(name, strlen(name)),
                                              .value = xstrdup(value),
                                              .kind = ORIGIN_INI,
                                              .line = ini->number});
    return 1;
}

/* Appends the value of the variable that `text` (behind "${") names. Returns what is behind
 * the '}'. */
static const char *expand_variable(const struct reader *r, const struct setting *s, struct buf *out,
                                   const char *text)
{
    size_t len = strcspn(text, "}");

    if (text[len] == '\0' || len == 0)
        die(EXIT_CONFIG, "%s:%u: %s: a ${ without a name and }; write ${NAME}, or $$ for a $",
            r->config->ini_path, s->line, s->name);
    char *name = xasprintf("%.*s", (int)len, text);
    const char *value = getenv(name);
    if (value == NULL)
        die(EXIT_CONFIG,
            "%s:%u: %s: the environment variable %s is not set; set it, or write $$ for a $",
            r->config->ini_path, s->line, s->name, quoted(name));
    buf_append_str(out, value);
    free(name);
    return text + len + 1;
}

/* Replaces ${NAME} and $$ in the value. */
static void expand(const struct reader *r, struct setting *s)
{
    struct buf out = {0};

    for (const char *text = s->value; *text != '\0';) {
        size_t plain = strcspn(text, "$");
        buf_append(&out, text, plain);
        text += plain;
        if (text[0] == '$' && text[1] == '{') {
            text = expand_variable(r, s, &out, text + 2);
        } else if (text[0] == '$' && text[1] == '$') {
            buf_append_str(&out, "$");
            text += 2;
        } else if (text[0] == '$') {
            die(EXIT_CONFIG,
                "%s:%u: %s: a $ stands alone; write ${NAME} for a variable, or $$ for a $",
                r->config->ini_path, s->line, s->name);
        }
    }
    free(s->value);
    s->value = xasprintf("%.*s", (int)out.len, out.len == 0 ? "" : out.data);
    buf_fini(&out);
}

static void read_ini(struct reader *r)
{
    struct ini ini = {.reader = r, .path = r->config->ini_path};
    size_t first = r->count;

    ini.file = fopen(ini.path, "re");
    if (ini.file == NULL)
        die(EXIT_CONFIG, "%s: cannot be opened: %s", ini.path, strerror(errno));
    int bad_line = ini_parse_stream(on_ini_read, &ini, on_ini_setting, &ini);
    if (bad_line > 0)
        die(EXIT_CONFIG,
            "%s:%d: this is no setting; write NAME = VALUE, or ; in front of a comment", ini.path,
            bad_line);
    assert(bad_line == 0);
    free(ini.line);
    fclose(ini.file);

    for (size_t i = first; i < r->count; i++) {
        struct setting *s = &r->settings[i];
        s->option = options_find(s->name);
        if (s->option == NULL)
            die_unknown(r, s);
        expand(r, s);
    }
}

/* ---------------------------------------------------------------- command line */

struct arguments {
    char **next;          /* borrowed; NULL ends them */
    const char *attached; /* the value in the argument itself, or NULL */
};

/* The value of the option that was just read: in the same argument, or the next one. One that
 * begins with -- is an option, so that a forgotten value is found. */
static const char *take_value(struct arguments *a, const char *name, const char *metavar)
{
    if (a->attached != NULL)
        return a->attached;
    if (*a->next == NULL || strncmp(*a->next, "--", 2) == 0)
        die(EXIT_CONFIG, "command line: --%s needs a value; write --%s %s", name, name, metavar);
    return *a->next++;
}

static void set_ini_path(struct reader *r, const char *path)
{
    if (r->config->ini_path != NULL)
        die(EXIT_CONFIG, "command line: two ini files are given, %s and another; keep one of them",
            quoted(r->config->ini_path));
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

/* True when the program is done. */
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
                quoted(value), config_actions[action].metavar);
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

/* Booleans are --name and --no-name. */
static void take_option(struct reader *r, struct arguments *a, const struct option *option,
                        bool is_negated)
{
    const char *value = is_negated ? "false" : "true";

    if (option->type != OPTION_BOOL)
        value = take_value(a, option->name, option->metavar);
    else if (a->attached != NULL)
        die(EXIT_CONFIG, "command line: --%s takes no value; write --%s or --no-%s", option->name,
            option->name, option->name);
    add_argument(r, option, value);
}

static const struct option *find_negated(const char *name)
{
    const struct option *option = strncmp(name, "no-", 3) == 0 ? options_find(name + 3) : NULL;

    return option != NULL && option->type == OPTION_BOOL ? option : NULL;
}

/* `text` is the argument without its dashes. */
static bool take_long(struct reader *r, struct arguments *a, const char *text)
{
    size_t len = strcspn(text, "=");
    char *name = spell(text, len);
    const struct option *option = options_find(name);
    const struct option *negated = find_negated(name);
    size_t action = find_action(name);
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
    die(EXIT_CONFIG, "command line: there is no option -%c; myserver --help lists them",
        isprint((unsigned char)text[0]) ? text[0] : '?');
}

static void take_positional(struct reader *r, const char *text)
{
    size_t len = strlen(text);

    if (len > 4 && strcmp(text + len - 4, ".ini") == 0) {
        set_ini_path(r, text);
        return;
    }
    add_argument(r, &options_table[OPTION_INDEX_app], text);
}

/* True when the program is done. */
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

/* The setting that item `index` of an option came from; NULL: its default. */
static const struct setting *setting_of(const struct reader *r, size_t option, size_t index)
{
    for (size_t i = 0; i < r->count; i++) {
        const struct setting *s = &r->settings[i];
        if (s->option == &options_table[option] && s->kind == r->origins[option] && index-- == 0)
            return s;
    }
    return NULL;
}

/* No two items of the list may be equal up to `end` (a character, or 0 for the whole). */
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
            const struct setting *s = setting_of(r, option, i);
            char *place = where(r, s);
            die(EXIT_CONFIG, "%s: %s%s: \"%.*s\" is given twice; keep one of them", place,
                dashes(s), options_table[option].name, (int)len, quoted(list->items[j]));
        }
}

/* What the table cannot say: values that depend on others or on the machine. */
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
        access(c->tmp_dir, W_OK | X_OK) != 0) {
        const struct setting *s = setting_of(r, OPTION_INDEX_tmp_dir, 0);
        char *place = s == NULL ? xstrdup("default") : where(r, s);
        die(EXIT_CONFIG,
            "%s: tmp-dir: \"%s\" is no directory to write to; write the absolute path of one",
            place, quoted(c->tmp_dir));
    }
}

/* As a line of an ini file: the value, with $ doubled, and its origin as a comment. */
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
    puts(SECTION);
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
