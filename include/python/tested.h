/* tested.h: on which versions of CPython the tests have run. What reaches into the interpreter is
 * off on the others: it has to be tried there before it is used. */
#ifndef MYSERVER_PYTHON_TESTED_H
#define MYSERVER_PYTHON_TESTED_H

#include <stdbool.h>
#include <stddef.h>

/* Whether the tests of this server have run on that version (as Py_Version has it), or on an
 * earlier release of the same minor version. */
static inline bool python_is_tested(unsigned long version)
{
    static const unsigned long first[] = {0x030b07f0, 0x030c01f0, 0x030d00f0, 0x030e08f0,
                                          0x030f00f0};
    bool is_tested = false;
    for (size_t i = 0; i < sizeof first / sizeof first[0]; i++)
        is_tested = is_tested || (version >> 16 == first[i] >> 16 && version >= first[i]);
    return is_tested;
}

#endif
