/* config_check.c: values that fit their type and are still a mistake. Layer 1.
 *
 * Owns the values that users of other servers or of a shell write, and what they mean by them.
 * Never looks at the machine, never ends the process. */
#include "config_check.h"

#include "config_names.h"

#include <string.h>

static bool is_of(const struct option *option, size_t index)
{
    return option == &options_table[index];
}

static bool is_path(const struct option *option)
{
    return strcmp(option->metavar, "FILE") == 0 || strcmp(option->metavar, "DIR") == 0;
}

static bool is_number(const char *text)
{
    return *text != '\0' && text[strspn(text, "0123456789")] == '\0';
}

/* Whether the part before the headers is one word that does not begin with '/': probably a path
 * that lacks its slash. */
static bool is_word(const char *request)
{
    size_t len = strcspn(request, "|");

    while (len > 0 && request[len - 1] == ' ')
        len--;
    return request[0] != '/' && memchr(request, ' ', len) == NULL;
}

char *config_check_value(const struct option *option, const char *text)
{
    if (is_path(option) && text[0] == '~')
        return xstrdup("~ is not expanded; write the whole path, or ${HOME} in an ini file");
    if (is_of(option, OPTION_INDEX_pid) && is_number(text))
        return xstrdup("pid is the path of a file; for the number of processes write workers");
    if (is_of(option, OPTION_INDEX_prewarm) && is_word(text))
        return xasprintf("a request is a path, or a method and a path; write /%s",
                         config_names_quote(text));
    return NULL;
}

bool config_check_may_have_hash(const struct option *option)
{
    return option->type == OPTION_PAIRS || is_of(option, OPTION_INDEX_access_logformat);
}
