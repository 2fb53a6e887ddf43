/* notes.h: what the log is to say about the settings, kept until there is a log. */
#ifndef MYSERVER_CONFIG_NOTES_H
#define MYSERVER_CONFIG_NOTES_H

#include "base/log.h"

/* Keeps one line. */
PRINTF_LIKE(2, 3) void config_note(enum log_level level, const char *format, ...);
/* Writes all lines that are kept to the log, and forgets them. */
void config_notes_log(void);
/* Forgets them: the settings are about to be read again. */
void config_notes_forget(void);

#endif
