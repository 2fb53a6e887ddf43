/* check.c: words in the settings whose meaning config.c does not know.
 *
 * Owns nothing. Asks the modules that will use such a word later whether they understand it, and
 * ends the process with one sentence if not. Opens nothing,
 * keeps nothing. */
#include "check.h"

#include "access.h"
#include "config.h"
#include "config_origin.h"
#include "control.h"
#include "forwarded.h"
#include "listen.h"
#include "logfile.h"
#include "privilege.h"

#include <string.h>

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

void check_generation(const struct config *config)
{
    struct forwarded_trust trust;
    char *error = NULL;
    struct access_format *format = access_compile(config->access_logformat, &error);
    if (!format)
        config_origin_die(EXIT_CONFIG, "access-logformat", NULL, "%s", error);
    access_free(format);
    const char *wrong = forwarded_parse(&trust, config->forwarded_allow_ips);
    if (wrong)
        config_origin_die(EXIT_CONFIG, "forwarded-allow-ips", NULL,
                          "\"%.*s\" is no address or network; write addresses and networks "
                          "such as 127.0.0.1,::1,10.0.0.0/8, or *",
                          (int)strcspn(wrong, ","), wrong);
    forwarded_fini(&trust);
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
    listen_check("bind", &config->bind);
    control_check(config);
    privilege_init(&privilege, config);
}
