/* inbox.h: workers giving each other connections, over a datagram socket pair per worker slot. */
#ifndef MYSERVER_INBOX_H
#define MYSERVER_INBOX_H

#include "conn.h"

/* Sends an idle connection to the worker behind `write_fd` and closes it here; false when that
 * inbox is full: nothing has changed then. Leader, state CONN_IDLE. */
MUST_CHECK bool inbox_give(struct conn *c, int write_fd);
/* Takes in what others gave, until the inbox is empty. Leader. */
void inbox_adopt_all(struct conn_shared *shared, int read_fd);

#endif
