/* heap.h: what is done to Python's heap so that workers share it: the one door to it. GIL
 * held. */
#ifndef MYSERVER_PYTHON_HEAP_HEAP_H
#define MYSERVER_PYTHON_HEAP_HEAP_H

#include <stdbool.h>
#include <stddef.h>

struct _object; /* PyObject */

/* Whether the tests of this server have run on that version of CPython (as Py_Version has it), or
 * on an earlier release of the same minor version: all this reaches into the interpreter, and has
 * to be tried there before it is used. */
static inline bool heap_is_tested(unsigned long version)
{
    static const unsigned long first[] = {0x030b07f0, 0x030c01f0, 0x030d00f0, 0x030e08f0,
                                          0x030f00f0};
    bool is_tested = false;
    for (size_t i = 0; i < sizeof first / sizeof first[0]; i++)
        is_tested = is_tested || (version >> 16 == first[i] >> 16 && version >= first[i]);
    return is_tested;
}

/* Once in each process that starts Python: whether anything is to be done at all; not on a version
 * that is not tested, which the log says. */
void heap_start(bool wanted);

/* In the mold, before the last round of the warm-up. */
void heap_note(void);

/* In the mold, as the last step before it forks; the collector is off, and nothing is frozen. Moves
 * code that changes when it runs, stops counting references and freezes all objects for the
 * collector, without those whose end a program could notice; then fills holes. Says in the log, at
 * debug level, what it has done. */
void heap_settle(void);

/* In each process that runs requests, after the application is loaded: from now on heap_tidy runs
 * the collector. Without preload, what was frozen for the warm-up is unfrozen. */
void heap_begin(void);

/* After each request. */
void heap_tidy(void);

/* Adds to the module _myserver what tells who owns an object. Returns 0, or -1 with an exception
 * set. */
int heap_add(struct _object *module);

#endif
