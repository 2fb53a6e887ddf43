/* notify.h: tells the service manager how the server is (sd_notify(3)). Does nothing where none
 * asked for it. */
#ifndef MYSERVER_NOTIFY_H
#define MYSERVER_NOTIFY_H

#include "base.h"

/* Reads NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID. They stay in the environment of the master,
 * for the master after it. */
void notify_init(void);
/* One message of lines NAME=VALUE. Never blocks; what cannot be sent is lost. */
PRINTF_LIKE(1, 2) void notify_send(const char *format, ...);
/* RELOADING=1 with the time that systemd wants beside it. */
void notify_reloading(void);
/* READY=1, if notify_reloading came before: the reload is over, well or not. */
void notify_reloaded(void);
/* STATUS=, if it is another than the last. */
PRINTF_LIKE(1, 2) void notify_status(const char *format, ...);
/* How often the manager must hear WATCHDOG=1, with a reserve; 0: it does not listen for it. */
uint64_t notify_watchdog_ms(void);
/* In a child that becomes the next master: what names a pid names its own. */
void notify_pass_on(void);
/* In all other children: what they start must not speak for the server. */
void notify_forget(void);

#endif
