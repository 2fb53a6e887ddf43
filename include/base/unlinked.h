/* unlinked.h: temporary files that nobody else sees. */
#ifndef MYSERVER_BASE_UNLINKED_H
#define MYSERVER_BASE_UNLINKED_H

#include "base/base.h"

/* Opens a new file in `dir` for reading and writing: mode 0600, close-on-exec, without a name from
 * the start (O_TMPFILE) or before it is returned. So nothing is left on disk however the process
 * ends. NULL for `dir`: the file is in memory (memfd). The caller owns the descriptor; -1 with
 * `errno` set: it cannot be made. Any thread. */
MUST_CHECK int unlinked_open(const char *dir);
/* The first of $TMPDIR, /tmp and /var/tmp in which this process can make such a file; NULL: none.
 * The caller owns it. */
MUST_CHECK char *unlinked_find_dir(void);

#endif
