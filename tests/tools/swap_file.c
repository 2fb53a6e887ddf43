/* swap_file.c: for LD_PRELOAD: as soon as a unix socket is bound, somebody who may write in its
 * directory puts a link to $SWAP_TO in its place, or in that of $SWAP_PATH: a hard one with
 * $SWAP_HARD. */
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int bind(int fd, const struct sockaddr *address, socklen_t len)
{
    int (*real)(int, const struct sockaddr *, socklen_t) =
        (int (*)(int, const struct sockaddr *, socklen_t))dlsym(RTLD_NEXT, "bind");
    int result = real(fd, address, len);
    if (result != 0 || address->sa_family != AF_UNIX)
        return result;
    const char *path = getenv("SWAP_PATH"), *to = getenv("SWAP_TO");
    if (path == NULL)
        path = ((const struct sockaddr_un *)address)->sun_path;
    if (unlink(path) != 0 || (getenv("SWAP_HARD") ? link(to, path) : symlink(to, path)) != 0)
        abort();
    return 0;
}
