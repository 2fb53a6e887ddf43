/* process.c: what the system shows and keeps of a process.
 *
 * Owns the memory between the first byte of argv and the last byte of the environment, which
 * the kernel shows as the command line; process_init moves what stood there to the heap, so
 * that titles of any length up to `title_bytes` fit. Also owns the signal mask that the
 * server was started with.
 *
 * Never forks, never decides what a signal means. The state at file scope is set once, by the
 * master before it forks. */
#include "system/process.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define TITLE_MAX_BYTES 256

extern char **environ;

static char *title;
static size_t title_bytes;
static sigset_t first_mask;
static char **first_arguments; /* [first_count + 1], for life */
static int first_count;
/* Never read: it keeps a pointer to the strings that setenv removes from environ, for leak
 * checkers. */
static char **first_environment __attribute__((used));
static char *home;       /* the directory of the start */
static char *executable; /* path of the running program: if first_arguments[0] is not found */

/* The end of those strings of `list` that lie in memory one behind the other from `end` on. */
static char *contiguous_end(char **list, char *end)
{
    for (; *list && *list == end; list++)
        end = *list + strlen(*list) + 1;
    return end;
}

/* Copies that live as long as the process: libc and the settings point into them. */
static char **copy_strings(char **list, size_t count)
{
    char **copy = xcalloc(count + 1, sizeof *copy);
    for (size_t i = 0; i < count; i++)
        copy[i] = xstrdup(list[i]);
    return copy;
}

/* The current directory, by the name in $PWD if that is the same one; NULL when it is gone. */
static char *find_home(void)
{
    struct stat here, named;
    const char *name = getenv("PWD");
    if (name && name[0] == '/' && stat(name, &named) == 0 && stat(".", &here) == 0 &&
        named.st_dev == here.st_dev && named.st_ino == here.st_ino)
        return xstrdup(name);
    return getcwd(NULL, 0);
}

void process_init(int argc, char **argv)
{
    if (argc < 1)
        return;
    size_t variables = 0;
    while (environ[variables])
        variables++;
    char *end = contiguous_end(environ, contiguous_end(argv, argv[0]));

    environ = copy_strings(environ, variables);
    first_environment = xcalloc(variables + 1, sizeof *first_environment);
    memcpy(first_environment, environ, variables * sizeof *environ);
    title = argv[0];
    title_bytes = (size_t)(end - argv[0]);
    first_arguments = copy_strings(argv, (size_t)argc);
    first_count = argc;
    memcpy(argv, first_arguments, (size_t)argc * sizeof *argv);
    home = find_home();
    executable = realpath("/proc/self/exe", NULL);

    program_invocation_name = argv[0];
    const char *slash = strrchr(argv[0], '/');
    program_invocation_short_name = slash ? (char *)slash + 1 : argv[0];
}

char **process_arguments(int *argc)
{
    *argc = first_count;
    return first_arguments;
}

void process_go_home(void)
{
    if (!home || chdir(home) != 0)
        die(EXIT_CONFIG, "cannot change to the directory of the start%s%s: %s", home ? ", " : "",
            home ? home : "", strerror(home ? errno : ENOENT));
}

char *process_from_home(const char *path)
{
    return path[0] == '/' || !home ? xstrdup(path) : xasprintf("%s/%s", home, path);
}

void process_start_again(void)
{
    execvp(first_arguments[0], first_arguments);
    if (executable)
        execv(executable, first_arguments);
    die(EXIT_CONFIG, "cannot start %s: %s", first_arguments[0], strerror(errno));
}

/* "myserver:worker": only 15 bytes fit, so the blank is left out. */
static void set_comm(const char *text)
{
    if (getpid() != gettid())
        return;
    char comm[16];
    const char *rest = strchr(text, ' ');
    snprintf(comm, sizeof comm, "%.*s%s", rest ? (int)(rest - text) : (int)strlen(text), text,
             rest ? rest + 1 : "");
    prctl(PR_SET_NAME, comm);
}

void process_set_title(const char *format, ...)
{
    char text[TITLE_MAX_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    set_comm(text);
    if (!title)
        return;
    size_t len = strnlen(text, title_bytes - 1);
    memcpy(title, text, len);
    memset(title + len, 0, title_bytes - len);
}

void process_become_master(void)
{
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0)
        die(EXIT_CRASH, "cannot adopt orphans: %s", strerror(errno));
    /* Fails on kernels built without huge pages, which is as good. */
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
}

void process_block_signals(const sigset_t *signals)
{
    /* nohup and some init scripts hand down ignored signals, and the kernel drops an ignored
     * signal even while it is blocked; with SIGCHLD ignored, exit statuses are lost. */
    for (int number = 1; number < NSIG; number++)
        if (sigismember(signals, number) == 1)
            signal(number, SIG_DFL);
    sigprocmask(SIG_BLOCK, signals, &first_mask);
    /* Whoever starts the program may have blocked them, and a mask outlives exec: a worker would
     * never hear that it is to drain, nor would children of the application end at TERM. */
    for (int number = 1; number < NSIG; number++)
        if (sigismember(signals, number) == 1)
            sigdelset(&first_mask, number);
}

static void ignore_if_default(int number)
{
    struct sigaction now;
    if (sigaction(number, NULL, &now) == 0 && now.sa_handler == SIG_DFL)
        signal(number, SIG_IGN);
}

void process_ignore_broken_pipes(void)
{
    ignore_if_default(SIGPIPE);
}

void process_ignore_failed_writes(void)
{
    process_ignore_broken_pipes();
    ignore_if_default(SIGXFSZ);
}

static void do_nothing(int number)
{
    (void)number;
}

const char *process_take_signals(bool ends)
{
    static const struct {
        int number;
        const char *name;
    } taken[] = {
        {SIGTERM, "SIGTERM"}, {SIGQUIT, "SIGQUIT"}, {SIGINT, "SIGINT"}, {SIGUSR2, "SIGUSR2"}};
    static char names[64];
    struct sigaction quiet = {.sa_handler = do_nothing, .sa_flags = SA_RESTART}, before;
    names[0] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(taken); i++) {
        bool is_stop = taken[i].number == SIGTERM || taken[i].number == SIGQUIT;
        quiet.sa_handler = ends && is_stop ? SIG_DFL : do_nothing;
        sigaction(taken[i].number, &quiet, &before);
        size_t len = strlen(names);
        if (before.sa_handler != do_nothing && before.sa_handler != SIG_DFL)
            snprintf(names + len, sizeof names - len, "%s%s", len > 0 ? ", " : "", taken[i].name);
    }
    return names;
}

void process_set_signals(void)
{
    process_ignore_failed_writes();
    struct sigaction quiet = {.sa_handler = do_nothing, .sa_flags = SA_RESTART}, now;
    sigaction(SIGINT, &quiet, NULL);
    sigaction(SIGUSR2, &quiet, NULL);
    if (sigaction(PROCESS_STACKS_SIGNAL, NULL, &now) == 0 && now.sa_handler == SIG_DFL)
        sigaction(PROCESS_STACKS_SIGNAL, &quiet, NULL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGQUIT, SIG_DFL);
    sigprocmask(SIG_SETMASK, &first_mask, NULL);
}

void process_restore_signals(void)
{
    /* Only ignored signals get the default back: handlers that are set belong to sanitizers. */
    for (int number = 1; number < NSIG; number++) {
        struct sigaction now;
        if (sigaction(number, NULL, &now) == 0 && now.sa_handler == SIG_IGN)
            signal(number, SIG_DFL);
    }
    process_set_signals();
}
