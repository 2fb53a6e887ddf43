/* main.c: from the command line to the process that does the work. Layer 5.
 *
 * Owns the order of the first steps and the exit status, nothing else. */
#include "config/settings.h"
#include "master/check.h"
#include "master/master.h"
#include "master/rehearsal.h"
#include "mold/reload.h"
#include "streams.h"
#include "system/process.h"

int main(int argc, char **argv)
{
    struct config config;

    streams_fill();
    process_init(argc, argv);
    enum config_verb verb = config_read(&config, argc, argv);
    int status = EXIT_OK;

    if (verb != CONFIG_PRINTED) {
        config_reload_enter(&config);
        check_words(&config);
    }
    switch (verb) {
    case CONFIG_SERVE:
        status = master_run(&config);
        break;
    case CONFIG_CHECK:
        status = rehearsal_run(&config);
        break;
    case CONFIG_PRINTED:
        break;
    }
    config_free(&config);
    return status;
}
