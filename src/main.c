/* main.c: from the command line to the process that does the work. Layer 5.
 *
 * Owns the order of the first steps and the exit status, nothing else. */
#include "access.h"
#include "config.h"
#include "forwarded.h"
#include "listen.h"
#include "master.h"
#include "mold.h"
#include "process.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* What only the rooms above config.c understand, so that a wrong word is found before anything is
 * opened or loaded, and by --check-config too. */
static void check_words(const struct config *config)
{
    struct forwarded_trust trust;
    char *error = NULL;
    struct access_format *format = access_compile(config->access_logformat, &error);
    if (!format)
        die(EXIT_CONFIG, "access-logformat: %s", error);
    access_free(format);
    const char *wrong = forwarded_parse(&trust, config->forwarded_allow_ips);
    if (wrong)
        die(EXIT_CONFIG,
            "forwarded-allow-ips: \"%.*s\" is no address or network; write addresses and networks "
            "such as 127.0.0.1,::1,10.0.0.0/8, or *",
            (int)strcspn(wrong, ","), wrong);
    forwarded_fini(&trust);
    listen_check(&config->bind);
}

int main(int argc, char **argv)
{
    struct config config;

    process_init(argc, argv);
    enum config_verb verb = config_read(&config, argc, argv);
    int status = EXIT_OK;

    if (verb != CONFIG_PRINTED && config.chdir != NULL && chdir(config.chdir) != 0)
        die(EXIT_CONFIG, "chdir: cannot change to %s: %s", config.chdir, strerror(errno));
    if (verb != CONFIG_PRINTED)
        check_words(&config);
    switch (verb) {
    case CONFIG_SERVE:
        status = master_run(&config);
        break;
    case CONFIG_CHECK:
        status = mold_check(&config);
        break;
    case CONFIG_PRINTED:
        break;
    }
    config_free(&config);
    return status;
}
