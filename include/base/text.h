/* text.h: pieces of text from outside: compared, cut and shown without the locale. */
#ifndef MYSERVER_BASE_TEXT_H
#define MYSERVER_BASE_TEXT_H

#include "base/base.h"

#include <stdbool.h>
#include <stddef.h>

/* A piece of somebody else's bytes. `data` NULL: there is none. */
struct text {
    const char *data;
    size_t len;
};

static inline bool text_is_digit(char c)
{
    return c >= '0' && c <= '9';
}
/* Whether the text is `word`; text_is_word: whatever the case of its ASCII letters. */
bool text_is(struct text text, const char *word);
bool text_is_word(struct text text, const char *word);
/* Takes SP and HTAB from both ends. */
void text_trim(struct text *text);
/* Cuts the next element off a comma-separated list, without the blanks around it. False: the list
 * was at its end. */
bool text_next_element(struct text *list, struct text *element);

/* Whether `text` ends with `end`. */
bool text_ends_with(const char *text, const char *end);

/* FNV-1a of 64 bits, to be continued: begin with TEXT_HASH. Not for keys that a client chooses. */
#define TEXT_HASH 14695981039346656037ull
uint64_t text_hash(uint64_t hash, const void *data, size_t len);

/* Makes a text fit for a sentence: no control bytes, 120 bytes at most. Returns static storage,
 * valid until the next call: for one thread only. */
const char *text_quote(const char *text);

#endif
