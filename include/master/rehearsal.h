/* rehearsal.h: --check-config: a start without sockets, logs and pid file. */
#ifndef MYSERVER_MASTER_REHEARSAL_H
#define MYSERVER_MASTER_REHEARSAL_H

struct config;

/* Loads the application and begins one worker, in processes of their own that have the rights of
 * the real ones and startup-timeout to do it. Says on standard output that all is right, or in the
 * log what a start would say. Returns the exit status, that of a start. */
int rehearsal_run(const struct config *config);

#endif
