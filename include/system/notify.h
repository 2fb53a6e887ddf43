/* notify.h: tells the service manager the state of the server (sd_notify(3)). Does nothing when no
 * manager has asked for it. */
#ifndef MYSERVER_SYSTEM_NOTIFY_H
#define MYSERVER_SYSTEM_NOTIFY_H

#include "base/base.h"

/* Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID. They stay in the environment of the master,
 * for its successor in an upgrade. */
void notify_init(void);
/* One message of lines NAME=VALUE. Never blocks; what cannot be sent is lost. */
PRINTF_LIKE(1, 2) void notify_send(const char *format, ...);
/* Sends RELOADING=1, with MONOTONIC_USEC, which systemd wants beside it. */
void notify_reloading(void);
/* Sends READY=1, if a reload was announced by notify_reloading: it is over, whether or not it
 * succeeded. */
void notify_reloaded(void);
/* Sends STATUS=, if the text is another than the last. */
PRINTF_LIKE(1, 2) void notify_status(const char *format, ...);
/* The interval at which to send WATCHDOG=1: half of what the manager allows. 0: it does not want
 * it. */
uint64_t notify_watchdog_ms(void);
/* In a child that becomes the next master: sets WATCHDOG_PID to its own pid. */
void notify_pass_on(void);
/* In all other children: removes the socket and the variables, so that programs that they start
 * cannot send messages for the server. */
void notify_forget(void);

#endif
