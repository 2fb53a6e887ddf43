/* beneath.h: opens files below a directory, and none outside of it. */
#ifndef MYSERVER_SYSTEM_BENEATH_H
#define MYSERVER_SYSTEM_BENEATH_H

#include "base/base.h"

/* Opens the file `path`, relative to the directory `dir_fd`, to be read. Neither `..` nor a
 * symbolic link leads out of the directory. Does not wait where the file is a pipe. The caller owns
 * the descriptor, or gets -1 with errno. Any thread. */
MUST_CHECK int beneath_open(int dir_fd, const char *path);

#endif
