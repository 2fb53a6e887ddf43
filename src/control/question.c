/* question.c: reads the query of a request to control. Owns nothing. */
#include "question.h"

#include <string.h>

bool question_is(const struct request *request, struct http_text text, const char *wanted)
{
    return text_is(request_piece(request, text), wanted);
}

struct text question_text(const struct request *request, const char *name)
{
    const char *at = request_at(request, request->query), *end = at + request->query.length;
    size_t len = strlen(name);
    while (at < end) {
        const char *next = memchr(at, '&', (size_t)(end - at));
        const char *stop = next ? next : end;
        if ((size_t)(stop - at) > len && memcmp(at, name, len) == 0 && at[len] == '=')
            return (struct text){at + len + 1, (size_t)(stop - at) - len - 1};
        at = stop + 1;
    }
    return (struct text){0};
}

uint64_t question_number(const struct request *request, const char *name)
{
    struct text text = question_text(request, name);
    uint64_t number = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (!text_is_digit(text.data[i]) || number > QUESTION_MISSING / 20)
            return QUESTION_MISSING;
        number = number * 10 + (uint64_t)(text.data[i] - '0');
    }
    return text.len ? number : QUESTION_MISSING;
}

uint64_t question_number_or(const struct request *request, const char *name, uint64_t otherwise)
{
    uint64_t number = question_number(request, name);
    return number == QUESTION_MISSING ? otherwise : number;
}
