/* config_names.c: option names of other servers, and the name that was probably meant. Layer 1.
 *
 * Owns the names that uWSGI and gunicorn use, and the distance between two names. Only for
 * sentences about errors: only the names in options.def work. */
#include "config_names.h"

#include "config/options.h"
#include "config/settings.h"

#include <ctype.h>
#include <string.h>

#define QUOTED_MAX 120

/* Names of uWSGI and gunicorn, with the name here, or NULL and in `note` why there is none. With a
 * name here, `note` says what is different. */
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
    {"paste", NULL, "write a module with application = paste.deploy.loadapp(\"config:/FILE.ini\")"},
    {"paster", NULL,
     "write a module with application = paste.deploy.loadapp(\"config:/FILE.ini\")"},
    {"import", NULL, "the application imports what it needs, once, before the fork"},
    {"py-import", NULL, "the application imports what it needs, once, before the fork"},
    {"shared-import", NULL, "the application imports what it needs, once, before the fork"},
    {"ini", NULL, "all settings stand in one file; write -c FILE.ini"},
    {"mount", "script-name", NULL},
    {"manage-script-name", "script-name", NULL},
    {"root-path", "script-name", NULL},
    {"forwarder-headers", NULL, "no header becomes SCRIPT_NAME or REMOTE_USER; write script-name"},
    {"header-map", NULL, "headers with _ in their names always are dropped"},
    {"secure-scheme-headers", NULL,
     "the scheme comes from X-Forwarded-Proto; write forwarded-allow-ips"},
    {"proxy-allow-from", "forwarded-allow-ips", NULL},
    {"harakiri", "timeout", NULL},
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
    {"log-encoder", "log-format", NULL},
    {"logger", "error-logfile", NULL},
    {"log-4xx", NULL, "access-logfile has every request, with its status"},
    {"log-5xx", NULL, "access-logfile has every request, with its status"},
    {"log-master", NULL, "all processes write to the same log"},
    {"capture-output", NULL, "an error log in a file always takes what the application prints"},
    {"enable-stdio-inheritance", NULL, "it stays in the foreground, with the streams it was given"},
    {"disable-redirect-access-to-syslog", NULL, "the access log goes to access-logfile only"},
    {"logger-class", NULL, "write log-format and access-logformat"},
    {"log-config", NULL,
     "the application sets its logging up itself; myserver.LogHandler writes to the error log"},
    {"log-config-json", NULL,
     "the application sets its logging up itself; myserver.LogHandler writes to the error log"},
    {"log-syslog", "error-logfile",
     "write error-logfile = syslog:unix:/dev/log or syslog:HOST:PORT"},
    {"log-syslog-to", "error-logfile",
     "write error-logfile = syslog:unix:/dev/log or syslog:HOST:PORT"},
    {"syslog", "error-logfile", "write error-logfile = syslog:unix:/dev/log or syslog:HOST:PORT"},
    {"syslog-addr", "error-logfile",
     "write error-logfile = syslog:unix:/dev/log or syslog:HOST:PORT"},
    {"touch-logreopen", NULL, "send USR1 to the master"},
    {"log-reopen", NULL, "send USR1 to the master"},
    {"logformat", "access-logformat", NULL},
    {"access-log-format", "access-logformat", NULL},
    {"tmp-upload-dir", "tmp-dir", NULL},

    {"max-requests-delta", "max-requests-jitter", NULL},
    {"reload-on-rss", "max-worker-memory", "it counts private memory, not what is shared"},
    {"evil-reload-on-rss", "max-worker-memory", "it counts private memory, not what is shared"},
    {"worker-class", NULL, "there is one kind of worker; write threads"},
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
    {"lazy", NULL, "write preload = false"},
    {"lazy-apps", NULL, "write preload = false"},
    {"preload-app", "preload", NULL},
    {"py-autoreload", "reload", NULL},
    {"python-autoreload", "reload", NULL},
    {"fs-reload", "touch-reload", NULL},
    {"reload-engine", NULL, "it looks once a second, which works on every file system"},
    {"reload-extra-file", "touch-reload", NULL},
    {"reload-extra-files", "touch-reload", NULL},
    {"disable-logging", NULL, "there is no access log unless access-logfile is set"},
    {"ignore-sigpipe", NULL, "the application never sees that a client went away"},
    {"ignore-write-errors", NULL, "the application never sees that a client went away"},
    {"disable-write-exception", NULL, "the application never sees that a client went away"},
    {"auto-procname", NULL, "processes always have titles"},
    {"procname", NULL, "processes always have titles"},
    {"proc-name", NULL, "processes always have titles"},
    {"name", NULL, "processes always have titles"},
    {"static-map", NULL, "static files are the work of nginx or of the application"},
    {"check-static", NULL, "static files are the work of nginx or of the application"},
    {"add-header", NULL, "headers are the work of nginx or of the application"},
    {"route", NULL, "that is the work of nginx or of the application"},
    {"route-uri", NULL, "that is the work of nginx or of the application"},
    {"route-run", NULL, "that is the work of nginx or of the application"},
    {"offload-threads", NULL, "no thread ever waits for a client"},
    {"sendfile", NULL, "files always are sent with sendfile where the kernel can"},
    {"no-sendfile", NULL, "files always are sent with sendfile where the kernel can"},
    {"daemon", NULL, "it stays in the foreground, for systemd or a container to supervise"},
    {"daemonize", NULL, "it stays in the foreground, for systemd or a container to supervise"},
    {"pidfile", "pid", NULL},
    {"safe-pidfile", "pid", NULL},
    {"chown-socket", "user", "the unix sockets belong to user and group"},
    {"initgroups", NULL, "the groups of user always are set, and no others kept"},
    {"uid", "user", NULL},
    {"gid", "group", NULL},
    {"chroot", NULL, "that is the work of systemd or a container"},
    {"emperor", NULL, "it serves one application; start one for each"},
    {"spooler", NULL, "it only serves requests; tasks need a program of their own"},
    {"mule", NULL, "it only serves requests; tasks need a program of their own"},
    {"cron", NULL, "it only serves requests; tasks need a program of their own"},
    {"attach-daemon", NULL, "it only serves requests; other programs need a service of their own"},
    {"attach-daemon2", NULL, "it only serves requests; other programs need a service of their own"},
    {"smart-attach-daemon", NULL,
     "it only serves requests; other programs need a service of their own"},
    {"cache2", NULL, "it only serves requests; caches need a program of their own"},
    {"plugin", NULL, "there are no plugins"},
    {"plugins", NULL, "there are no plugins"},
    {"certfile", NULL, "TLS is the work of nginx"},
    {"keyfile", NULL, "TLS is the work of nginx"},
    {"ca-certs", NULL, "TLS is the work of nginx"},
    {"cert-reqs", NULL, "TLS is the work of nginx"},
    {"ciphers", NULL, "TLS is the work of nginx"},
    {"ssl-version", NULL, "TLS is the work of nginx"},
    {"https", NULL, "TLS is the work of nginx"},
    {"stats-server", "stats", NULL},
    {"stats-http", "control", "it answers /stats, /metrics and more"},
    {"metrics", "control", "it answers /metrics and more"},
    {"statsd-host", "control", "it answers /metrics, for Prometheus"},
    {"statsd-prefix", NULL, "it speaks no statsd; control answers /metrics, for Prometheus"},
    {"dogstatsd-tags", NULL, "it speaks no statsd; control answers /metrics, for Prometheus"},
    {"control-socket", "control", NULL},
};

