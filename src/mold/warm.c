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
#include "http/parse.h"
#include "http/response.h"
#include "python/python.h"
#include "python/wsgi.h"
#include "shared/board.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define HOPS_MAX 5 /* redirects that are followed */

static const struct http_limits limits = {
    .request_line_bytes = 65536,
    .field_bytes = 65536,
    .head_bytes = 65536,
    .fields = HTTP_MAX_FIELDS,
};

struct warmer {
    struct request request;
    struct parser *parser; /* owned; fills `request` */
    struct response response;
    struct wsgi_call call;
    char host[256];      /* for requests that name none */
    struct buf location; /* Location of the last answer, with its NUL; empty: it had none */
    bool wants_login;    /* a redirect led to a page for that */
};

static struct response_facts facts_of(const struct warmer *w)
{
    return (struct response_facts){
        .is_head = w->request.is_head, .version_minor = 1, .keep_alive = true, .known_bytes = -1};
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
        char *at = parser_room(w->parser, &room);
        size_t step = bytes.len - done < room ? bytes.len - done : room;
        memcpy(at, bytes.data + done, step);
        done += step;
        result = parser_feed(w->parser, step);
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

/* Keeps the Location of the answer, before its head is reset. */
static void note_location(struct warmer *w)
{
    static const char name[] = "location: ";
    const char *at = w->response.head.data, *end = at ? at + w->response.head.len : NULL;
    buf_reset(&w->location);
    for (const char *line_end; at && (line_end = memchr(at, '\n', (size_t)(end - at)));
         at = line_end + 1)
        if ((size_t)(line_end - at) > sizeof(name) && ascii_equal(at, name, strlen(name))) {
            buf_append(&w->location, at + strlen(name),
                       (size_t)(line_end - at) - strlen(name) - 1); /* not its CR */
            buf_append(&w->location, "", 1);
            return;
        }
}

/* Makes one request. Returns the status of its answer; 0 when `spec` is not a valid request. */
static unsigned request(struct warmer *w, const char *spec)
{
    struct environ_facts facts = {.request = &w->request,
                                  .client = "127.0.0.1",
                                  .peer = "127.0.0.1",
                                  .trusted = true,
                                  .prewarm = true};
    struct wsgi_client client = {.send = discard, .context = w};
    struct forwarded_trust nobody = {0};
    struct forwarded_view view;
    if (!parse(w, spec) || !forwarded_resolve(&nobody, true, facts.peer, &w->request, &view))
        return 0;
    facts.https = view.https;
    drain(w, wsgi_start(&w->call, &facts, &w->response, &client));
    wsgi_finish(&w->call, NULL);
    unsigned status = w->response.status;
    note_location(w);
    parser_reset(w->parser);
    response_reset(&w->response);
    return status;
}

/* The rest of `url` behind scheme and host, which must be those of the request `spec`; NULL: it
 * leads to another host, or cannot be written as a request. Sets *https. */
static const char *same_host(const struct warmer *w, const char *spec, const char *url, bool *https)
{
    static const char *const schemes[] = {"http://", "https://"};
    const char *host = w->host;
    *https = false;
    if (strpbrk(url, "| \t"))
        return NULL;
    if (url[0] == '/' && url[1] != '/')
        return url;
    for (const char *at = strchr(spec, '|'); at; at = strchr(at, '|')) {
        at += 1 + strspn(at + 1, " ");
        if (ascii_equal(at, "Host:", 5))
            host = at + 5 + strspn(at + 5, " ");
    }
    size_t host_len = strcspn(host, " |");
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
        size_t len = strlen(schemes[i]);
        if (!ascii_equal(url, schemes[i], len) || !ascii_equal(url + len, host, host_len))
            continue;
        const char *rest = url + len + host_len;
        *https = i == 1;
        return *rest == '/' ? rest : *rest == '\0' ? "/" : NULL;
    }
    return NULL;
}

/* Whether a page at this URL asks who is there: by the names that such pages have. */
static bool is_login(const char *url)
{
    static const char *const words[] = {"login",   "log-in",  "log_in",  "logon",  "signin",
                                        "sign-in", "sign_in", "/auth/",  "/oauth", "/sso",
                                        "/saml",   "next=/",  "next=%2F"};
    for (const char *at = url; *at; at++)
        for (size_t i = 0; i < ARRAY_LEN(words); i++)
            if (ascii_equal(at, words[i], strlen(words[i])))
                return true;
    return false;
}

