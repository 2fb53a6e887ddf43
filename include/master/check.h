/* check.h: checks settings whose meaning only folders above config/ know. */
#ifndef MYSERVER_MASTER_CHECK_H
#define MYSERVER_MASTER_CHECK_H

struct config;

/* Both find a wrong word, or one without effect, before anything is opened or loaded. Failure: one
 * sentence, exit status 2. */

/* Checks the settings that each generation of workers may change (OPTION_RELOAD): at start and for
 * a reload. */
void check_generation(const struct config *config);
/* Checks all of them: at start, and for --check-config. */
void check_words(const struct config *config);

#endif
