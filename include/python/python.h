/* python.h: the embedded interpreter: start, load, fork, threads, exceptions.
 * The mold and the workers only; the master has no Python. */
#ifndef MYSERVER_PYTHON_PYTHON_H
#define MYSERVER_PYTHON_PYTHON_H

#include "base/base.h"
#include "base/buf.h"
#include "base/log.h"

#include "shared/seed.h"

#include <stdbool.h>
#include <sys/types.h>

struct board_mold;
struct config;
struct request;
struct _object; /* PyObject */
struct _ts;     /* PyThreadState */

/* Starts the interpreter in this process, with the virtualenv and the paths of `config`.
 * The calling thread holds the GIL afterwards. A virtualenv that does not fit, or an
 * interpreter that does not start: die(EXIT_CONFIG) with a sentence that says what to do. */
void python_start(const struct config *config);
/* Imports the modules of the option `hooks`, and calls the hooks about `cause`. 0, or -1 after the
 * traceback went to the log. GIL held. */
MUST_CHECK int python_load_hooks(const struct config *config, enum seed_cause cause);
/* The same, then imports the application and, if it is Django's, builds what all requests need
 * (warm.py). Returns a new reference, or NULL after the traceback went to the log. GIL held. */
MUST_CHECK struct _object *python_load(const struct config *config, enum seed_cause cause);
/* Ends what this process has made: in a worker that has served runs its exit hooks, for which
 * `reason` says why it ends ("" in all others); waits for non-daemon threads, runs atexit hooks and
 * finalizers, flushes files, however long that takes. The caller calls _exit afterwards. GIL held.
 */
void python_end(const char *reason);
/* Runs the application's handlers of the signals that came while the main thread was not in Python.
 * A process that a handler has forked and that comes back is ended. On the main thread, GIL held.
 */
void python_run_handlers(void);

/* Writes to `out` the Host for warm-up requests that have none. GIL held. */
void python_default_host(char *out, size_t size);
/* To be called when the application is loaded: what is opened or started from now on is the
 * warm-up's, and must not be left at the fork. GIL held. */
void python_begin_warmup(void);
/* To be called before the last round of the warm-up. Closes connections, so that the round opens
 * them again as each worker will, and notes the state of the code objects: python_prepare_fork
 * moves those that the round changes. GIL held. */
void python_before_last_round(const struct config *config);
/* Prepares the process to fork workers, when the application is loaded and warmed up: runs prefork
 * hooks, closes connections, logs what will not survive a fork, freezes all objects for the
 * collector and, with `immortal`, their reference counts. `order_fd`: -1, or the pipe for orders to
 * a worker that has drained and becomes the mold; then threads besides the caller are an error.
 * Returns 0, or -1 after the traceback went to the log. GIL held. */
MUST_CHECK int python_prepare_fork(int order_fd);
/* In a worker, before it serves: readies python_dump_stacks, gives the worker its own of what it
 * must not share, runs postfork hooks, and logs what has not come back, once for all workers of
 * `mold`. 0 or -1 as above. GIL held. */
MUST_CHECK int python_begin_worker(struct board_mold *mold);
/* The same in the process for hooks that are about other processes, which is no worker. */
MUST_CHECK int python_begin_hooks(void);
/* Whether there are such hooks. GIL held. */
bool python_has_process_hooks(void);
/* In that process, GIL held: call the hooks of that kind, and log what fails. `reason`: why worker
 * number `worker`, the process `pid`, has ended. */
void python_say_ready(void);
void python_say_child_exit(unsigned worker, pid_t pid, const char *reason);
void python_say_stopping(void);
/* In a worker, when the next thing it does is to serve: what was imported until now is not the
 * doing of a request. `mold` is its generation, whose workers report the same modules only once.
 * GIL held. */
void python_begin_reports(struct board_mold *mold);
/* Logs modules that were imported since the last call or python_begin_reports, with the request
 * that caused it, whose method and path are given as text: with the advice to add it to prewarm, or
 * to import them in wsgi.py if the request came with a login, if it is a GET or HEAD that was
 * answered 2xx; else at debug level. Cheap when there are none. GIL held. */
void python_report_imports(const struct request *request, const char *method, const char *path,
                           unsigned status);

/* Around fork(), GIL held (PyOS_BeforeFork and its two ends). What the process has made by then is
 * not the child's to end. */
void python_before_fork(void);
void python_after_fork_parent(void);
void python_after_fork_child(void);

/* Gives myserver.sockets the function that takes over the socket of the request on its thread. New
 * reference to what is to be called with the environ of a request that may have it; NULL with an
 * exception set. GIL held. */
struct _object *python_begin_sockets(struct _object *take);
/* growth.py; borrowed. By its name a project that is called myserver would be found. */
struct _object *python_growth(void);

/* One Python thread state per pool thread, for life, so that thread-locals (Django's
 * connections) survive between requests. */
struct python_thread {
    struct _ts *state;
    uint64_t request; /* number of the request that it runs, 0: none; under the GIL */
    bool interrupted; /* python_interrupt was called for that request; under the GIL */
};
/* For the main thread, whose state python_start has made: stores it and releases the GIL. */
void python_thread_adopt(struct python_thread *thread);
/* For any other thread: called on that thread, GIL not held before or after. */
void python_thread_init(struct python_thread *thread, const char *name);
/* Frees the state; on that thread, GIL not held before or after. */
void python_thread_fini(struct python_thread *thread);
void python_acquire(struct python_thread *thread);
void python_release(struct python_thread *thread);

/* From now on a byte is written to `fd`, a pipe, when a signal has arrived for which the
 * application has a handler in Python; -1: no more. On the main thread, GIL held, or in the child
 * of a fork. */
void python_watch_signals(int fd);

/* Around the application's part of a request (`request` is any number but 0): only there can the
 * thread be interrupted. On the thread, GIL held. */
void python_begin_request(struct python_thread *thread, uint64_t request);
void python_end_request(struct python_thread *thread);
/* Raises myserver.RequestTimeout in the thread if it still runs `request`. GIL held. */
void python_interrupt(struct python_thread *thread, uint64_t request);
/* Calls `function` with the GIL held, on a thread that is no python_thread; waits for the GIL. */
void python_visit(void (*function)(void *), void *context);
/* Appends the stacks of all Python threads as faulthandler writes them. Works without the GIL, but
 * is safe only while no other thread runs Python: with the GIL, or while C code holds it. One call
 * at a time. */
void python_dump_stacks(struct buf *out);

/* Logs the exception that is set, with its traceback, as one record whose first line is the
 * formatted text, and clears it. GIL held, an exception set. */
PRINTF_LIKE(2, 3) void python_log_exception(enum log_level level, const char *format, ...);
/* If the exception that was logged last came from something that another process has: EADDRINUSE,
 * an address; EAGAIN, a lock, if the application did not wait for it. Else 0. */
int python_lacking(void);

#endif
