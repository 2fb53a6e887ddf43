/* main.c: from the command line to the process that does the work. Layer 5.
 *
 * Owns the order of the first steps and the exit status, nothing else. */
#include "config.h"
#include "master.h"
#include "mold.h"
#include "process.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct config config;

    process_init(argc, argv);
    enum config_verb verb = config_read(&config, argc, argv);
    int status = EXIT_OK;

    if (verb != CONFIG_PRINTED && config.chdir != NULL && chdir(config.chdir) != 0)
        die(EXIT_CONFIG, "chdir: cannot change to %s: %s", config.chdir, strerror(errno));
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
