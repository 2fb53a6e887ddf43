/* config_reload.h: the settings again, for a new generation of a server that runs. */
#ifndef MYSERVER_CONFIG_RELOAD_H
#define MYSERVER_CONFIG_RELOAD_H

struct config;

/* Changes to the directory of the settings, if one is set. Failure: one sentence, exit status 2. */
void config_reload_enter(const struct config *c);
/* In a new mold: reads everything as at the start, from the directory of the start, and enters
 * `chdir`. What differs from `running` but needs a restart is named in a warning and stays as it
 * runs. Any error: one sentence (see die_through), exit status 2. The caller owns `c`. */
void config_reload_read(struct config *c, const struct config *running);

#endif
