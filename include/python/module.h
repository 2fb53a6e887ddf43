/* module.h: the built-in Python module _myserver. */
#ifndef MYSERVER_PYTHON_MODULE_H
#define MYSERVER_PYTHON_MODULE_H

struct _object;

/* For PyImport_AppendInittab. */
struct _object *pymodule_create(void);
/* What _myserver.worker_id() says: 0 in the mold, from 1 in workers. */
void pymodule_set_worker(unsigned number);

#endif
