/* logfile.h: where the lines of the two logs go: a file, a standard stream, or syslog. One line is
 * one write, so that lines of several processes never mix.
 *
 * Only the master opens files, with its rights. The descriptors of those that it opened last are in
 * a socket that every process has, and each process takes them over with its next line: it needs no
 * right to the directory, and no signal. */
#ifndef MYSERVER_BASE_LOGFILE_H
#define MYSERVER_BASE_LOGFILE_H

#include "base/base.h"

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

/* Checks `where`: "-" (stderr, stdout for the access log), a path, or "syslog:" followed by
 * nothing, unix:PATH or HOST:PORT. Returns NULL, or what is wrong; the caller owns the text. */
MUST_CHECK char *logfile_check(const char *where);
/* Opens a log, in the master before the first fork; the access log first. An error log in a file
 * takes descriptors 1 and 2, so that what the application prints goes there too. Without
 * `follow_links` the file may be neither a symbolic nor a hard link, by which somebody else would
 * choose what root opens. `where` is borrowed. Returns NULL, or with nothing changed a sentence
 * that the caller owns. */
MUST_CHECK char *logfile_open(enum logfile log, const char *where, bool follow_links);
/* Gives the open file of a log to `uid` and `gid`, if its path is its only name. False: errno says
 * why not. A log that is no file, or was opened through a symbolic link, keeps its owner, and that
 * is no failure. */
MUST_CHECK bool logfile_give(enum logfile log, uid_t uid, gid_t gid);
/* In a process that starts the program again: as logfile_unwrap; and if the access log goes to
 * stdout, makes descriptor 1 that stdout again. */
void logfile_pass_on(void);
/* From now on what this process and its children print on descriptors 1 and 2 goes into a stream of
 * unix sockets instead; the log itself keeps going where it went. Returns the other end of the
 * stream, which tells who has written what (SO_PASSCRED); -1: there can be none, see errno. Once,
 * in the master, after the logs were opened. */
MUST_CHECK int logfile_wrap(void);
/* Descriptors 1 and 2 of this process are what they were before, if they were wrapped. */
void logfile_unwrap(void);
/* Once, after both logs are open. `opening` is in shared memory, and only the master writes it. */
void logfile_share(_Atomic uint32_t *opening);
/* Opens the files again, for all processes; a log whose file cannot be opened stays as it is.
 * Returns NULL, or a sentence about that; the caller owns it. Master only. */
MUST_CHECK char *logfile_reopen(void);
/* Takes over the files that the master has reopened since. Any thread; logfile_write calls it. */
void logfile_follow(void);
/* Whether the log goes to syslog, so that its lines need no date. */
bool logfile_is_syslog(enum logfile log);
/* Writes whole lines; syslog gets a datagram for each, with `severity` (RFC 5424 6.2.1).
 * LOGFILE_BACK: `*lost` is how many lines were lost before. Any thread. */
MUST_CHECK enum logfile_result logfile_write(enum logfile log, unsigned severity, const char *lines,
                                             size_t len, uint64_t *lost);

#endif
