/* immortal.h: objects whose reference count is never written again (PEP 683). Layer 3; GIL held. */
#ifndef MYSERVER_IMMORTAL_H
#define MYSERVER_IMMORTAL_H

#include "base/base.h"

/* Makes every object immortal that is reachable from the objects the collector knows, except
 * objects that live only for a while (frames, generators) or must be freed (files, sockets). Before
 * gc.freeze(), which hides them from the collector. Returns how many; 0 on CPython before 3.12,
 * where reference counts are always written, and on free-threaded builds. */
size_t immortal_make_all(void);

#endif