/* Writes the request by which a client would follow the last answer to `spec`. False: there is
 * none to the same host. */
static bool write_next(struct warmer *w, const char *spec, struct buf *next)
{
    bool https;
    const char *url = w->location.data, *headers = strchr(spec, '|');
    const char *target = same_host(w, spec, url, &https);
    w->wants_login = w->wants_login || is_login(url);
    if (!target)
        return false;
    buf_printf(next, "%s%.*s %s", strncmp(spec, "HEAD ", 5) == 0 ? "HEAD " : "GET ",
               (int)strcspn(target, "#"), target, headers ? headers : "");
    if (https && !names(spec, "X-Forwarded-Proto:"))
        buf_append_str(next, " | X-Forwarded-Proto: https");
    buf_append(next, "", 1);
    return true;
}

/* Makes the request `spec` and, as a client would, those to the same host that it is redirected to.
 * Returns the last status. */
static unsigned visit(struct warmer *w, const char *spec)
{
    struct buf now = {0};
    w->wants_login = false;
    unsigned status = request(w, spec);
    for (unsigned hops = 0; hops < HOPS_MAX && status / 100 == 3 && w->location.len > 0; hops++) {
        struct buf next = {0};
        bool goes_on = write_next(w, now.data ? now.data : spec, &next);
        buf_fini(&now);
        now = next;
        if (!goes_on)
            break;
        status = request(w, now.data);
    }
    buf_fini(&now);
    return status;
}

static void init(struct warmer *w)
{
    memset(w, 0, sizeof(*w));
    w->parser = parser_new(&w->request, &limits);
    python_default_host(w->host, sizeof(w->host));
}

static void fini(struct warmer *w)
{
    wsgi_fini(&w->call);
    response_fini(&w->response);
    parser_free(w->parser);
    buf_fini(&w->location);
}

/* Logs what the user should know of the first answer of a path. */
static enum warm_result judge(const struct warmer *w, const char *spec, unsigned status)
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
    if (w->wants_login || status == 401 || status == 403)
        log_warning(
            "prewarm \"%s\" wants a login, so it warms little: write \"%s | Cookie: ...\" "
            "(or another header) of a user made for it, or import the modules that the page "
            "needs in wsgi.py",
            spec, spec);
    else if (status >= 300)
        log_warning("prewarm \"%s\" answers %u, so it warms little; write \"%s | %s\" (or another "
                    "header) if the application wants one",
                    spec, status, spec,
                    status < 400 ? "X-Forwarded-Proto: https" : "Host: shop.example.com");
    return WARM_OK;
}

static enum warm_result run_rounds(struct warmer *w, const struct config *config)
{
    for (unsigned round = 0; round < config->prewarm_rounds; round++) {
        if (round + 1 == config->prewarm_rounds)
            python_before_last_round(config);
        for (size_t i = 0; i < config->prewarm.count; i++) {
            const char *spec = config->prewarm.items[i];
            unsigned status = visit(w, spec);
            if (round == 0 && judge(w, spec, status) == WARM_FAILED)
                return WARM_FAILED;
        }
    }
    return WARM_OK;
}

enum warm_result warm_mold(const struct config *config)
{
    struct warmer w;
    size_t count = config->prewarm.count;
    python_begin_warmup();
    if (count == 0)
        log_info(
            "no prewarm is configured: what the first request of a page loads is not shared by "
            "the workers; each prewarm = /PAGE shares that of one page");
    if (count == 0 || config->prewarm_rounds == 0)
        return WARM_OK;
    init(&w);
    uint64_t start_ms = now_ms();
    enum warm_result result = run_rounds(&w, config);
    if (result == WARM_OK)
        log_info("warmed up: %u rounds of %zu path%s in %llu ms", config->prewarm_rounds, count,
                 count == 1 ? "" : "s", (unsigned long long)(now_ms() - start_ms));
    fini(&w);
    return result;
}

void warm_worker(const struct config *config)
{
    struct warmer w;
    if (config->prewarm_rounds == 0 || config->prewarm.count == 0)
        return;
    init(&w);
    for (size_t i = 0; i < config->prewarm.count; i++)
        (void)visit(&w, config->prewarm.items[i]);
    fini(&w);
}
