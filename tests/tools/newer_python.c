/* newer_python.c: for LD_PRELOAD: an interpreter that says it is a version on which no test has
 * run. */
extern const unsigned long Py_Version;
const unsigned long Py_Version = 0x04000000;
