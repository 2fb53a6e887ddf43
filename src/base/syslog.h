/* syslog.h: lines as datagrams to a syslog daemon (the system's <syslog.h> reaches only the local
 * one, and blocks the caller for as long as that does not read). */
#ifndef MYSERVER_BASE_SYSLOG_H
#define MYSERVER_BASE_SYSLOG_H

#include "base/base.h"

#include <stdbool.h>
#include <sys/socket.h>

struct syslog {
    int fd; /* owned */
    struct sockaddr_storage address;
    socklen_t address_len;
};

/* Checks the form of `where`: "unix:PATH", "HOST:PORT", or "" for unix:/dev/log. Returns NULL, or a
 * sentence that the caller owns. */
MUST_CHECK char *syslog_check(const char *where);
/* The same, resolves HOST and makes the socket. That no daemon is there yet is no error. */
MUST_CHECK char *syslog_open(struct syslog *s, const char *where);
/* Sends each line with its head: false when one was not taken, errno says why. `patient`: waits up
 * to 0.1 s for room. Any thread. */
MUST_CHECK bool syslog_send(struct syslog *s, unsigned severity, const char *lines, size_t len,
                            bool patient);

#endif
