/* text.c: pieces of text from outside. Owns the last text_quote. */
#include "base/text.h"

#include <ctype.h>
#include <string.h>

#define QUOTED_MAX 120

bool text_is(struct text text, const char *word)
{
    return strlen(word) == text.len && memcmp(text.data, word, text.len) == 0;
}

bool text_is_word(struct text text, const char *word)
{
    return strlen(word) == text.len && ascii_equal(text.data, word, text.len);
}

bool text_ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), end_len = strlen(end);
    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

void text_trim(struct text *text)
{
    while (text->len > 0 && is_blank(text->data[0])) {
        text->data++;
        text->len--;
    }
    while (text->len > 0 && is_blank(text->data[text->len - 1]))
        text->len--;
}

bool text_next_element(struct text *list, struct text *element)
{
    if (!list->data)
        return false;
    const char *comma = list->len ? memchr(list->data, ',', list->len) : NULL;
    element->data = list->data;
    element->len = comma ? (size_t)(comma - list->data) : list->len;
    if (comma)
        *list = (struct text){comma + 1, list->len - element->len - 1};
    else
        *list = (struct text){NULL, 0};
    text_trim(element);
    return true;
}

uint64_t text_hash(uint64_t hash, const void *data, size_t len)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ bytes[i]) * 1099511628211ull;
    return hash;
}

const char *text_quote(const char *text)
{
    static char copy[QUOTED_MAX + 1];
    size_t len = strnlen(text, sizeof(copy));

    if (len > QUOTED_MAX)
        len = QUOTED_MAX;
    for (size_t i = 0; i < len; i++)
        copy[i] = iscntrl((unsigned char)text[i]) ? '?' : text[i];
    copy[len] = '\0';
    if (text[len] != '\0')
        memcpy(copy + len - 3, "...", 3);
    return copy;
}
