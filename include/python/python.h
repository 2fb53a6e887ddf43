/* python.h: the embedded interpreter: start, load, fork, threads, exceptions.
 * Layer 3: the mold and the workers only; the master has no Python. */
#ifndef MYSERVER_PYTHON_H
#define MYSERVER_PYTHON_H

#include "base/base.h"
#include "base/buf.h"
#include "base/log.h"

#include <stdbool.h>

struct board_mold;
struct config;
struct _object; /* PyObject */
struct _ts;     /* PyThreadState */

/* Starts the interpreter in this process, with the virtualenv and the paths of `config`.
 * The calling thread holds the GIL afterwards. A virtualenv that does not fit, or an
 * interpreter that does not start: die(EXIT_CONFIG) with a sentence that says what to do. */
void python_start(const struct config *config);
/* Imports the application. Returns a new reference, or NULL after the traceback went to the
 * log. GIL held. */
MUST_CHECK struct _object *python_load(const struct config *config);
/* Waits for non-daemon threads and runs atexit hooks, however long they take: the master's
 * graceful-timeout is the limit. The caller calls _exit afterwards. GIL held. */
void python_stop(void);

/* Writes to `out` the Host for warm-up requests that have none. GIL held. */
void python_default_host(char *out, size_t size);
/* To be called when the application is loaded: connections that are opened from now on are the
 * warm-up's, and must be closed before the fork. GIL held. */
void python_begin_warmup(void);
/* To be called before the last round of the warm-up. Closes connections, so that the round opens
 * them again as each worker will, and notes the state of the code objects: python_prepare_fork
 * moves those that the round changes. GIL held. */
void python_before_last_round(const struct config *config);
/* For the trial of the warm-up, in a process that is thrown away: whether the request has left
 * connections open that workers would share; their peers are in `out` then. GIL held. */
MUST_CHECK bool python_warmup_left(char *out, size_t size);
/* Prepares the process to fork workers, when the application is loaded and warmed up: runs prefork
 * hooks, closes connections, logs what will not survive a fork, freezes all objects for the
 * collector and, with `immortal`, their reference counts. `has_served`: the process is a worker
 * that has drained and becomes the mold; then threads besides the caller are an error. Returns 0,
 * or -1 after the traceback went to the log. GIL held. */
MUST_CHECK int python_prepare_fork(const struct config *config, bool has_served);
/* In a worker, before it serves: readies python_dump_stacks and runs postfork hooks. 0 or -1 as
 * above. GIL held. */
MUST_CHECK int python_begin_worker(void);
/* In a worker, when the next thing it does is to serve: what was imported until now is not the
 * doing of a request. `mold` is its generation, whose workers report the same modules only once.
 * GIL held. */
void python_begin_reports(struct board_mold *mold);
/* Logs modules that were imported since the last call or python_begin_reports, with the request
 * that caused it: with the advice to add it to prewarm if it is a GET or HEAD that was answered
 * 2xx, else at debug level. Cheap when there are none. GIL held. */
void python_report_imports(const char *method, const char *path, unsigned status);

/* Around fork(), GIL held (PyOS_BeforeFork and its two ends). */
void python_before_fork(void);
void python_after_fork_parent(void);
void python_after_fork_child(void);

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

#endif
