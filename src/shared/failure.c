/* failure.c: why a process ended, as text.
 *
 * Owns the sentences about a start that failed, which a start, a reload and --check-config say
 * alike. Decides nothing, ends no process. */
#include "shared/failure.h"

#include "base/buf.h"
#include "base/log.h"
#include "shared/report.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

const char *failure_status(int status)
{
    static char text[64];
    if (WIFSIGNALED(status)) {
        const char *name = sigabbrev_np(WTERMSIG(status));
        snprintf(text, sizeof text, "signal %d (SIG%s)%s", WTERMSIG(status), name ? name : "?",
                 WCOREDUMP(status) ? ", core dumped" : "");
    } else {
        snprintf(text, sizeof text, "exit status %d", WEXITSTATUS(status));
    }
    return text;
}

static bool has_status(int status, enum exit_status wanted)
{
    return WIFEXITED(status) && WEXITSTATUS(status) == wanted;
}

bool failure_is_said(int status)
{
    return has_status(status, EXIT_APP) || has_status(status, EXIT_CONFIG);
}

enum exit_status failure_exit(int status)
{
    return has_status(status, EXIT_CONFIG) ? EXIT_CONFIG : EXIT_APP;
}

const char *failure_begin(bool was_late)
{
    return was_late ? "no worker serves within the startup-timeout"
                    : "its first worker died at start";
}

const char *failure_load(int status, bool was_late)
{
    static char text[128];
    if (was_late)
        return "the application is not loaded and warmed up within the startup-timeout";
    if (has_status(status, EXIT_CONFIG))
        return "the settings or the virtual environment are wrong";
    if (has_status(status, EXIT_APP))
        return "the application could not be loaded";
    snprintf(text, sizeof text, "the mold died while it loaded the application: %s",
             failure_status(status));
    return text;
}

void failure_log_late(const char *name, pid_t pid)
{
    struct buf stacks = {0};
    report_stacks(&stacks, pid);
    log_block(LOG_ERROR, stacks.data, stacks.len, "%s (pid %d) does not get ready and is killed%s",
              name, pid, stacks.len > 0 ? "; its stacks are" : "");
    buf_fini(&stacks);
}
