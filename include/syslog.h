/* syslog.h: lines as datagrams to a syslog daemon (the system's <syslog.h> speaks to the local one
 * only, and holds the caller up for as long as that one likes). */
#ifndef MYSERVER_SYSLOG_H
#define MYSERVER_SYSLOG_H

#include "base.h"

#include <stdbool.h>
#include <sys/socket.h>

struct syslog {
    int fd; /* owned */
    struct sockaddr_storage address;
    socklen_t address_len;
};

/* `where`: "unix:PATH", "HOST:PORT", or nothing for unix:/dev/log. Looks at the word only. NULL, or
 * a sentence that the caller owns. */
MUST_CHECK char *syslog_check(const char *where);
/* The same, and makes the socket. A daemon that is not there yet is no error. */
MUST_CHECK char *syslog_open(struct syslog *s, const char *where);
/* Sends each line with its head: false when one was not taken, errno says why. `patient`: waits up
 * to 0.1 s for room. Any thread. */
MUST_CHECK bool syslog_send(struct syslog *s, unsigned severity, const char *lines, size_t len,
                            bool patient);

#endif
