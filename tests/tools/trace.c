/* trace.c: for FLAVOUR=traced alone, which calls these at the beginning and end of each function of
 * the engine. While the first byte of the file that $TRACE names is not 0, each beginning is
 * appended to $TRACE.steps: the thread, and how far the function lies behind the engine's start.
 * The byte is looked at in memory, since the heap's passes enter millions of functions.
 * tests/server/test_walk.py reads the steps. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct entry {
    uint64_t thread, offset;
};

extern const char __ehdr_start[];

static const volatile char *is_wanted;
static char steps[4096];

void __cyg_profile_func_enter(void *function, void *from);
void __cyg_profile_func_exit(void *function, void *from);

__attribute__((constructor, no_instrument_function)) static void find_switch(void)
{
    const char *path = getenv("TRACE");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *found = fd >= 0 ? mmap(NULL, 1, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    if (found != MAP_FAILED)
        is_wanted = found;
    if (fd >= 0)
        close(fd);
    snprintf(steps, sizeof steps, "%s.steps", path ? path : "");
}

__attribute__((no_instrument_function)) void __cyg_profile_func_enter(void *function, void *from)
{
    (void)from;
    if (!is_wanted || !*is_wanted)
        return;
    int error = errno;
    int fd = open(steps, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0) {
        const struct entry entry = {.thread = (uint64_t)gettid(),
                                    .offset = (uint64_t)((const char *)function - __ehdr_start)};
        ssize_t written = write(fd, &entry, sizeof(entry));
        (void)written;
        close(fd);
    }
    errno = error;
}

__attribute__((no_instrument_function)) void __cyg_profile_func_exit(void *function, void *from)
{
    (void)function;
    (void)from;
}
