/* owners.h: which object owns which. GIL held from owners_find to owners_forget, and no
 * Python code may run in between. */
#ifndef MYSERVER_PYTHON_HEAP_OWNERS_H
#define MYSERVER_PYTHON_HEAP_OWNERS_H

#include "base/base.h"

struct _object; /* PyObject */

#define OWNERS_NONE UINT32_MAX

struct node {
    struct _object *object;      /* borrowed */
    uint32_t owners;             /* number of the first link to them, or OWNERS_NONE */
    uint32_t marks, next, count; /* for the user of the graph; 0 at first */
};

struct link {
    uint32_t owner; /* number of a node */
    uint32_t next;  /* number of a link, or OWNERS_NONE */
};

/* All objects that the collector knows, and all that these own, directly or not. */
struct owners {
    struct node *nodes;
    struct link *links;
    uint32_t *slots; /* hash table of numbers of nodes, + 1 */
    uint32_t count, room, link_count, link_room, slot_count;
};

typedef int owners_visitor(struct _object *object, void *arg); /* as CPython's visitproc */

/* `objects`: the list that gc.get_objects() returns; it knows nothing of what is frozen. */
void owners_find(struct owners *graph, struct _object *objects);
void owners_forget(struct owners *graph);

/* The number of the node of an object; OWNERS_NONE: there is none. */
uint32_t owners_number(const struct owners *graph, const struct _object *object);
/* Calls `visit` for every object that `object` owns, until it returns something else than 0. */
void owners_visit_owned(struct _object *object, owners_visitor *visit, void *arg);

#endif
