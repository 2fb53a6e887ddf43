/* signals.c: what a signal to the master means.
 *
 * Owns: nothing; the descriptor that it opens is the book's. Master only. */
#include "signals.h"

#include "base/log.h"
#include "base/logfile.h"
#include "book.h"
#include "reap.h"
#include "scale.h"
#include "stop.h"
#include "system/process.h"
#include "trial.h"
#include "upgrade.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

void signals_open(struct book *b)
{
    static const int handled[] = {SIGTERM, SIGINT,  SIGQUIT, SIGHUP,  SIGCHLD,
                                  SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGWINCH};
    sigset_t set;
    sigemptyset(&set);
    for (unsigned i = 0; i < ARRAY_LEN(handled); i++)
        sigaddset(&set, handled[i]);
    process_block_signals(&set);
    b->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (b->signal_fd < 0)
        die(EXIT_CRASH, "cannot make a signalfd: %s", strerror(errno));
}

static void reopen_logs(void)
{
    char *wrong = logfile_reopen();
    if (wrong)
        log_error("reopening logs: %s", wrong);
    else
        log_info("logs reopened");
    free(wrong);
}

/* The kernel itself sends these when the size of a terminal changes, or when a process of a job in
 * the background wants to use the terminal. The operator sends them with kill(2). */
static bool is_about_terminal(const struct signalfd_siginfo *info)
{
    uint32_t number = info->ssi_signo;
    return info->ssi_code > 0 && (number == SIGWINCH || number == SIGTTIN || number == SIGTTOU);
}

static bool resume(struct book *b)
{
    bool was_paused = scale_resume(&b->scale);
    if (was_paused)
        trial_resume(b);
    return was_paused;
}

static void on_signal(struct book *b, const struct signalfd_siginfo *info)
{
    if (is_about_terminal(info))
        return;
    switch (info->ssi_signo) {
    case SIGCHLD:
        reap_children(b);
        break;
    case SIGTERM:
        stop_told(b);
        break;
    case SIGINT:
        stop_interrupted(b);
        break;
    case SIGQUIT:
        stop_server(b, true);
        break;
    case SIGHUP:
        b->wants_anew |= resume(b);
        b->reload_wanted = true;
        break;
    case SIGUSR1:
        reopen_logs();
        break;
    case SIGUSR2:
        upgrade_begin(&b->upgrade, b->served && b->stop == STOP_NOT && !b->stop_due_ms);
        break;
    case SIGWINCH:
        scale_pause(&b->scale);
        break;
    case SIGTTIN:
        if (!resume(b)) /* in a pause it only ends the pause */
            scale_change(&b->scale, 1);
        break;
    case SIGTTOU:
        scale_change(&b->scale, -1);
        break;
    }
}

/* signalfd gives pending signals by number, not in the order in which they were sent. SIGWINCH (the
 * pause) is handled first, so that it does not undo a HUP or TTIN that is to end the pause. */
void signals_take(struct book *b)
{
    struct signalfd_siginfo infos[16];
    ssize_t got;
    while ((got = read(b->signal_fd, infos, sizeof infos)) > 0) {
        size_t count = (size_t)got / sizeof infos[0];
        for (size_t i = 0; i < count; i++)
            if (infos[i].ssi_signo == SIGWINCH)
                on_signal(b, &infos[i]);
        for (size_t i = 0; i < count; i++)
            if (infos[i].ssi_signo != SIGWINCH)
                on_signal(b, &infos[i]);
    }
}