/* Short flags of uWSGI and gunicorn, except those that mean different things in the two. */
static const struct {
    char flag;
    const char *name;
} foreign_flags[] = {
    {'C', "chmod-socket"},
    {'D', "daemon"},
    {'H', "home"},
    {'L', "disable-logging"},
    {'M', "master"},
    {'Q', "spooler"},
    {'T', "enable-threads"},
    {'d', "daemonize"},
    {'e', "env"},
    {'g', "group"},
    {'i', "single-interpreter"},
    {'k', "worker-class"},
    {'l', "listen"},
    {'n', "name"},
    {'s', "socket"},
    {'u', "user"},
    {'z', "socket-timeout"},
};

static const struct foreign *find_foreign(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(foreigns); i++)
        if (strcmp(foreigns[i].name, name) == 0)
            return &foreigns[i];
    return NULL;
}

/* ---------------------------------------------------------------- the nearest name */

static size_t minimum(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* How many letters must be inserted, deleted, replaced or swapped with their neighbour. */
static size_t edit_distance(const char *a, const char *b)
{
    enum { LONGEST = 40 };
    /* set for the analyzer, which does not see that all is written */
    size_t d[LONGEST + 1][LONGEST + 1] = {0};
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
    /* with more wrong letters it is another word */
    size_t nearest_distance = 2 + strlen(name) / 4;

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

/* ---------------------------------------------------------------- public */

const char *config_names_quote(const char *text)
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

size_t config_names_action(const char *name)
{
    size_t action = 0;

    while (action < CONFIG_ACTION_COUNT && strcmp(config_actions[action].name, name) != 0)
        action++;
    return action;
}

void config_names_die_unknown(const char *place, const char *name, bool on_command_line)
{
    const struct foreign *foreign = find_foreign(name);
    /* the command line has taken it itself */
    const struct option *negated = options_find_negated(name);
    const char *nearest = nearest_name(name, on_command_line);
    const char *dash = on_command_line ? "--" : "", *shown = config_names_quote(name);

    if (foreign != NULL && foreign->ours != NULL)
        die(EXIT_CONFIG, "%s: %s%s is called %s%s here%s%s", place, dash, shown, dash,
            foreign->ours, foreign->note ? "; " : "", foreign->note ? foreign->note : "");
    if (foreign != NULL)
        die(EXIT_CONFIG, "%s: there is no %s%s here: %s", place, dash, shown, foreign->note);
    if (!on_command_line && config_names_action(name) < CONFIG_ACTION_COUNT)
        die(EXIT_CONFIG, "%s: %s works on the command line only", place, shown);
    if (negated != NULL)
        die(EXIT_CONFIG, "%s: there is no option %s here; write %s = false", place, shown,
            negated->name);
    if (nearest != NULL)
        die(EXIT_CONFIG, "%s: there is no option %s%s; did you mean %s%s?", place, dash, shown,
            dash, nearest);
    die(EXIT_CONFIG, "%s: there is no option %s%s; myserver --help lists them", place, dash, shown);
}

void config_names_die_flag(char letter)
{
    const char *name = NULL;

    for (size_t i = 0; i < ARRAY_LEN(foreign_flags); i++)
        if (foreign_flags[i].flag == letter)
            name = foreign_flags[i].name;
    if (name != NULL && options_find(name) != NULL)
        die(EXIT_CONFIG, "command line: there is no option -%c; write --%s", letter, name);
    if (name != NULL) {
        char place[] = "command line: -?";
        place[sizeof(place) - 2] = letter;
        config_names_die_unknown(place, name, true);
    }
    die(EXIT_CONFIG, "command line: there is no option -%c; myserver --help lists them",
        isprint((unsigned char)letter) ? letter : '?');
}
