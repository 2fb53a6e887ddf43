/* schema.c: the ini file as a JSON schema (draft 2020-12), for editors that complete and check.
 *
 * Owns the patterns of the types. A schema sees one value at a time and cannot add units up, so it
 * is more lenient than the program: ranges of numbers with units are in the description only. A
 * value with a variable in it may become anything. */
#include "config/options.h"
#include "docs.h"

#include <inttypes.h>

#define OR_VARIABLE "|.*\\\\$\\\\{.*"

static void write_text(FILE *out, const char *key, const char *text)
{
    fprintf(out, "\"%s\": \"", key);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

/* What a value may be, without braces. */
static void write_rule(FILE *out, const struct option *option)
{
    static const char *const patterns[] = {
        [OPTION_UINT] = "[0-9]+",
        [OPTION_SIZE] = "[0-9]+[kmg]?",
        [OPTION_DURATION] = "[0-9]+(\\\\.[0-9]+)?(ms|s|m|h)?",
        [OPTION_MEMORY] = "[0-9]+[kmg]?|auto",
        [OPTION_MODE] = "[0-7]+",
        [OPTION_WORKERS] = "[0-9]+|auto",
        [OPTION_PREFIX] = "|/.*[^/]",
        [OPTION_PAIRS] = "[A-Za-z_][A-Za-z0-9_]*=.*",
    };
    switch (option->type) {
    case OPTION_BOOL:
        fputs("\"enum\": [\"true\", \"false\", true, false]", out);
        return;
    case OPTION_LEVEL:
        fputs("\"enum\": [\"debug\", \"info\", \"warning\", \"error\", \"critical\"]", out);
        return;
    case OPTION_PROXY:
        fputs("\"enum\": [\"off\", \"v1\", \"v2\", \"auto\"]", out);
        return;
    case OPTION_STRING:
    case OPTION_LIST:
        fprintf(out, "\"type\": \"string\", \"minLength\": %" PRIu64 ", \"maxLength\": %" PRIu64,
                option->min, option->max);
        return;
    case OPTION_PREFIX:
    case OPTION_PAIRS:
        fprintf(out, "\"type\": \"string\", \"pattern\": \"^(%s)$\"", patterns[option->type]);
        return;
    case OPTION_UINT:
    case OPTION_SIZE:
    case OPTION_MEMORY:
    case OPTION_DURATION:
    case OPTION_MODE:
    case OPTION_WORKERS:
        fprintf(out, "\"type\": [\"string\", \"number\"], \"pattern\": \"^(%s" OR_VARIABLE ")$\"",
                patterns[option->type]);
        return;
    }
    assert(false);
}

static void write_option(FILE *out, const struct option *option)
{
    fprintf(out, "        \"%s\": {", option->name);
    write_text(out, "description", option->help);
    if (option->default_text) {
        fputs(", ", out);
        write_text(out, "default", option->default_text);
    }
    fputs(", ", out);
    if (!options_is_list(option)) {
        write_rule(out, option);
    } else {
        fputs("\"anyOf\": [{", out);
        write_rule(out, option);
        fputs("}, {\"type\": \"array\", \"items\": {", out);
        write_rule(out, option);
        fputs("}}]", out);
    }
    fputc('}', out);
}

void config_docs_schema(FILE *out)
{
    fputs("{\n"
          "  \"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n"
          "  \"title\": \"Settings of myserver\",\n"
          "  \"type\": \"object\",\n"
          "  \"additionalProperties\": false,\n"
          "  \"properties\": {\n"
          "    \"myserver\": {\n"
          "      \"type\": \"object\",\n"
          "      \"additionalProperties\": false,\n"
          "      \"properties\": {\n",
          out);
    for (const struct option *o = options_table; o < options_table + OPTION_COUNT; o++) {
        write_option(out, o);
        fputs(o + 1 < options_table + OPTION_COUNT ? ",\n" : "\n", out);
    }
    fputs("      }\n    }\n  }\n}\n", out);
}
