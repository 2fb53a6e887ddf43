/* launcher.c: the program `myserver`: finds the interpreter, loads libpython and the engine.
 *
 * Owns how an interpreter is found: that of the virtualenv that the settings name, else the
 * virtualenv in which this file lies, else $VIRTUAL_ENV, else the one it was built with, one beside
 * this file, one in $PATH. Not linked with libpython, so one file serves all versions: for each it
 * needs an engine, `engine-3.X.so`. Runs before everything else; frees nothing. */
#include "system/launch.h"
#include "timedwait.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What is found here lives as long as the process: leak checkers need not look. */
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#else
#define __lsan_disable() ((void)0)
#define __lsan_enable()  ((void)0)
#endif

#define NEWEST 15 /* the last 3.X that there may be an engine for */

struct interpreter {
    unsigned minor;
    char *python;  /* the path to start it by */
    char *base;    /* the directory of the executable behind it, without /bin */
    char *library; /* libpython */
    char *engine;
};

static struct interpreter chosen;
static char *home; /* the directory of this program */

/* The file or directory that `path` leads to, NULL: to none. */
static char *resolve(const char *path)
{
    char file[PATH_MAX];
    return realpath(path, file) ? xstrdup(file) : NULL;
}

/* The first of the folders that has a file of that name; NULL: none has. */
static char *find(char *const folders[], size_t count, const char *name)
{
    char *file = NULL;
    for (size_t i = 0; i < count && !file; i++)
        file = resolve(xasprintf("%s/%s", folders[i], name));
    return file;
}

static char *find_engine(unsigned minor)
{
    char *folders[] = {home, xasprintf("%s/../lib/myserver", home),
                       xasprintf("%s/../lib/python3.%u/site-packages/myserver", home, minor),
                       xasprintf("%s/../lib/python3.%u/dist-packages/myserver", home, minor),
                       xasprintf("%s/../myserver", home)};
    return find(folders, ARRAY_LEN(folders), xasprintf("engine-3.%u.so", minor));
}

static char *find_library(const char *base, unsigned minor)
{
    char *folders[] = {xasprintf("%s/lib", base), xasprintf("%s/lib/" MYSERVER_MULTIARCH, base),
                       xasprintf("%s/lib64", base)};
    return find(folders, ARRAY_LEN(folders), xasprintf("libpython3.%u.so.1.0", minor));
}

/* "3.11, 3.13"; "" when there is none. */
static char *list_engines(void)
{
    char *list = xstrdup("");
    for (unsigned minor = 11; minor <= NEWEST; minor++)
        if (find_engine(minor))
            list = xasprintf("%s%s3.%u", list, *list ? ", " : "", minor);
    return list;
}

/* Fills in the rest of `found`, of which minor, python and base are known. Returns why it cannot be
 * used, or NULL. */
static char *complete(struct interpreter *found)
{
    unsigned minor = found->minor;
    if (!(found->engine = find_engine(minor)) && !*list_engines())
        return xasprintf("engine-3.%u.so, the rest of the program, is not where it belongs to "
                         "%s/myserver: install that again with pip or 'make install', not by "
                         "copying the file",
                         minor, home);
    if (!found->engine)
        return xasprintf("%s is Python 3.%u, but this program is built for Python %s: use one of "
                         "those (python3.%u -m venv DIR), install the program for Python 3.%u with "
                         "pip, or build it with 'make PYTHON=python3.%u'",
                         found->python, minor, list_engines(), minor, minor, minor);
    if (!(found->library = find_library(found->base, minor)))
        return xasprintf("Python 3.%u in %s has no libpython3.%u.so.1.0: install it (Debian, "
                         "Ubuntu: libpython3.%u; Fedora, RHEL: python3.%u-libs; conda: "
                         "libpython), or use a Python built with --enable-shared (pyenv: "
                         "PYTHON_CONFIGURE_OPTS=--enable-shared)",
                         minor, found->base, minor, minor, minor);
    return NULL;
}

/* Of the executable at `path`; its file is named python3.X. */
static char *from_executable(const char *path, struct interpreter *found)
{
    char *file = resolve(path), *name = file ? strrchr(file, '/') : NULL, more = '\0';
    if (!name || sscanf(name, "/python3.%u%c", &found->minor, &more) < 1)
        return xasprintf("%s is no Python 3", path);
    if (more == 't')
        return xasprintf("%s is a free-threaded Python, which is not supported yet: use the usual "
                         "build, python3.%u",
                         path, found->minor);
    found->python = xstrdup(path);
    found->base = resolve(xasprintf("%s..", directory_of(file)));
    return complete(found);
}

