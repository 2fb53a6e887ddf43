/* python.c: the embedded interpreter: start, load, fork, threads, exceptions.
 *
 * Owns: the interpreter and our modules in it. Runs in the mold and in the workers, never
 * in the master. Only the main interpreter exists: Django's C drivers refuse others. Python
 * installs no signal handlers, except faulthandler's for PROCESS_STACKS_SIGNAL and those that the
 * application asks for. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "python/python.h"

#include "base/buf.h"
#include "base/fds.h"
#include "base/log.h"
#include "config/origin.h"
#include "config/settings.h"
#include "context.h"
#include "http/request.h"
#include "python/collector.h"
#include "python/gil.h"
#include "python/heap/heap.h"
#include "python/module.h"
#include "shared/board.h"
#include "shared/report.h"
#include "system/forks.h"
#include "system/launch.h"
#include "system/process.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CAUSES_MOST 10 /* exceptions may be one another's cause */

enum module {
    CLIENTS,
    ENDS,
    FORK,
    GROWTH,
    HINTS,
    HOOKS,
    LOAD,
    SIGNALS,
    SOCKETS,
    STACKS,
    STREAMS,
    VIEWS,
    WARM,
    MODULE_COUNT
};

static const char *const module_names[] = {
    "myserver.clients", "myserver.ends",  "myserver.fork",    "myserver.growth",  "myserver.hints",
    "myserver.hooks",   "myserver.load",  "myserver.signals", "myserver.sockets", "myserver.stacks",
    "myserver.streams", "myserver.views", "myserver.warm"};
static PyObject *modules[MODULE_COUNT]; /* what the server does in Python */
static Py_ssize_t modules_known;        /* length of sys.modules when last looked at */
static struct board_mold *reports;      /* what workers of this generation have reported */
static PyObject *timeout_type;          /* myserver.RequestTimeout */
static int lacking;                     /* see python_lacking */
static int stacks_fd = -1; /* memfd that the handler of PROCESS_STACKS_SIGNAL writes to */

/* Calls a function of one of our modules; new reference or NULL with an exception set. */
static PyObject *call(enum module module, const char *name, const char *format, ...)
{
    va_list args;
    PyObject *function = PyObject_GetAttrString(modules[module], name);
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
    char *program = xstrdup(launch_get()->python), *argv[] = {"myserver", NULL};

    if (virtualenv) {
        const char *why = launch_get()->refuse(virtualenv, true);
        if (why)
            config_origin_die(EXIT_CONFIG, "virtualenv", NULL, "%s", why);
        free(program);
        program = xasprintf("%s/bin/python", virtualenv);
    }
    check_may_run(program);
    gil_measure(Py_Initialize);
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
    free(program);
}

/* Found first while our modules are imported, in case the project has a `myserver` too; then the
 * directory goes to the end of sys.path, so that it hides no module of the project; in a wheel it
 * is site-packages, which is there already. */
static void import_modules(void)
{
    char *directory = launch_package();
    if (!directory)
        die(EXIT_CONFIG, "the Python package 'myserver' is not beside the engine: install the "
                         "program with 'make install' or pip, not by copying the file");
    PyObject *path = PySys_GetObject("path"); /* borrowed */
    PyObject *entry = PyUnicode_DecodeFSDefault(directory);
    int known = entry && path ? PySequence_Contains(path, entry) : -1;
    bool done = known >= 0 && PyList_Insert(path, 0, entry) == 0;
    for (size_t i = 0; done && i < MODULE_COUNT; i++)
        done = (modules[i] = PyImport_ImportModule(module_names[i])) != NULL;
    done = done && PySequence_DelItem(path, 0) == 0 && (known || PyList_Append(path, entry) == 0);
    Py_XDECREF(entry);
    if (!done) {
        PyErr_Print();
        die(EXIT_CONFIG,
            "the Python package 'myserver' in %s cannot be imported: if another distribution has "
            "put its own package of that name there, uninstall that and install this one again: "
            "pip install --force-reinstall myserver-wsgi",
            directory);
    }
    free(directory);
}

