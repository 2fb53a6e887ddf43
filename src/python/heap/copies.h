/* copies.h: which types of objects lie on the pages that this worker has copied. */
#ifndef MYSERVER_PYTHON_HEAP_COPIES_H
#define MYSERVER_PYTHON_HEAP_COPIES_H

struct _object;

/* copied_types(objects) of the module _myserver, where it is documented. */
struct _object *copied_types(struct _object *module, struct _object *objects);

#endif
