/* notes.c: what the log is to say about the settings.
 *
 * Owns the lines. The settings say where the log is, so while they are read there is none. */
#include "config/notes.h"

#include <stdarg.h>
#include <stdlib.h>

static struct note {
    enum log_level level;
    char *line; /* owned */
} * notes;      /* owned */
static size_t count;

void config_note(enum log_level level, const char *format, ...)
{
    va_list args;

    notes = xrealloc(notes, (count + 1) * sizeof *notes);
    va_start(args, format);
    notes[count++] = (struct note){level, xvasprintf(format, args)};
    va_end(args);
}

void config_notes_log(void)
{
    for (size_t i = 0; i < count; i++)
        log_write(notes[i].level, "%s", notes[i].line);
    config_notes_forget();
}

void config_notes_forget(void)
{
    for (size_t i = 0; i < count; i++)
        free(notes[i].line);
    free(notes);
    notes = NULL;
    count = 0;
}