/* The value of `key` in the file, or NULL. */
static char *read_key(FILE *file, const char *key)
{
    char line[PATH_MAX + 64], name[64], value[PATH_MAX];
    rewind(file);
    while (fgets(line, sizeof(line), file))
        if (sscanf(line, " %63[^= \t] = %4095[^\n]", name, value) == 2 && strcmp(name, key) == 0)
            return xstrdup(value);
    return NULL;
}

static char *from_virtualenv(const char *directory, struct interpreter *found)
{
    unsigned major = 0, minor = 0;
    FILE *file = fopen(xasprintf("%s/pyvenv.cfg", directory), "re");
    if (!file)
        return xasprintf("%s: no pyvenv.cfg there, so it is no virtualenv; make one with "
                         "'python3 -m venv %s'",
                         directory, directory);
    const char *version = read_key(file, "version");
    version = version ? version : read_key(file, "version_info");
    const char *bin = read_key(file, "home");
    fclose(file);
    if (!version || sscanf(version, "%u.%u", &major, &minor) != 2 || major != 3)
        return xasprintf("%s: pyvenv.cfg does not say a version of Python 3", directory);
    char *python = xasprintf("%s/bin/python", directory);
    char *path = resolve(xasprintf("%s/python3.%u", bin ? bin : "", minor));
    char *why = from_executable(path ? path : python, found);
    found->python = python;
    if (found->minor == minor)
        return why;
    if (!find_engine(found->minor = minor))
        return complete(found);
    return xasprintf("%s: the Python 3.%u that it was made with is no longer in %s: make it again "
                     "(python3 -m venv --clear %s) and install its packages",
                     directory, minor, bin ? bin : "its place", directory);
}

/* launch.refuse */
static char *refuse(const char *virtualenv, bool here)
{
    struct interpreter found = {0};
    __lsan_disable();
    char *why = from_virtualenv(virtualenv, &found);
    __lsan_enable();
    if (why || !here)
        return why;
    assert(found.library);
    if (strcmp(found.library, chosen.library) == 0)
        return NULL;
    return xasprintf("%s needs %s, but the running server uses %s: a reload cannot change that; "
                     "start the server again, or send USR2",
                     virtualenv, found.library, chosen.library);
}

/* Of the first that can be used; else why the first of them cannot. */
static char *from_places(struct interpreter *found)
{
    const char *path = getenv("PATH");
    char *list = xasprintf("%s:%s/python3", MYSERVER_PYTHON_EXECUTABLE, home), *first = NULL;
    for (char *folders = xstrdup(path ? path : ""); (path = strsep(&folders, ":"));)
        list = xasprintf("%s:%s/python3", list, path);
    while ((path = strsep(&list, ":"))) {
        struct interpreter next = {0};
        char *why = resolve(path) ? from_executable(path, &next) : NULL;
        if (next.library) {
            *found = next;
            return NULL;
        }
        first = first ? first : why;
    }
    return first ? first : xstrdup("no python3 is in $PATH");
}

/* The virtualenv whose Python is chosen, or NULL. */
static const char *choose(void)
{
    const char *named = getenv(LAUNCH_VARIABLE), *active = getenv("VIRTUAL_ENV");
    char *own = resolve(xasprintf("%s/..", home)), *why = NULL;
    if (!named && own && resolve(xasprintf("%s/pyvenv.cfg", own))) {
        setenv("VIRTUAL_ENV", own, 1); /* the program of a virtualenv serves that one */
        named = own;
    }
    /* What is wrong with $VIRTUAL_ENV the engine says, where it is not overruled. */
    if (!named && active && !from_virtualenv(active, &chosen))
        return active;
    why = named ? from_virtualenv(named, &chosen) : from_places(&chosen);
    if (why)
        die(EXIT_CONFIG, "%s", why);
    return named;
}

int main(int argc, char **argv)
{
    __lsan_disable();
    char *file = resolve("/proc/self/exe");
    if (!file)
        die(EXIT_CRASH, "/proc/self/exe cannot be read: %s", strerror(errno));
    home = resolve(directory_of(file));
    struct launch launch = {.virtualenv = choose(), .refuse = refuse, .wait_hook = timedwait_hook};
    launch.python = chosen.python;
    __lsan_enable();
    /* Global: extension modules find Python there. */
    if (!dlopen(chosen.library, RTLD_NOW | RTLD_GLOBAL))
        die(EXIT_CONFIG, "libpython cannot be loaded: %s", dlerror());
    void *engine = dlopen(chosen.engine, RTLD_NOW | RTLD_LOCAL);
    launch_entry *entry = NULL;
    if (engine)
        *(void **)&entry = dlsym(engine, "myserver_main");
    if (!entry)
        die(EXIT_CONFIG, "the engine cannot be loaded: %s", dlerror());
    return entry(argc, argv, &launch);
}
