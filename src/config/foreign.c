/* foreign.c: the options of other servers, as one table. */
#include "foreign.h"

#include "base/text.h"

#include <string.h>

#define KEPT     FOREIGN_KEPT
#define NEEDLESS FOREIGN_NEEDLESS
#define DROPPED  FOREIGN_DROPPED
#define CANNOT   FOREIGN_CANNOT

const struct foreign foreign_table[] = {
#define FOREIGN(...) {"uWSGI", __VA_ARGS__},
#include "foreign/uwsgi.def"
#undef FOREIGN
#define FOREIGN(...) {"gunicorn", __VA_ARGS__},
#include "foreign/gunicorn.def"
#undef FOREIGN
#define FOREIGN(...) {"granian", __VA_ARGS__},
#include "foreign/granian.def"
#undef FOREIGN
#define FOREIGN(...) {"mod_wsgi-express", __VA_ARGS__},
#include "foreign/mod_wsgi.def"
#undef FOREIGN
#define FOREIGN(...) {"waitress-serve", __VA_ARGS__},
#include "foreign/waitress.def"
#undef FOREIGN
};
const size_t foreign_count = ARRAY_LEN(foreign_table);

/* The next word of `*names`, and its length; NULL at the end. */
static const char *next_word(const char **names, size_t *len)
{
    const char *word = *names + strspn(*names, " ");

    *len = strcspn(word, " ");
    *names = word + *len;
    return *len > 0 ? word : NULL;
}

/* The word without what says where it stands and which values it takes; false for a flag. */
static bool strip(const char **word, size_t *len)
{
    if (**word == '-')
        return false;
    if (**word == '.') {
        ++*word;
        --*len;
    }
    *len = strcspn(*word, "=[ ");
    return true;
}

bool foreign_is_named(const struct foreign *row, const char *name)
{
    const char *names = row->names, *word;
    size_t len;

    while ((word = next_word(&names, &len)) != NULL)
        if (strip(&word, &len) && len == strlen(name) && strncmp(word, name, len) == 0)
            return true;
    return false;
}

bool foreign_takes_value(const struct foreign *row, const char *name)
{
    const char *names = row->names, *word;
    size_t len;
    bool is_in_files = false;

    while ((word = next_word(&names, &len)) != NULL) {
        bool is_of_file = *word == '.';
        if (!strip(&word, &len) || len != strlen(name) || strncmp(word, name, len) != 0)
            continue;
        if (!is_of_file)
            return word[len] == '=';
        is_in_files = true;
    }
    return is_in_files;
}

char *foreign_name_of_flag(const struct foreign *row, char letter)
{
    const char *names = row->names, *word, *name = "";
    size_t len, name_len = 0;

    while ((word = next_word(&names, &len)) != NULL) {
        if (len == 2 && word[0] == '-' && word[1] == letter)
            return xasprintf("%.*s", (int)name_len, name);
        if (strip(&word, &len)) {
            name = word;
            name_len = len;
        }
    }
    return NULL;
}
