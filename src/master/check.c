/* check.c: words in the settings whose meaning read.c does not know.
 *
 * Owns nothing. Asks the modules that will use such a word later whether they understand it, and
 * ends the process with one sentence if not, or if the setting would have no effect. Leaves
 * nothing open, keeps nothing. */
#include "master/check.h"

#include "base/log.h"
#include "base/logfile.h"
#include "config/origin.h"
#include "config/settings.h"
#include "control/control.h"
#include "http/access.h"
#include "http/exclude.h"
#include "http/forwarded.h"
#include "system/listen.h"
#include "system/pidfile.h"
#include "system/privilege.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void check_log(const char *option, const char *where)
{
    char *wrong = where ? logfile_check(where) : NULL;
    if (wrong)
        config_origin_die(EXIT_CONFIG, option, where, "%s", wrong);
}

/* "N[,N...]", each from 1 to 999999999. */
static void check_counts(const char *option, const char *counts)
{
    for (const char *at = counts; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        size_t digits = strspn(at, "0123456789");
        if (digits == 0 || digits > 9 || at[0] == '0' || (at[digits] && at[digits] != ','))
            config_origin_die(EXIT_CONFIG, option, counts,
                              "\"%s\" is not right; write numbers such as 1000 or 500,2000",
                              counts);
    }
}

/* Python takes directories that are not there, and then finds nothing in them. */
static void check_pythonpath(const struct config_list *paths)
{
    for (size_t i = 0; i < paths->count; i++)
        if (access(paths->items[i], F_OK) != 0 && errno == ENOENT)
            config_origin_die(EXIT_CONFIG, "pythonpath", paths->items[i], "%s does not exist",
                              paths->items[i]);
}

/* The file itself may come later; so may its directory, but then most likely it is a mistake. */
static void check_touched(const struct config_list *files)
{
    for (size_t i = 0; i < files->count; i++) {
        char *directory = directory_of(files->items[i]);
        if (access(directory, F_OK) != 0 && errno == ENOENT)
            log_warning("%s: the directory of %s does not exist yet",
                        config_origin_place("touch-reload", files->items[i]), files->items[i]);
        free(directory);
    }
}

static const char *without_prefix(const char *address)
{
    bool is_uwsgi;
    address = listen_address(address, &is_uwsgi);
    return strncmp(address, "unix:", 5) == 0 ? address + 5 : address;
}

/* The kernel gives each socket with port 0 a port of its own. */
static bool takes_any_port(const char *address)
{
    size_t len = strlen(address);
    return len >= 2 && strcmp(address + len - 2, ":0") == 0;
}

static void check_apart(const char *option, const char *address, const char *other,
                        const char *other_address)
{
    if (address && other_address && !takes_any_port(address) &&
        strcmp(without_prefix(address), without_prefix(other_address)) == 0)
        config_origin_die(EXIT_CONFIG, option, address, "%s is the address of %s already", address,
                          other);
}

static void check_protocols(const struct config *config, const char *bind)
{
    bool is_uwsgi;
    (void)listen_address(bind, &is_uwsgi);
    if (is_uwsgi && config->proxy_protocol)
        config_origin_die(EXIT_CONFIG, "proxy-protocol", NULL,
                          "a PROXY header cannot come before uwsgi packets (bind = %s), in which "
                          "nginx names the client itself; leave out one of the two",
                          bind);
}

static void check_addresses(const struct config *config)
{
    listen_check("bind", &config->bind);
    control_check(config);
    check_apart("stats", config->stats, "control", config->control);
    for (size_t i = 0; i < config->bind.count; i++) {
        for (size_t j = 0; j < i; j++)
            check_apart("bind", config->bind.items[i], "another bind", config->bind.items[j]);
        check_protocols(config, config->bind.items[i]);
        check_apart("control", config->control, "bind", config->bind.items[i]);
        check_apart("stats", config->stats, "bind", config->bind.items[i]);
    }
}

static size_t static_prefix_len(const char *setting)
{
    size_t len = strcspn(setting, "=");
    while (len > 0 && setting[len - 1] == '/')
        len--;
    return len;
}

