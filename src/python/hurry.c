/* hurry.c: takes the GIL soon, and tells from whom.
 *
 * Owns nothing. */
#define PY_SSIZE_T_CLEAN
#define Py_BUILD_CORE
#include <Python.h>

#include "hurry.h"
#include "python/gil.h"
#include "python/tested.h"

/* The layout of the GIL is known from the headers of this version. */
#if defined Py_GIL_DISABLED || PY_VERSION_HEX >= 0x03100000
#define IS_KNOWN 0
#elif PY_VERSION_HEX < 0x030c0000
#include <internal/pycore_runtime.h>
#define IS_KNOWN 1
#define GIL      (&_PyRuntime.ceval.gil)
#else
#include <internal/pycore_interp.h>
#define IS_KNOWN 1
#define GIL      (PyInterpreterState_Main()->ceval.gil)
#endif

/* Who has it; NULL: nobody, or that is not known. Without the GIL, so it may be no more true when
 * it is returned. */
static const PyThreadState *find_holder(void)
{
    const void *holder = NULL;
#if IS_KNOWN
    int locked;
    __atomic_load((const int *)(const void *)&GIL->locked, &locked, __ATOMIC_RELAXED);
    if (locked == 1)
        __atomic_load((const void *const *)(const void *)&GIL->last_holder, &holder,
                      __ATOMIC_RELAXED);
#endif
    return holder;
}

const PyThreadState *hurry_take(PyThreadState *state)
{
    bool is_tested = python_is_tested(Py_Version);
    const PyThreadState *holder = is_tested ? find_holder() : NULL;
    gil_hurry(is_tested);
    PyEval_RestoreThread(state);
    gil_hurry(false);
    return holder;
}
