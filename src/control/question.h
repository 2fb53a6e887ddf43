/* question.h: what a request to control asks for. */
#ifndef MYSERVER_CONTROL_QUESTION_H
#define MYSERVER_CONTROL_QUESTION_H

#include "base/text.h"
#include "http/request.h"

#include <stdbool.h>
#include <stdint.h>

#define QUESTION_MISSING UINT64_MAX

/* Whether a piece of the request is `wanted`. */
bool question_is(const struct request *request, struct http_text text, const char *wanted);
/* The text behind `name=` in the query, as it is there; data NULL: there is none. */
struct text question_text(const struct request *request, const char *name);
/* The same as a number; QUESTION_MISSING: there is none. */
uint64_t question_number(const struct request *request, const char *name);
uint64_t question_number_or(const struct request *request, const char *name, uint64_t otherwise);

#endif