/* A list of str; NULL with an exception set. */
static PyObject *list_of(const struct config_list *texts)
{
    PyObject *entries = PyList_New(0);
    for (size_t i = 0; entries && i < texts->count; i++) {
        PyObject *entry = PyUnicode_DecodeFSDefault(texts->items[i]);
        if (!entry || PyList_Append(entries, entry) < 0)
            Py_CLEAR(entries);
        Py_XDECREF(entry);
    }
    return entries;
}

static void prepare_path(const struct config *config)
{
    PyObject *entries = list_of(&config->pythonpath);
    PyObject *done = entries ? call(LOAD, "prepare", "(N)", entries) : NULL;
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
    stacks_fd = fds_spare(memfd_create(REPORT_STACKS_NAME, MFD_CLOEXEC));
    Py_XSETREF(timeout_type, call(STACKS, "watch", "(ii)", stacks_fd, PROCESS_STACKS_SIGNAL));
    return timeout_type != NULL;
}

/* Calls a function whose failure is no reason to give anything up. */
static void try_to(enum module module, const char *name)
{
    PyObject *done = call(module, name, "()");
    if (!done)
        python_log_exception(LOG_WARNING, "%s.%s", module_names[module], name);
    Py_XDECREF(done);
}

void python_start(const struct config *config)
{
    set_environment(config);
    keep_one_arena();
    PyImport_AppendInittab("_myserver", pymodule_create);
    start_interpreter(config->virtualenv);
    import_modules();
    if (!catch_stacks_signal())
        python_log_exception(LOG_ERROR, "stacks cannot be shown");
    prepare_path(config);
    heap_start(config->immortal);
    PyObject *done = call(FORK, "begin", "()");
    if (!done)
        python_log_exception(LOG_ERROR, "what is open cannot be looked at");
    Py_XDECREF(done);
}

int python_load_hooks(const struct config *config, enum seed_cause cause)
{
    static const char *const causes[] = {[SEED_OTHER] = "",
                                         [SEED_START] = "start",
                                         [SEED_UPGRADE] = "upgrade",
                                         [SEED_RELOAD] = "reload"};
    if (config->hooks.count == 0)
        return 0;
    PyObject *names = list_of(&config->hooks);
    PyObject *done = names ? call(HOOKS, "load", "(Ns)", names, causes[cause]) : NULL;
    if (!done)
        python_log_exception(LOG_ERROR, "the hooks cannot be loaded");
    Py_XDECREF(done);
    return done ? 0 : -1;
}

PyObject *python_load(const struct config *config, enum seed_cause cause)
{
    if (python_load_hooks(config, cause) < 0)
        return NULL;
    PyObject *application = call(LOAD, "load", "(s)", config->app);
    bool is_missing = !application && PyErr_ExceptionMatches(PyExc_ModuleNotFoundError);
    if (!application)
        python_log_exception(LOG_ERROR, "the application %s cannot be loaded", config->app);
    if (is_missing && !config->virtualenv)
        log_info("no virtualenv is set: if the packages are in one, name it with --virtualenv");
    if (application && config->observe) {
        try_to(VIEWS, "install");
        collector_watch();
        try_to(HINTS, "note");
    }
    context_keep();
    return application;
}

void python_default_host(char *out, size_t size)
{
    PyObject *host = call(WARM, "default_host", "()");
    const char *text = host ? PyUnicode_AsUTF8(host) : NULL;
    snprintf(out, size, "%s", text ? text : "localhost");
    PyErr_Clear();
    Py_XDECREF(host);
}

void python_begin_warmup(void)
{
    PyObject *done = call(FORK, "begin_warmup", "()");
    PyErr_Clear();
    Py_XDECREF(done);
}

void python_before_last_round(const struct config *config)
{
    if (!config->preload)
        return;
    PyObject *done = call(CLIENTS, "close_connections", "()");
    PyErr_Clear();
    Py_XDECREF(done);
    heap_note();
}

/* `mold`: each is said by one of its workers; NULL: said in any case. */
static void log_warnings(PyObject *warnings, struct board_mold *mold)
{
    for (Py_ssize_t i = 0; PyList_Check(warnings) && i < PyList_GET_SIZE(warnings); i++) {
        const char *text = PyUnicode_AsUTF8(PyList_GET_ITEM(warnings, i));
        if (!text)
            text = "(a warning that is not UTF-8)";
        if (!mold || board_say_first(mold, text))
            log_warning("%s", text);
    }
    PyErr_Clear();
}

