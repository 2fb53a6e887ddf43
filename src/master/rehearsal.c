/* rehearsal.c: --check-config: a start without sockets, logs and pid file.
 *
 * Owns a board for one worker, from which it learns how far the mold and the worker have come: an
 * exit status alone could also be the application's own. Never serves, never tries again. Runs in
 * the first process, in place of the master. */
#include "master/rehearsal.h"

#include "base/log.h"
#include "config/notes.h"
#include "config/settings.h"
#include "mold/mold.h"
#include "shared/board.h"
#include "shared/failure.h"
#include "shared/seed.h"
#include "system/listen.h"
#include "system/privilege.h"
#include "system/process.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ENDS_MS 4000 /* what two ends may take longer than graceful-timeout */

static NORETURN void become_mold(const struct worker_seed *seed)
{
    struct privilege privilege;
    log_set_process("mold");
    if (seed->config->umask != CONFIG_UNSET)
        umask(seed->config->umask);
    privilege_init(&privilege, seed->config);
    privilege_drop(&privilege);
    mold_rehearse(seed);
}

static sigset_t child_signal(void)
{
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGCHLD);
    return ends;
}

/* False: it still lives at `due_ms`. SIGCHLD is blocked. */
static bool has_ended(pid_t pid, uint64_t due_ms, int *status)
{
    sigset_t ends = child_signal();
    while (waitpid(pid, status, WNOHANG) == 0) {
        uint64_t now = now_ms(), left_ms = due_ms - now;
        if (now >= due_ms)
            return false;
        struct timespec wait = {(time_t)(left_ms / 1000), (long)(left_ms % 1000 * NS_PER_MS)};
        (void)sigtimedwait(&ends, NULL, &wait);
    }
    return true;
}

/* The mold is late, or the worker for which it waits. Its own end ends the worker too. */
static void end_late(struct board *board, pid_t mold, int *status)
{
    pid_t worker = atomic_load(&board->worker[0].pid), late = worker > 0 ? worker : mold;
    kill(late, PROCESS_STACKS_SIGNAL);
    if (has_ended(mold, now_ms() + FAILURE_STACKS_MS, status))
        return;
    failure_log_late(worker > 0 ? "worker 1" : "the mold", late);
    kill(mold, SIGKILL);
    (void)waitpid(mold, status, 0);
}

/* NULL: the worker was ready to serve. */
static const char *failure_of(struct board *board, bool preload, int status, bool was_late)
{
    bool has_said = !preload && failure_is_said(status);
    if (atomic_load(&board->worker[0].state) == BOARD_WORKER_SERVING)
        return NULL;
    if (atomic_load(&board->molds[1].state) != BOARD_MOLD_READY || has_said)
        return failure_load(status, was_late);
    return failure_begin(was_late);
}

int rehearsal_run(const struct config *config)
{
    struct listener nowhere = {.fd = -1, .server_name = "localhost", .server_port = "80"};
    struct listeners listeners = {.items = &nowhere, .count = 1};
    struct board *board = board_new(1, 1, 1);
    struct worker_seed seed = {.config = config,
                               .listeners = &listeners,
                               .board = board,
                               .generation = 1,
                               .lifeline_fd = -1};
    int status = 0;
    config_notes_log();
    atomic_store(&board->master_pid, getpid());
    sigset_t ends = child_signal();
    process_block_signals(&ends);
    pid_t mold = fork();
    if (mold == 0)
        become_mold(&seed);
    if (mold < 0)
        die(EXIT_CRASH, "cannot fork: %s", strerror(errno));
    bool was_late = !has_ended(mold, now_ms() + config->startup_timeout_ms, &status);
    if (was_late && atomic_load(&board->worker[0].state) == BOARD_WORKER_SERVING)
        /* both ends bound themselves */
        was_late = !has_ended(mold, now_ms() + 2 * config->graceful_timeout_ms + ENDS_MS, &status);
    if (was_late)
        end_late(board, mold, &status);
    const char *failure = failure_of(board, config->preload, status, was_late);
    board_free(board);
    if (!failure) {
        printf("the configuration is right, and the application %s loads\n", config->app);
        return EXIT_OK;
    }
    log_critical("cannot start: %s", failure);
    return failure_exit(status);
}
