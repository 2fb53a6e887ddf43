/* python.c: the embedded interpreter: start, load, fork, threads, exceptions.
 *
 * Owns: the interpreter and the module myserver.boot. Runs in the mold and in the workers, never
 * in the master. Only the main interpreter exists: Django's C drivers refuse others. Python
 * installs no signal handlers, except faulthandler's for REPORT_STACKS_SIGNAL and those that the
 * application asks for. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "base/buf.h"
#include "base/log.h"
#include "codes.h"
#include "config/origin.h"
#include "config/settings.h"
#include "immortal.h"
#include "python/heap/garbage.h"
#include "python/heap/holes.h"
#include "python/module.h"
#include "python/python.h"
#include "shared/board.h"
#include "shared/report.h"
#include "streams.h"

#include <dlfcn.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static PyObject *boot;             /* the module myserver.boot */
static PyObject *sockets_loaded;   /* list of open sockets, after the application was loaded */
static PyObject *sockets_before;   /* the same, before that */
static Py_ssize_t modules_known;   /* length of sys.modules when last looked at */
static struct board_mold *reports; /* what workers of this generation have reported */
static PyObject *timeout_type;     /* myserver.RequestTimeout */
static int stacks_fd = -1;         /* memfd that the handler of REPORT_STACKS_SIGNAL writes to */

/* Calls boot.<method>(...); new reference or NULL with an exception set. */
static PyObject *call_boot(const char *method, const char *format, ...)
{
    va_list args;
    PyObject *function = PyObject_GetAttrString(boot, method);
    if (!function)
        return NULL;
    va_start(args, format);
    PyObject *tuple = Py_VaBuildValue(format, args);
    va_end(args);
    PyObject *answer = tuple ? PyObject_CallObject(function, tuple) : NULL;
    Py_XDECREF(tuple);
    Py_DECREF(function);
    return answer;
}

NORETURN static void die_status(const char *what, PyStatus status)
{
    die(EXIT_CONFIG, "%s: %s", what, status.err_msg ? status.err_msg : "Python did not start");
}

/* The value of `key` in pyvenv.cfg, into `out`; false when there is none. */
static bool read_venv_key(FILE *file, const char *key, char *out, size_t size)
{
    char line[PATH_MAX + 64], name[64], value[PATH_MAX];
    rewind(file);
    while (fgets(line, sizeof(line), file)) {
        if (sscanf(line, " %63[^= \t] = %4095[^\n]", name, value) == 2 && strcmp(name, key) == 0) {
            snprintf(out, size, "%.*s", (int)size - 1, value);
            return true;
        }
    }
    return false;
}

/* Python itself takes any directory, and a virtualenv of another minor version silently has
 * no packages: so the versions are compared before anything starts. */
static void check_virtualenv(const char *directory)
{
    char path[PATH_MAX], version[64] = "";
    unsigned major = 0, minor = 0;
    snprintf(path, sizeof(path), "%s/pyvenv.cfg", directory);
    FILE *file = fopen(path, "re");
    if (!file)
        config_origin_die(EXIT_CONFIG, "virtualenv", NULL,
                          "%s: no pyvenv.cfg there, so it is no virtualenv; make one with "
                          "'python%d.%d -m venv %s'",
                          directory, PY_MAJOR_VERSION, PY_MINOR_VERSION, directory);
    if (!read_venv_key(file, "version", version, sizeof(version)))
        (void)read_venv_key(file, "version_info", version, sizeof(version));
    fclose(file);
    if (sscanf(version, "%u.%u", &major, &minor) != 2)
        config_origin_die(EXIT_CONFIG, "virtualenv", NULL,
                          "%s: pyvenv.cfg does not say its Python version", directory);
    if (major != PY_MAJOR_VERSION || minor != PY_MINOR_VERSION)
        config_origin_die(
            EXIT_CONFIG, "virtualenv", NULL,
            "%s is of Python %u.%u, but this program is built for Python %d.%d: make "
            "the "
            "virtualenv with python%d.%d, or build the program with 'make PYTHON=python%u.%u'",
            directory, major, minor, PY_MAJOR_VERSION, PY_MINOR_VERSION, PY_MAJOR_VERSION,
            PY_MINOR_VERSION, major, minor);
}

/* Python's own message for this case is long and does not name the cause. */
static void check_may_run(const char *program)
{
    if (access(program, X_OK) != 0 && errno == EACCES)
        die(EXIT_CONFIG,
            "%s is not for this user (uid %u): install Python where the user that serves may read "
            "it, or build the program with 'make PYTHON=...' for one that is there",
            program, geteuid());
}

