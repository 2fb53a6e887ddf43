/* check.h: settings that only the rooms above config.c understand. */
#ifndef MYSERVER_CHECK_H
#define MYSERVER_CHECK_H

struct config;

/* At start, for --check-config, and for a reload: a wrong word is found before anything is opened
 * or loaded. Failure: one sentence, exit status 2. */
void check_words(const struct config *config);

#endif
