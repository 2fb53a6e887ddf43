/* check.c: words in the settings that config.c cannot know the meaning of.
 *
 * Owns nothing. Asks the rooms that will use such a word later whether they understand it, and ends
 * the process with one sentence if not. Opens nothing, keeps nothing. */
#include "check.h"

#include "access.h"
#include "config.h"
#include "forwarded.h"
#include "listen.h"

#include <string.h>

void check_words(const struct config *config)
{
    struct forwarded_trust trust;
    char *error = NULL;
    struct access_format *format = access_compile(config->access_logformat, &error);
    if (!format)
        die(EXIT_CONFIG, "access-logformat: %s", error);
    access_free(format);
    const char *wrong = forwarded_parse(&trust, config->forwarded_allow_ips);
    if (wrong)
        die(EXIT_CONFIG,
            "forwarded-allow-ips: \"%.*s\" is no address or network; write addresses and networks "
            "such as 127.0.0.1,::1,10.0.0.0/8, or *",
            (int)strcspn(wrong, ","), wrong);
    forwarded_fini(&trust);
    listen_check(&config->bind);
}
