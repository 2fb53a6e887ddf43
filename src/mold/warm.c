/* warm.c: requests that the server makes to the application itself.
 *
 * Owns: the state of such a request. It goes through the real parser, environ, application,
 * iteration and close(); only the bytes of the answer are discarded. Never runs at the same time as
 * requests of clients in this process. */
#include "warm.h"
#include "base/buf.h"
#include "base/log.h"
#include "config/settings.h"
#include "http/forwarded.h"
#include "http/request.h"
#include "http/response.h"
#include "python/python.h"
#include "python/wsgi.h"
#include "shared/board.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define TRIAL_S   5    /* limit for the trial request of the default; see why_not */
#define ROUNDS_MS 2000 /* with the default, a round that begins later is the last */

/* The path that is used when no prewarm is configured, after choose_default in the mold; its
 * workers inherit it. */
static const char *default_path = "/"; /* NULL: none is used, as it would do harm */
/* Used instead where "/" answers with a redirect to https, as with SECURE_SSL_REDIRECT. */
static const char secure_path[] = "/ | X-Forwarded-Proto: https";

static const struct http_limits limits = {
    .request_line_bytes = 65536,
    .field_bytes = 65536,
    .head_bytes = 65536,
    .fields = HTTP_MAX_FIELDS,
    .tmp_dir = "/tmp",
};

struct warmer {
    struct http http;
    struct response response;
    struct wsgi_call call;
    const char *host; /* for requests that name none */
    unsigned rounds;  /* number of rounds made */
};

static struct response_facts facts_of(const struct warmer *w)
{
    return (struct response_facts){
        .is_head = w->http.is_head, .version_minor = 1, .keep_alive = true, .known_bytes = -1};
}

/* Handles a piece of the body, also one from write(), as if it were sent. */
static bool discard(void *context, const char *data, size_t len)
{
    struct warmer *w = context;
    struct response_facts facts = facts_of(w);
    (void)data;
    if (!w->response.head_finished)
        response_finish_head(&w->response, &facts);
    (void)response_admit(&w->response, len);
    w->call.head_sent = true;
    return true;
}

static size_t trimmed(const char *text, size_t len)
{
    while (len > 0 && text[len - 1] == ' ')
        len--;
    return len;
}

/* Whether the request `spec` has the header `field`, which is given with its colon. */
static bool names(const char *spec, const char *field)
{
    for (const char *at = strchr(spec, '|'); at; at = strchr(at, '|')) {
        at += 1 + strspn(at + 1, " ");
        if (ascii_equal(at, field, strlen(field)))
            return true;
    }
    return false;
}

/* "[METHOD ]/path[ | Name: value]..." as the bytes a client would send. */
static void write_request(struct buf *out, const char *spec, const char *host)
{
    size_t line_len = strcspn(spec, "|");
    if (spec[0] == '/')
        buf_append_str(out, "GET ");
    buf_append(out, spec, trimmed(spec, line_len));
    buf_append_str(out, " HTTP/1.1\r\n");
    for (const char *field = spec + line_len; *field == '|';) {
        field += 1 + strspn(field + 1, " ");
        size_t len = strcspn(field, "|");
        buf_append(out, field, trimmed(field, len));
        buf_append_str(out, "\r\n");
        field += len;
    }
    if (!names(spec, "Host:"))
        buf_printf(out, "Host: %s\r\n", host);
    if (!names(spec, "User-Agent:"))
        buf_append_str(out, "User-Agent: myserver prewarm\r\n");
    buf_append_str(out, "\r\n");
}

static bool parse(struct warmer *w, const char *spec)
{
    struct buf bytes = {0};
    size_t room;
    write_request(&bytes, spec, w->host);
    enum http_result result = HTTP_MORE;
    for (size_t done = 0; done < bytes.len && result == HTTP_MORE;) {
        char *at = http_room(&w->http, &room);
        size_t step = bytes.len - done < room ? bytes.len - done : room;
        memcpy(at, bytes.data + done, step);
        done += step;
        result = http_feed(&w->http, step);
    }
    buf_fini(&bytes);
    return result == HTTP_READY;
}

/* Takes the whole answer, as for a client that reads everything. */
static void drain(struct warmer *w, enum wsgi_result result)
{
    struct response_facts facts = facts_of(w);
    while (result == WSGI_CHUNK || result == WSGI_EMPTY) {
        if (result == WSGI_CHUNK)
            discard(w, w->call.data, w->call.len);
        result = wsgi_next(&w->call);
    }
    if (result == WSGI_FILE)
        close(w->call.file.fd);
    if (result == WSGI_FAILED)
        response_error(&w->response, 500, &facts);
}

