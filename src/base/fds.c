/* descriptors.c: RLIMIT_NOFILE, the descriptors that are open, and those that are kept back. */
#include "descriptors.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <sys/resource.h>

#define RESERVED_MIN 40
#define RESERVED_MAX 1024
#define OPEN_GUESS   32 /* without /proc */

static unsigned count_open(void)
{
    DIR *directory = opendir("/proc/self/fd");
    if (!directory)
        return OPEN_GUESS;
    unsigned count = 0;
    while (readdir(directory))
        count++;
    closedir(directory);
    return count - 3; /* ".", ".." and the directory itself */
}

unsigned descriptors_for_clients(unsigned threads)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur > UINT_MAX / 4)
        return UINT_MAX / 4;
    unsigned limit = (unsigned)files.rlim_cur, open = count_open();
    unsigned left = limit > open ? limit - open : 1;
    unsigned reserved = limit / 8 + threads;
    reserved = reserved < RESERVED_MIN ? RESERVED_MIN : reserved;
    reserved = reserved > RESERVED_MAX ? RESERVED_MAX : reserved;
    return left > 2 * reserved ? left - reserved : (left + 1) / 2;
}

const char *descriptors_advice(int error)
{
    if (error == ENFILE)
        return "; raise the limit of the whole system (sysctl fs.file-max)";
    return error == EMFILE ? "; raise the limit of open files (ulimit -n, LimitNOFILE)" : "";
}