static void start_interpreter(const char *virtualenv)
{
    PyPreConfig preconfig;
    PyConfig config;
    char program[PATH_MAX] = MYSERVER_PYTHON_EXECUTABLE;
    char *argv[] = {"myserver", NULL};

    if (virtualenv) {
        check_virtualenv(virtualenv);
        snprintf(program, sizeof(program), "%s/bin/python", virtualenv);
    }
    check_may_run(program);
    PyPreConfig_InitPythonConfig(&preconfig);
    preconfig.parse_argv = 0;
    preconfig.utf8_mode = 1; /* services start in the C locale; Django's files are UTF-8 */
    PyStatus status = Py_PreInitialize(&preconfig);
    if (PyStatus_Exception(status))
        die_status("Python pre-initialization", status);

    PyConfig_InitPythonConfig(&config);
    config.parse_argv = 0;
    config.install_signal_handlers = 0;
    status = PyConfig_SetBytesArgv(&config, 1, argv);
    /* Virtualenvs and sys.executable both follow from the program's name. */
    if (!PyStatus_Exception(status))
        status = PyConfig_SetBytesString(&config, &config.program_name, program);
    if (!PyStatus_Exception(status))
        status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status))
        die_status(program, status);
}

/* Finds the directory of the Python package, in a build tree or installed. */
static void package_directory(char *out, size_t size)
{
    static const char *const places[] = {"../python", "../../python", "../lib/myserver/python"};
    char program[PATH_MAX], probe[PATH_MAX + 64];
    ssize_t len = readlink("/proc/self/exe", program, sizeof(program) - 1);
    program[len > 0 ? len : 0] = '\0';
    char *slash = strrchr(program, '/');
    if (slash)
        *slash = '\0';
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        snprintf(probe, sizeof(probe), "%s/%s/myserver/boot.py", program, places[i]);
        snprintf(out, size, "%s/%s", program, places[i]);
        if (access(probe, R_OK) == 0)
            return;
    }
    die(EXIT_CONFIG,
        "the Python package 'myserver' is not beside %s: install the program with "
        "'make install', not by copying the file",
        program);
}

/* The directory goes to the end of sys.path, so that it hides no module of the project. */
static void import_boot(void)
{
    char directory[PATH_MAX + 64], resolved[PATH_MAX];
    package_directory(directory, sizeof(directory));
    PyObject *path = PySys_GetObject("path"); /* borrowed */
    PyObject *entry =
        PyUnicode_DecodeFSDefault(realpath(directory, resolved) ? resolved : directory);
    if (entry && path && PyList_Append(path, entry) == 0)
        boot = PyImport_ImportModule("myserver.boot");
    Py_XDECREF(entry);
    if (!boot) {
        PyErr_Print();
        die(EXIT_CONFIG, "the Python package 'myserver' in %s cannot be imported", directory);
    }
}

static void check_build(const char *virtualenv)
{
    Dl_info info;
    /* POSIX has no other way to turn a function into the object pointer dladdr wants. */
    if (!dladdr((void *)(uintptr_t)&Py_GetVersion, &info) || !info.dli_fname)
        return;
    PyObject *reason = call_boot("check_interpreter", "(ss)", virtualenv, info.dli_fname);
    if (!reason)
        PyErr_Clear();
    else if (reason != Py_None)
        config_origin_die(EXIT_CONFIG, "virtualenv", NULL, "%s", PyUnicode_AsUTF8(reason));
    Py_XDECREF(reason);
}

static void prepare_path(const struct config *config)
{
    PyObject *entries = PyList_New(0);
    for (size_t i = 0; entries && i < config->pythonpath.count; i++) {
        PyObject *entry = PyUnicode_DecodeFSDefault(config->pythonpath.items[i]);
        if (!entry || PyList_Append(entries, entry) < 0)
            Py_CLEAR(entries);
        Py_XDECREF(entry);
    }
    PyObject *done = entries ? call_boot("prepare", "(N)", entries) : NULL;
    if (!done)
        python_log_exception(LOG_ERROR, "the Python path cannot be set");
    Py_XDECREF(done);
}

/* Called before Python starts, which then copies the environment into os.environ. */
static void set_environment(const struct config *config)
{
    for (size_t i = 0; i < config->env.count; i++) {
        char *name = xstrdup(config->env.items[i]);
        char *equals = strchr(name, '=');
        assert(equals); /* checked with the other settings */
        *equals = '\0';
        setenv(name, equals + 1, 1);
        free(name);
    }
}

/* With glibc's arena for each thread, the same objects leave holes in each of them: with 4 threads
 * a worker had 11.6 instead of 9.0 MB of its own. One arena costs no time where threads allocate
 * under the GIL, one at a time. */
static void keep_one_arena(void)
{
    if (!getenv("MALLOC_ARENA_MAX"))
        (void)mallopt(M_ARENA_MAX, 1);
}

