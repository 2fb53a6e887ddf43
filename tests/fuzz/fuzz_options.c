/* fuzz_options.c: any text as the value of any option. What is taken can be printed, and what was
 * printed is taken again and is the same; what is refused changes nothing. */
#include "config/options.h"
#include "config/settings.h"
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

/* `auto` asks the machine, which is no input of ours. */
static void check_value(const struct option *option, const char *text)
{
    struct config c = {0}, again = {0};
    char *wrong = options_set(&c, option, text);
    if (wrong) {
        require(wrong[0] != '\0' && strchr(wrong, '\n') == NULL);
        require(options_item_count(&c, option) == (options_is_list(option) ? 0 : 1) ||
                option->type == OPTION_STRING || option->type == OPTION_PREFIX);
    } else if (options_item_count(&c, option) > 0) {
        char *printed = options_item(&c, option, 0);
        char *worse = options_set(&again, option, printed);
        require(worse == NULL);
        char *twice = options_item(&again, option, 0);
        require(strcmp(printed, twice) == 0);
        free(printed);
        free(twice);
    }
    free(wrong);
    options_clear(&c, option);
    options_clear(&again, option);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    char *text = strndup((const char *)data + 1, size - 1);
    const struct option *option = &options_table[data[0] % OPTION_COUNT];
    if (option->type != OPTION_WORKERS || strcmp(text, "auto") != 0)
        check_value(option, text);
    (void)options_find(text);
    char *rule = options_rule(option);
    require(rule[0] != '\0');
    free(rule);
    free(text);
    return 0;
}
