/* reload.c: the settings of a new generation.
 *
 * Owns the comparison of the settings as they are written now with those that run. Called in the
 * mold, a process of its own: a broken file ends the mold, and the generation before goes on. The
 * master keeps the settings that it was started with.
 *
 * Never changes running settings, and never applies an option that only a new master could
 * apply. */
#include "mold/reload.h"

#include "base/buf.h"
#include "base/log.h"
#include "config/options.h"
#include "config/origin.h"
#include "config/read.h"
#include "system/process.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool is_equal(const struct option *option, const struct config *a, const struct config *b)
{
    size_t count = options_item_count(a, option);
    bool equal = count == options_item_count(b, option);

    for (size_t i = 0; i < count && equal; i++) {
        char *one = options_item(a, option, i), *other = options_item(b, option, i);
        equal = strcmp(one, other) == 0;
        free(one);
        free(other);
    }
    return equal;
}

static void copy(const struct option *option, struct config *to, const struct config *from)
{
    options_clear(to, option);
    for (size_t i = 0; i < options_item_count(from, option); i++) {
        char *text = options_item(from, option, i);
        char *wrong = options_set(to, option, text);
        assert(!wrong);
        free(text);
    }
}

static void keep_what_needs_a_restart(struct config *c, const struct config *running)
{
    struct buf names = {0};

    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const struct option *option = &options_table[i];
        if (option->when != OPTION_RESTART || is_equal(option, c, running))
            continue;
        buf_printf(&names, "%s%s", names.len > 0 ? ", " : "", option->name);
        copy(option, c, running);
    }
    if (names.len > 0)
        log_warning("changed, but takes effect only after a restart or an upgrade (USR2): %.*s",
                    (int)names.len, names.data);
    buf_fini(&names);
}

void config_reload_read(struct config *c, const struct config *running)
{
    int argc;
    char **argv = process_arguments(&argc);

    process_go_home();
    struct command command = config_read(c, argc, argv);
    assert(command.verb == COMMAND_SERVE);
    keep_what_needs_a_restart(c, running);
    log_set_level((enum log_level)c->log_level);
    config_enter(c);
}