/* False: an exception is set. */
static bool catch_stacks_signal(void)
{
    if (stacks_fd >= 0)
        close(stacks_fd); /* no two processes may write to the same */
    stacks_fd = streams_spare(memfd_create(REPORT_STACKS_NAME, MFD_CLOEXEC));
    Py_XSETREF(timeout_type, call_boot("watch", "(ii)", stacks_fd, REPORT_STACKS_SIGNAL));
    return timeout_type != NULL;
}

void python_start(const struct config *config)
{
    set_environment(config);
    keep_one_arena();
    PyImport_AppendInittab("_myserver", pymodule_create);
    start_interpreter(config->virtualenv);
    import_boot();
    check_build(config->virtualenv ? config->virtualenv : "");
    if (!catch_stacks_signal())
        python_log_exception(LOG_ERROR, "stacks cannot be shown");
    prepare_path(config);
    sockets_before = call_boot("open_sockets", "()");
}

PyObject *python_load(const struct config *config)
{
    PyObject *application = call_boot("load", "(s)", config->app);
    bool is_missing = !application && PyErr_ExceptionMatches(PyExc_ModuleNotFoundError);
    if (!application)
        python_log_exception(LOG_ERROR, "the application %s cannot be loaded", config->app);
    if (is_missing && !config->virtualenv)
        log_info("no virtualenv is set: if the packages are in one, name it with --virtualenv");
    return application;
}

void python_default_host(char *out, size_t size)
{
    PyObject *host = call_boot("default_host", "()");
    const char *text = host ? PyUnicode_AsUTF8(host) : NULL;
    snprintf(out, size, "%s", text ? text : "localhost");
    PyErr_Clear();
    Py_XDECREF(host);
}

void python_begin_warmup(void)
{
    Py_XSETREF(sockets_loaded, call_boot("open_sockets", "()"));
    PyErr_Clear();
}

void python_before_last_round(const struct config *config)
{
    if (!config->preload || !config->immortal)
        return;
    PyObject *done = call_boot("close_connections", "()");
    PyErr_Clear();
    Py_XDECREF(done);
    codes_note();
}

bool python_warmup_left(char *out, size_t size)
{
    PyObject *left = sockets_loaded ? call_boot("warmup_leftovers", "(O)", sockets_loaded) : NULL;
    const char *text = left ? PyUnicode_AsUTF8(left) : NULL;
    snprintf(out, size, "%s", text ? text : "");
    if (!left)
        python_log_exception(LOG_ERROR, "connections of the warm-up cannot be closed");
    PyErr_Clear();
    Py_XDECREF(left);
    return out[0] != '\0' || !text;
}

static void log_warnings(PyObject *warnings)
{
    for (Py_ssize_t i = 0; PyList_Check(warnings) && i < PyList_GET_SIZE(warnings); i++) {
        const char *text = PyUnicode_AsUTF8(PyList_GET_ITEM(warnings, i));
        log_warning("%s", text ? text : "(a warning that is not UTF-8)");
    }
    PyErr_Clear();
}

int python_prepare_fork(const struct config *config, bool has_served)
{
    PyObject *warnings = call_boot("before_fork", "(OOO)", sockets_before, sockets_loaded,
                                   has_served ? Py_True : Py_False);
    if (!warnings) {
        python_log_exception(has_served ? LOG_WARNING : LOG_ERROR,
                             "the application cannot be made ready to fork");
        return -1;
    }
    log_warnings(warnings);
    Py_DECREF(warnings);
    size_t moved = config->immortal ? codes_gather() : 0;
    size_t made = config->immortal ? immortal_make_all() : 0;
    /* The method cache holds references to names. Workers replace its entries sooner or later, and
     * would then write to the reference counts of names that only the start has used, on pages that
     * they share: before 3.12 of all names, later of those that nothing else refers to any more,
     * made by getattr(thing, "as_" + vendor). */
    (void)PyType_ClearCache();
    PyObject *done = call_boot("freeze", "()");
    if (!done)
        python_log_exception(LOG_ERROR, "the collector cannot be frozen");
    Py_XDECREF(done);
    log_debug("%zu code objects lie together, %zu objects are immortal", moved, made);
    modules_known = PyDict_Size(PyImport_GetModuleDict());
    holes_fill();
    return done ? 0 : -1;
}

int python_begin_worker(void)
{
    PyObject *done = catch_stacks_signal() ? call_boot("after_fork", "()") : NULL;
    if (!done)
        python_log_exception(LOG_ERROR, "the worker cannot begin");
    Py_XDECREF(done);
    garbage_init();
    return done ? 0 : -1;
}

/* Not a POST, which must not be repeated at every start, nor an error, which loads little code. */
static bool is_worth_prewarming(const char *method, unsigned status)
{
    return status / 100 == 2 && (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0);
}