int python_prepare_fork(int order_fd)
{
    context_leave(); /* the hooks run in the main thread's own */
    PyObject *warnings = call(FORK, "before_fork", "(i)", order_fd);
    if (!warnings) {
        python_log_exception(order_fd >= 0 ? LOG_WARNING : LOG_ERROR,
                             "the application cannot be made ready to fork");
        return -1;
    }
    log_warnings(warnings, NULL);
    Py_DECREF(warnings);
    if (order_fd >= 0)
        try_to(ENDS, "begin_mold");
    try_to(STREAMS, "note");
    heap_settle();
    PyObject *done = call(FORK, "resume_collector", "()");
    if (!done)
        python_log_exception(LOG_ERROR, "the collector cannot go on");
    Py_XDECREF(done);
    modules_known = PyDict_Size(PyImport_GetModuleDict());
    return done ? 0 : -1;
}

int python_begin_worker(struct board_mold *mold)
{
    context_leave(); /* without preload the warm-up has run already */
    PyObject *warnings = catch_stacks_signal() ? call(FORK, "after_fork", "()") : NULL;
    if (warnings)
        log_warnings(warnings, mold);
    else
        python_log_exception(LOG_ERROR, "the worker cannot begin");
    Py_XDECREF(warnings);
    context_keep();
    heap_begin();
    return warnings ? 0 : -1;
}

int python_begin_hooks(void)
{
    context_leave();
    PyObject *warnings = catch_stacks_signal() ? call(FORK, "after_fork_for_hooks", "()") : NULL;
    if (warnings)
        log_warnings(warnings, NULL);
    else
        python_log_exception(LOG_ERROR, "the process for hooks cannot begin");
    Py_XDECREF(warnings);
    context_keep();
    return warnings ? 0 : -1;
}

bool python_has_process_hooks(void)
{
    PyObject *answer = call(HOOKS, "are_for_process", "()");
    bool are = answer == Py_True;
    PyErr_Clear();
    Py_XDECREF(answer);
    return are;
}

void python_say_ready(void)
{
    try_to(HOOKS, "ready");
}

void python_say_stopping(void)
{
    try_to(HOOKS, "stopping");
}

void python_say_child_exit(unsigned worker, pid_t pid, const char *reason)
{
    PyObject *done = call(HOOKS, "child_exit", "(Iis)", worker, (int)pid, reason);
    if (!done)
        python_log_exception(LOG_WARNING, "the child_exit hooks cannot be called");
    Py_XDECREF(done);
}

/* Not a POST, which must not be repeated at every start, nor an error, which loads little code. */
static bool is_worth_prewarming(const struct request *request, unsigned status)
{
    const char *method = request_at(request, request->method);
    size_t len = request->method.length;
    return status / 100 == 2 && ((len == 3 && memcmp(method, "GET", len) == 0) || request->is_head);
}

/* The names of the modules that were imported since the last call, as text; a new reference. NULL:
 * none. */
static PyObject *take_new_modules(void)
{
    Py_ssize_t count = PyDict_Size(PyImport_GetModuleDict());
    if (count == modules_known)
        return NULL;
    modules_known = count;
    PyObject *names = call(FORK, "new_modules", "()");
    PyErr_Clear();
    return names;
}

void python_begin_reports(struct board_mold *mold)
{
    reports = mold;
    PyObject *names = take_new_modules();
    Py_XDECREF(names);
}

void python_report_imports(const struct request *request, const char *method, const char *path,
                           unsigned status)
{
    PyObject *names = take_new_modules();
    const char *text = names ? PyUnicode_AsUTF8(names) : NULL;
    bool advise = is_worth_prewarming(request, status);
    const char *advice = !advise                      ? ""
                         : request_has_login(request) ? ", import them in wsgi.py"
                                                      : ", add it to prewarm";
    if (text && text[0] && (!advise || board_say_first(reports, text)))
        log_write(advise ? LOG_INFO : LOG_DEBUG, "%s %s imported modules after the fork%s: %s",
                  method, path, advice, text);
    PyErr_Clear();
    Py_XDECREF(names);
}

