/* logfile.h: where the lines of the two logs go: a file, a standard stream, or syslog. One line is
 * one write, so that lines of several processes never mix.
 *
 * Files are opened by the master alone, with its rights. What it opened last lies in a socket that
 * every process has, and each takes it over with its next line: nobody needs a right to the
 * directory, and nobody has to be told. */
#ifndef MYSERVER_LOGFILE_H
#define MYSERVER_LOGFILE_H

#include "base.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

enum logfile { LOGFILE_ERROR, LOGFILE_ACCESS, LOGFILE_COUNT };

enum logfile_result {
    LOGFILE_WRITTEN,
    LOGFILE_LOST,       /* the first line that could not be written, errno says why */
    LOGFILE_STILL_LOST, /* another one */
    LOGFILE_BACK,       /* written, after others were lost */
};

/* `where`: "-" (stderr, stdout for the access log), a path, or "syslog:" with nothing, unix:PATH
 * or HOST:PORT behind it. NULL, or what is wrong with the word; the caller owns the text. */
MUST_CHECK char *logfile_check(const char *where);
/* Opens it, in the master and before the first fork, the access log first. An error log in a file
 * takes descriptors 1 and 2, so that what the application prints lands there too. Without
 * `follow_links` the last part of a path may be no link of either kind: root would open what
 * somebody else has chosen. `where` is borrowed. NULL, or a sentence that the caller owns, with
 * nothing changed. */
MUST_CHECK char *logfile_open(enum logfile log, const char *where, bool follow_links);
/* A file belongs to `uid` and `gid` from now on: what was opened, and only as long as its path is
 * its only name. False: errno says why not. What is no file, or was opened through a symbolic link,
 * stays as it is. */
MUST_CHECK bool logfile_give(enum logfile log, uid_t uid, gid_t gid);
/* In a process that starts the program again: stdout is what it was, if the access log is there. */
void logfile_pass_on(void);
/* Once, after both are open: `opening` is on shared memory and the master's to write. */
void logfile_share(_Atomic uint32_t *opening);
/* Opens the files anew, for all processes; what cannot be opened stays as it is. NULL, or a
 * sentence about that. Master only. */
MUST_CHECK char *logfile_reopen(void);
/* Takes over what the master has opened since. Any thread; logfile_write does it too. */
void logfile_follow(void);
/* Neither a stream nor a file: the line needs no date. */
bool logfile_is_syslog(enum logfile log);
/* Writes whole lines, one datagram each for syslog, with its number for the severity (RFC 5424
 * 6.2.1). `*lost` is set for LOGFILE_BACK. */
MUST_CHECK enum logfile_result logfile_write(enum logfile log, unsigned severity, const char *lines,
                                             size_t len, uint64_t *lost);

#endif