static void check_exclude(const struct config_list *rules)
{
    for (size_t i = 0; i < rules->count; i++)
        if (!exclude_is_rule(rules->items[i]))
            config_origin_die(EXIT_CONFIG, "access-log-exclude", rules->items[i],
                              "\"%s\" is not right; write /PREFIX, statuses such as 2xx or "
                              "301,304, or both with a blank between them",
                              rules->items[i]);
}

/* "/PREFIX=DIR", each prefix once. */
static void check_static(const struct config_list *settings)
{
    for (size_t i = 0; i < settings->count; i++) {
        const char *setting = settings->items[i], *equals = strchr(setting, '=');
        struct stat st;
        size_t len = static_prefix_len(setting);
        if (setting[0] != '/' || !equals || !equals[1])
            config_origin_die(EXIT_CONFIG, "static", setting,
                              "\"%s\" is not right; write /PREFIX=DIR, such as /static=static",
                              setting);
        for (size_t j = 0; j < i; j++)
            if (static_prefix_len(settings->items[j]) == len &&
                memcmp(settings->items[j], setting, len) == 0)
                config_origin_die(EXIT_CONFIG, "static", setting, "%.*s is given twice",
                                  len ? (int)len : 1, setting);
        if (stat(equals + 1, &st) != 0)
            config_origin_die(EXIT_CONFIG, "static", setting, "%s: %s", equals + 1,
                              strerror(errno));
        if (!S_ISDIR(st.st_mode))
            config_origin_die(EXIT_CONFIG, "static", setting, "%s is not a directory", equals + 1);
    }
}

void check_generation(const struct config *config)
{
    struct forwarded_trust trust;
    char *error = NULL;
    struct access_format *format = access_compile(config->access_logformat, &error);
    if (!format)
        config_origin_die(EXIT_CONFIG, "access-logformat", NULL, "%s", error);
    access_free(format);
    check_exclude(&config->access_log_exclude);
    const char *wrong = forwarded_parse(&trust, config->forwarded_allow_ips);
    if (wrong)
        config_origin_die(EXIT_CONFIG, "forwarded-allow-ips", NULL,
                          "\"%.*s\" is no address or network; write addresses and networks "
                          "such as 127.0.0.1,::1,10.0.0.0/8, or *",
                          (int)strcspn(wrong, ","), wrong);
    forwarded_fini(&trust);
    check_pythonpath(&config->pythonpath);
    check_static(&config->static_dirs);
    if (config->static_fallthrough && config->static_dirs.count == 0)
        config_origin_die(EXIT_CONFIG, "static-fallthrough", NULL,
                          "without static it does nothing; set both, or leave it out");
    if (config->max_requests == 0 && config->max_requests_jitter != CONFIG_UNSET &&
        config->max_requests_jitter > 0)
        config_origin_die(EXIT_CONFIG, "max-requests-jitter", NULL,
                          "without max-requests it does nothing; set both, or leave it out");
    if (config->workers_min > config->workers)
        config_origin_die(EXIT_CONFIG, "workers-min", NULL,
                          "%u is more than workers, which is %u; write a smaller number",
                          config->workers_min, config->workers);
    check_counts("refork-after", config->refork_after);
    if (config->refork_after && !config->preload)
        config_origin_die(EXIT_CONFIG, "refork-after", NULL,
                          "without preload there is nothing that workers could share; "
                          "leave out one of the two");
}

void check_words(const struct config *config)
{
    struct privilege privilege;
    check_generation(config);
    check_log("error-logfile", config->error_logfile);
    check_log("access-logfile", config->access_logfile);
    if (strcmp(config->log_format, "text") != 0 && strcmp(config->log_format, "json") != 0)
        config_origin_die(EXIT_CONFIG, "log-format", NULL, "\"%s\" is neither text nor json",
                          config->log_format);
    check_addresses(config);
    check_touched(&config->touch_reload);
    pidfile_check(config->pid);
    privilege_init(&privilege, config);
}
