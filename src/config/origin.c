/* origin.c: where the values in effect come from.
 *
 * Owns a list with the place of every value, which read.c makes. The modules that use a value
 * know best whether it is right, and only here is known which line the user has to change.
 *
 * Never knows what a value means. */
#include "config/origin.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct origin {
    const char *option; /* static */
    char *value;        /* owned, as `place` */
    char *place;
} * origins;
static size_t count;

void config_origin_forget(void)
{
    for (size_t i = 0; i < count; i++) {
        free(origins[i].value);
        free(origins[i].place);
    }
    free(origins);
    origins = NULL;
    count = 0;
}

void config_origin_note(const char *option, char *value, char *place)
{
    origins = xrealloc(origins, (count + 1) * sizeof *origins);
    origins[count++] = (struct origin){option, value, place};
}

/* The value itself need not be there: it may be another spelling of the one that is. */
const char *config_origin_place(const char *option, const char *value)
{
    const char *last = option;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(origins[i].option, option) != 0)
            continue;
        last = origins[i].place;
        if (value && strcmp(origins[i].value, value) == 0)
            break;
    }
    return last;
}

void config_origin_die(enum exit_status status, const char *option, const char *value,
                       const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *sentence = xvasprintf(format, args);
    va_end(args);
    die(status, "%s: %s", config_origin_place(option, value), sentence);
}
