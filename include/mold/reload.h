/* reload.h: reads the settings again, for a new generation of a running server. */
#ifndef MYSERVER_MOLD_RELOAD_H
#define MYSERVER_MOLD_RELOAD_H

struct config;

/* In a new mold: reads everything as at the start, from the directory of the start, and then enters
 * `chdir`. Options that differ from `running` but need a restart are named in a warning and keep
 * their running values. Any error: one sentence (see die_through), exit status 2. The caller owns
 * `c`. */
void config_reload_read(struct config *c, const struct config *running);

#endif
