/* observed.c: the names of the parts. */
#include "shared/observed.h"

const char *const observed_names[OBSERVED_PARTS] = {
    [OBSERVED_VIEWS] = "views",         [OBSERVED_QUERIES] = "queries", [OBSERVED_GIL] = "gil",
    [OBSERVED_COLLECTOR] = "collector", [OBSERVED_SAMPLER] = "sampler",
};