void python_end(const char *reason)
{
    PyObject *done = call(ENDS, "end", "(s)", reason);
    if (!done)
        python_log_exception(LOG_WARNING, "what this process has made cannot be ended");
    Py_XDECREF(done);
}

void python_run_handlers(void)
{
    if (Py_MakePendingCalls() < 0)
        python_log_exception(LOG_ERROR, "a signal handler of the application has failed");
    if (forks_is_copy()) {
        log_error(
            "a process that the application forked came back from a signal handler and is ended");
        _exit(EXIT_CRASH);
    }
}

void python_before_fork(void)
{
    try_to(ENDS, "before_fork");
    try_to(STREAMS, "before_fork");
    (void)fflush(stdout); /* of extension modules written in C */
    PyOS_BeforeFork();
}

void python_after_fork_parent(void)
{
    PyOS_AfterFork_Parent();
}

void python_after_fork_child(void)
{
    PyOS_AfterFork_Child();
    try_to(ENDS, "begin_worker");
}

PyObject *python_begin_sockets(PyObject *take)
{
    return call(SOCKETS, "begin", "(O)", take);
}

PyObject *python_growth(void)
{
    return modules[GROWTH];
}

void python_thread_adopt(struct python_thread *thread)
{
    thread->state = PyEval_SaveThread();
}

void python_thread_init(struct python_thread *thread, const char *name)
{
    PyThreadState *state = PyThreadState_New(PyInterpreterState_Main());
    assert(state);
    PyEval_RestoreThread(state);
    thread->state = state; /* while the GIL is held: the sampler looks at it */
    PyObject *done = call(STACKS, "name_thread", "(s)", name);
    if (!done)
        PyErr_Clear();
    Py_XDECREF(done);
    python_release(thread);
}

void python_thread_fini(struct python_thread *thread)
{
    python_acquire(thread);
    context_leave();
    PyThreadState_Clear(thread->state);
    thread->state = NULL; /* while the GIL is held: the sampler looks at it */
    PyThreadState_DeleteCurrent();
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

/* ---- signal handlers ---- */

void python_watch_signals(int fd)
{
    PyObject *done = call(SIGNALS, "watch", "(i)", fd);
    if (!done)
        python_log_exception(LOG_WARNING, "signal handlers will run late");
    Py_XDECREF(done);
}

/* ---- stuck requests ---- */

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
    sigaddset(&signals, PROCESS_STACKS_SIGNAL);
    if (ftruncate(stacks_fd, 0) < 0 || lseek(stacks_fd, 0, SEEK_SET) < 0)
        return;
    /* POSIX: a signal that a thread sends to itself, unblocked, is handled before pthread_kill
     * returns. */
    pthread_sigmask(SIG_UNBLOCK, &signals, &before);
    pthread_kill(pthread_self(), PROCESS_STACKS_SIGNAL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    report_stacks_file(out, stacks_fd);
}

int python_lacking(void)
{
    return lacking;
}

/* EADDRINUSE, or EAGAIN, which is what a lock that another process has gives, if it is that. */
static int taken_errno(PyObject *value)
{
    PyObject *number = PyErr_GivenExceptionMatches(value, PyExc_OSError)
                           ? PyObject_GetAttrString(value, "errno")
                           : NULL;
    long is = number && PyLong_Check(number) ? PyLong_AsLong(number) : 0;
    Py_XDECREF(number);
    PyErr_Clear();
    return is == EADDRINUSE || is == EAGAIN ? (int)is : 0;
}

/* The same of the exception, or of one because of which it was raised. */
static int taken_errno_behind(PyObject *value)
{
    int found = 0;
    Py_XINCREF(value);
    for (int depth = 0; value && !found && depth < CAUSES_MOST; depth++) {
        found = taken_errno(value);
        PyObject *cause = PyException_GetCause(value);
        cause = cause ? cause : PyException_GetContext(value);
        Py_SETREF(value, cause);
    }
    Py_XDECREF(value);
    return found;
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
    lacking = taken_errno_behind(value);
    PyObject *text =
        call(STACKS, "describe", "(OOO)", type, value ? value : Py_None, trace ? trace : Py_None);
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