/* The names of the modules that were imported since the last call, as text; a new reference. NULL:
 * none. */
static PyObject *take_new_modules(void)
{
    Py_ssize_t count = PyDict_Size(PyImport_GetModuleDict());
    if (count == modules_known)
        return NULL;
    modules_known = count;
    PyObject *names = call_boot("new_modules", "()");
    PyErr_Clear();
    return names;
}

void python_begin_reports(struct board_mold *mold)
{
    reports = mold;
    PyObject *names = take_new_modules();
    Py_XDECREF(names);
}

void python_report_imports(const char *method, const char *path, unsigned status)
{
    PyObject *names = take_new_modules();
    const char *text = names ? PyUnicode_AsUTF8(names) : NULL;
    bool advise = is_worth_prewarming(method, status);
    if (text && text[0] && (!advise || board_say_first(reports, text)))
        log_write(advise ? LOG_INFO : LOG_DEBUG, "%s %s imported modules after the fork%s: %s",
                  method, path, advise ? ", add it to prewarm" : "", text);
    PyErr_Clear();
    Py_XDECREF(names);
}

void python_stop(void)
{
    PyObject *done = call_boot("stop", "()");
    if (!done)
        python_log_exception(LOG_ERROR, "while stopping");
    Py_XDECREF(done);
}

void python_before_fork(void)
{
    PyOS_BeforeFork();
}

void python_after_fork_parent(void)
{
    PyOS_AfterFork_Parent();
}

void python_after_fork_child(void)
{
    PyOS_AfterFork_Child();
}

void python_thread_adopt(struct python_thread *thread)
{
    thread->state = PyEval_SaveThread();
}

void python_thread_init(struct python_thread *thread, const char *name)
{
    thread->state = PyThreadState_New(PyInterpreterState_Main());
    assert(thread->state);
    python_acquire(thread);
    PyObject *done = call_boot("name_thread", "(s)", name);
    if (!done)
        PyErr_Clear();
    Py_XDECREF(done);
    python_release(thread);
}

void python_thread_fini(struct python_thread *thread)
{
    python_acquire(thread);
    PyThreadState_Clear(thread->state);
    PyThreadState_DeleteCurrent();
    thread->state = NULL;
}

void python_acquire(struct python_thread *thread)
{
    PyEval_RestoreThread(thread->state);
}

void python_release(struct python_thread *thread)
{
    PyThreadState *state = PyEval_SaveThread();
    assert(state == thread->state);
    (void)state;
}

/* --- stuck requests --- */

void python_begin_request(struct python_thread *thread, uint64_t request)
{
    thread->request = request;
}

void python_end_request(struct python_thread *thread)
{
    thread->request = 0;
    if (thread->interrupted) /* if it is still pending, the next request must not get it */
        PyThreadState_SetAsyncExc(thread->state->thread_id, NULL);
    thread->interrupted = false;
}

void python_interrupt(struct python_thread *thread, uint64_t request)
{
    if (thread->request != request)
        return;
    thread->interrupted = true;
    PyThreadState_SetAsyncExc(thread->state->thread_id, timeout_type);
}

void python_visit(void (*function)(void *), void *context)
{
    PyGILState_STATE state = PyGILState_Ensure();
    function(context);
    PyGILState_Release(state);
}

void python_dump_stacks(struct buf *out)
{
    sigset_t signals, before;
    sigemptyset(&signals);
    sigaddset(&signals, REPORT_STACKS_SIGNAL);
    if (ftruncate(stacks_fd, 0) < 0 || lseek(stacks_fd, 0, SEEK_SET) < 0)
        return;
    /* POSIX: a signal that a thread sends to itself, unblocked, is handled before pthread_kill
     * returns. */
    pthread_sigmask(SIG_UNBLOCK, &signals, &before);
    pthread_kill(pthread_self(), REPORT_STACKS_SIGNAL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    report_stacks_file(out, stacks_fd);
}

void python_log_exception(enum log_level level, const char *format, ...)
{
    char what[512];
    va_list args;
    PyObject *type, *value, *trace;
    va_start(args, format);
    vsnprintf(what, sizeof(what), format, args);
    va_end(args);

    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    PyObject *text =
        call_boot("describe", "(OOO)", type, value ? value : Py_None, trace ? trace : Py_None);
    /* Surrogates cannot be UTF-8; the log takes them as escapes. */
    PyObject *bytes = text ? PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace") : NULL;
    if (bytes)
        log_block(level, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes), "%s", what);
    else
        log_write(level, "%s (its traceback cannot be printed)", what);
    PyErr_Clear();
    Py_XDECREF(bytes);
    Py_XDECREF(text);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(trace);
}
