/* main.c: from the command line to the process that does the work; what the launcher calls.
 *
 * Owns the order of the first steps and the exit status, nothing else. */
#include "base/fds.h"
#include "config/options.h"
#include "config/origin.h"
#include "config/read.h"
#include "config/settings.h"
#include "control/health.h"
#include "control/memory.h"
#include "master/check.h"
#include "master/master.h"
#include "master/rehearsal.h"
#include "system/launch.h"
#include "system/process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The Python that is loaded is that of the virtualenv that the settings name: else the launcher
 * begins again, with that one. */
static void match_virtualenv(const struct config *config)
{
    if (!config->virtualenv)
        return;
    const char *launched = launch_get()->virtualenv;
    char *wanted = realpath(config->virtualenv, NULL),
         *here = launched ? realpath(launched, NULL) : NULL;
    if (!wanted || !here || strcmp(wanted, here) != 0) {
        const char *why = launch_get()->refuse(config->virtualenv, false);
        if (why)
            config_origin_die(EXIT_CONFIG, "virtualenv", NULL, "%s", why);
        if (config->chdir)
            process_go_home(); /* the paths in argv begin there */
        launch_again(wanted);
    }
    free(wanted);
    free(here);
}

__attribute__((visibility("default"))) launch_entry myserver_main;

int myserver_main(int argc, char **argv, const struct launch *launch)
{
    struct config config;
    int status = EXIT_OK;

    fds_fill_streams();
    launch_begin(launch);
    process_init(argc, argv);
    struct command command = config_read(&config, argc, argv);
    if (command.verb == COMMAND_SERVE || command.verb == COMMAND_CHECK) {
        config_enter(&config);
        match_virtualenv(&config);
        check_words(&config);
    }
    switch (command.verb) {
    case COMMAND_SERVE:
        status = master_run(&config);
        break;
    case COMMAND_CHECK:
        status = rehearsal_run(&config);
        break;
    case COMMAND_HEALTH:
        config_enter(&config); /* relative paths start there */
        status = health_ask(&config, stdout);
        break;
    case COMMAND_REPORT:
        memory_report(command.pid, stdout);
        break;
    case COMMAND_PYTHON:
        launch_command(argv + 1);
    case COMMAND_PRINT:
    case COMMAND_DONE:
        break;
    }
    options_free(&config);
    return status;
}
