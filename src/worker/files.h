/* files.h: the handler of static files: opens and sends them on the loop, without a thread and
 * without Python. */
#ifndef MYSERVER_WORKER_FILES_H
#define MYSERVER_WORKER_FILES_H

#include "handler.h"

extern const struct handler files_handler;

#endif
