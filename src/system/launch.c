/* launch.c: what the launcher hands to the engine. Owns nothing but the pointer to it. */
#include "system/launch.h"

#include "system/process.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct launch nobody;
static const struct launch *launched = &nobody;

const struct launch *launch_get(void)
{
    return launched;
}

void launch_begin(const struct launch *launch)
{
    launched = launch;
    unsetenv(LAUNCH_VARIABLE);
}

void launch_again(const char *virtualenv)
{
    int argc;
    char **argv = process_arguments(&argc);
    setenv(LAUNCH_VARIABLE, virtualenv, 1);
    execv("/proc/self/exe", argv);
    die(EXIT_CRASH, "cannot start %s again: %s", argv[0], strerror(errno));
}

char *launch_package(void)
{
    static const char *const places[] = {"../../python", "python", ".."};
    Dl_info engine;
    /* POSIX has no other way to turn a function into the object pointer dladdr wants. */
    if (!dladdr((void *)(uintptr_t)&launch_package, &engine) || !engine.dli_fname)
        return NULL;
    char *directory = directory_of(engine.dli_fname), *found = NULL;
    for (size_t i = 0; i < ARRAY_LEN(places) && !found; i++) {
        char *place = xasprintf("%s/%s", directory, places[i]);
        char *probe = xasprintf("%s/myserver/load.py", place);
        if (access(probe, R_OK) == 0)
            found = realpath(place, NULL);
        free(probe);
        free(place);
    }
    free(directory);
    return found;
}

void launch_command(char **arguments)
{
    size_t count = 0;
    while (arguments[count])
        count++;
    char *package = launch_package(), *program = realpath("/proc/self/exe", NULL);
    if (!package || !program)
        die(EXIT_CONFIG, "the Python package 'myserver' is not beside the engine");
    char **argv = xcalloc(count + 3, sizeof(*argv));
    argv[0] = xstrdup(launched->python);
    argv[1] = xasprintf("%s/myserver/__main__.py", package);
    memcpy(argv + 2, arguments, count * sizeof(*argv));
    setenv("MYSERVER_PROGRAM", program, 1);
    execv(argv[0], argv);
    die(EXIT_CRASH, "cannot start %s: %s", argv[0], strerror(errno));
}
