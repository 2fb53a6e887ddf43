/* check.h: settings that only the rooms above config.c understand. */
#ifndef MYSERVER_CHECK_H
#define MYSERVER_CHECK_H

struct config;

/* Both: a wrong word is found before anything is opened or loaded. Failure: one sentence, exit
 * status 2. */

/* What each generation of workers has of its own (OPTION_RELOAD): also for a reload. */
void check_generation(const struct config *config);
/* All of it: at start, and for --check-config. */
void check_words(const struct config *config);

#endif
