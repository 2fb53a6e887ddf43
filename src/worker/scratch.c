/* scratch.c: where a worker keeps what is too large for its memory.
 *
 * Owns the choice, for the life of the process. */
#include "scratch.h"

#include "base/cgroup.h"
#include "base/log.h"
#include "base/unlinked.h"
#include "config/settings.h"
#include "shared/board.h"
#include "shared/seed.h"

#include <string.h>
#include <unistd.h>

static struct scratch place;

/* Memory is smaller than a disk, and who uses it up is killed: at most a quarter of it for the
 * bodies of all workers, and as much for their answers. */
static uint64_t share_of_memory(unsigned workers)
{
    uint64_t bytes = cgroup_memory("").limit_bytes;
    if (bytes == 0)
        bytes = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    return bytes / 4 / workers;
}

void scratch_find(const struct config *config)
{
    bool is_auto = strcmp(config->tmp_dir, "auto") == 0;
    place.dir = is_auto ? unlinked_find_dir() : xstrdup(config->tmp_dir);
    place.memory_bytes = share_of_memory(config->workers);
}

const struct scratch *scratch_place(void)
{
    return &place;
}

uint64_t scratch_answers_bytes(const struct config *config)
{
    uint64_t bytes = config->limit_response_files_bytes;
    return !place.dir && place.memory_bytes < bytes ? place.memory_bytes : bytes;
}

void scratch_say(const struct worker_seed *seed)
{
    const char *text = "tmp-dir: none of $TMPDIR, /tmp and /var/tmp can be written to";
    if (!place.dir && board_say_first(board_mold(seed->board, seed->generation), text))
        log_info("%s: large bodies, and answers to slow clients, are kept in memory: up to %.1f MB "
                 "of each in every worker",
                 text, (double)place.memory_bytes / (1 << 20));
}