/* Makes one request. Returns the status of its answer; 0 when `spec` is not a valid request. */
static unsigned request(struct warmer *w, const char *spec)
{
    struct environ_facts facts = {
        .request = &w->http, .client = "127.0.0.1", .peer = "127.0.0.1", .trusted = true};
    struct wsgi_client client = {.send = discard, .context = w};
    struct forwarded_trust nobody = {0};
    struct forwarded_view view;
    if (!parse(w, spec) || !forwarded_resolve(&nobody, true, facts.peer, &w->http, &view))
        return 0;
    facts.https = view.https;
    drain(w, wsgi_start(&w->call, &facts, &w->response, &client));
    wsgi_finish(&w->call, NULL);
    unsigned status = w->response.status;
    http_reset(&w->http);
    response_reset(&w->response);
    return status;
}

static void init(struct warmer *w, const char *host)
{
    memset(w, 0, sizeof(*w));
    http_init(&w->http, &limits);
    w->host = host;
}

static void fini(struct warmer *w)
{
    wsgi_fini(&w->call);
    response_fini(&w->response);
    http_fini(&w->http);
}

struct paths {
    const char *const *items;
    size_t count;
    bool are_default;
};

static struct paths paths_of(const struct config *config)
{
    if (config->prewarm.count > 0)
        return (struct paths){(const char *const *)config->prewarm.items, config->prewarm.count,
                              false};
    return (struct paths){&default_path, default_path ? 1 : 0, true};
}

/* Logs what the user should know of the first answer of a configured path. */
static enum warm_result judge(const char *spec, unsigned status)
{
    if (status == 0) {
        log_error("prewarm \"%s\" is no request", spec);
        return WARM_FAILED;
    }
    if (status >= 500) {
        log_error("prewarm \"%s\" answers %u: the path must work before the application serves",
                  spec, status);
        return WARM_FAILED;
    }
    if (status >= 300)
        log_warning("prewarm \"%s\" answers %u, so it warms little; write \"%s | %s\" (or another "
                    "header) if the application wants one",
                    spec, status, spec,
                    status < 400 ? "X-Forwarded-Proto: https" : "Host: shop.example.com");
    return WARM_OK;
}

static enum warm_result run_rounds(struct warmer *w, const struct config *config)
{
    struct paths paths = paths_of(config);
    uint64_t start_ms = now_ms();
    for (bool is_last = config->prewarm_rounds == 0 || paths.count == 0; !is_last; w->rounds++) {
        bool is_late = paths.are_default && now_ms() - start_ms >= ROUNDS_MS;
        is_last = is_late || w->rounds + 1 == config->prewarm_rounds;
        if (is_last)
            python_before_last_round(config);
        for (size_t i = 0; i < paths.count; i++) {
            unsigned status = request(w, paths.items[i]);
            if (w->rounds == 0 && !paths.are_default &&
                judge(paths.items[i], status) == WARM_FAILED)
                return WARM_FAILED;
        }
    }
    return WARM_OK;
}

/* --- the default ---------------------------------------------------------------------------- */

enum trial {
    TRIAL_USABLE,
    TRIAL_SENT_ON,
    TRIAL_ANSWERS_ERROR,
    TRIAL_LEAVES_CONNECTION,
    TRIAL_TAKES_LONG,
    TRIAL_NOT_MADE,
    TRIAL_DIED
};

static bool is_failure(enum trial trial)
{
    return trial == TRIAL_ANSWERS_ERROR || trial == TRIAL_DIED;
}

/* The path may be bad, or the machine may be slow or out of resources. */
static bool is_unknown(enum trial trial)
{
    return trial == TRIAL_TAKES_LONG || trial == TRIAL_NOT_MADE;
}

/* The alarm ends the process, whatever handler or mask the application has set or the server was
 * started with. */
static void end_after_trial_time(void)
{
    sigset_t alarm_only;
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    signal(SIGALRM, SIG_DFL);
    sigprocmask(SIG_UNBLOCK, &alarm_only, NULL);
    alarm(TRIAL_S);
}

/* Makes one request in a process of its own, which ends then, with all that the request opened. */
static NORETURN void run_trial(struct warmer *w, const char *path, pid_t parent)
{
    char left[512];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(TRIAL_DIED);
    end_after_trial_time();
    python_after_fork_child();
    unsigned status = request(w, path);
    if (status == 0 || status >= 500)
        _exit(TRIAL_ANSWERS_ERROR);
    if (python_warmup_left(left, sizeof(left)))
        _exit(TRIAL_LEAVES_CONNECTION);
    _exit(status >= 300 && status < 400 ? TRIAL_SENT_ON : TRIAL_USABLE);
}

static enum trial try_path(struct warmer *w, const char *path)
{
    int status = 0;
    python_before_fork();
    pid_t self = getpid(), pid = fork();
    if (pid == 0)
        run_trial(w, path, self);
    int error = errno;
    python_after_fork_parent();
    if (pid < 0) {
        log_error("cannot fork to try \"%s\": %s", path, strerror(error));
        return TRIAL_NOT_MADE;
    }
    pid_t reaped;
    do
        reaped = waitpid(pid, &status, 0);
    while (reaped < 0 && errno == EINTR);
    if (reaped < 0) /* the application ignores SIGCHLD, and the kernel has reaped the process */
        return TRIAL_NOT_MADE;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
        return TRIAL_TAKES_LONG;
    bool has_said = WIFEXITED(status) && WEXITSTATUS(status) < TRIAL_DIED;
    return has_said ? (enum trial)WEXITSTATUS(status) : TRIAL_DIED;
}

static enum trial try_default(struct warmer *w)
{
    enum trial trial = try_path(w, default_path);
    if (trial != TRIAL_SENT_ON)
        return trial;
    enum trial secure = try_path(w, secure_path);
    if (secure != TRIAL_USABLE && !is_failure(secure))
        return trial; /* TRIAL_SENT_ON: "/" is used, whose redirect is harmless */
    default_path = secure_path;
    return secure;
}

/* Notes for the next generations whether "/" answers. False: it answered under the code before,
 * must go on, and fails now. */
static bool note_root(_Atomic uint32_t *root, enum trial trial)
{
    bool must = atomic_load(root) == BOARD_ROOT_MUST_ANSWER;
    if (must && is_failure(trial))
        return false;
    if (must || (!is_unknown(trial) && !is_failure(trial)))
        atomic_store(root, BOARD_ROOT_ANSWERED);
    return true;
}

/* Decides whether "/" is used to warm up. Nobody has configured that, so it must do no harm. */
static enum warm_result choose_default(struct warmer *w, _Atomic uint32_t *root)
{
    static const char *const why_not[] = {
        [TRIAL_USABLE] = NULL,
        [TRIAL_SENT_ON] = NULL,
        [TRIAL_ANSWERS_ERROR] = "answers with an error",
        [TRIAL_LEAVES_CONNECTION] =
            "leaves a connection open that workers would share (close it with @myserver.prefork)",
        [TRIAL_TAKES_LONG] = "takes longer than 5 s",
        [TRIAL_NOT_MADE] = "could not be tried",
        [TRIAL_DIED] = "ends the process",
    };
    enum trial trial = try_default(w);
    const char *reason = why_not[trial];
    if (root && !note_root(root, trial)) {
        log_error("\"%s\" answered before and now %s: the code before goes on; set prewarm, or "
                  "prewarm-rounds = 0 if that is meant",
                  default_path, reason);
        return WARM_FAILED;
    }
    log_write(is_failure(trial) || is_unknown(trial) ? LOG_WARNING : LOG_INFO,
              "no prewarm is configured: \"%s\" %s%s", default_path,
              reason ? reason : "is used to warm up", reason ? ", so it is not used" : "");
    if (reason)
        default_path = NULL;
    return WARM_OK;
}

enum warm_result warm_mold(const struct config *config, _Atomic uint32_t *root)
{
    enum warm_result result = WARM_OK;
    struct warmer w;
    char host[256];
    python_default_host(host, sizeof(host));
    init(&w, host);
    uint64_t start_ms = now_ms();
    python_begin_warmup();
    if (config->prewarm.count == 0 && config->prewarm_rounds > 0)
        result = choose_default(&w, root);
    else if (root)
        atomic_store(root, BOARD_ROOT_UNKNOWN);
    if (result == WARM_OK)
        result = run_rounds(&w, config);
    size_t count = paths_of(config).count;
    if (result == WARM_OK && w.rounds > 0)
        log_info("warmed up: %u rounds of %zu path%s in %llu ms", w.rounds, count,
                 count == 1 ? "" : "s", (unsigned long long)(now_ms() - start_ms));
    fini(&w);
    return result;
}

void warm_worker(const struct config *config)
{
    struct warmer w;
    char host[256];
    struct paths paths = paths_of(config);
    if (config->prewarm_rounds == 0)
        return;
    python_default_host(host, sizeof(host));
    init(&w, host);
    for (size_t i = 0; i < paths.count; i++)
        (void)request(&w, paths.items[i]);
    fini(&w);
}
