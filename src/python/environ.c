/* environ.c: the environ dict of PEP 3333.
 *
 * Owns: the interned keys, one base dict per listener, and a table from header names as clients
 * send them to their HTTP_ keys. Reads the request, never changes it. For each request the base is
 * copied and the request's own keys are added; no object is made for a key that the request does
 * not have.
 *
 * All text is bytes-as-latin-1 (PEP 3333, "Unicode Issues"). */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "config/settings.h"
#include "file.h"
#include "http/request.h"
#include "http/trace.h"
#include "python/environ.h"
#include "system/listen.h"

/* Keys of header names that were seen before are not built again. The table is bounded, so that a
 * client cannot fill memory with invented names. The common names are put in first, so they are
 * always found. */
#define NAME_SLOTS     512
#define NAME_FILL_MAX  256
#define NAME_MAX_BYTES 48

struct name_slot {
    PyObject *key; /* "HTTP_USER_AGENT"; NULL: free */
    unsigned char length;
    char name[NAME_MAX_BYTES]; /* as sent */
};

static struct name_slot names[NAME_SLOTS];
static unsigned names_filled;

#define KEYS(X)                                                                                    \
    X(REQUEST_METHOD)                                                                              \
    X(SCRIPT_NAME)                                                                                 \
    X(PATH_INFO)                                                                                   \
    X(QUERY_STRING)                                                                                \
    X(REQUEST_URI)                                                                                 \
    X(RAW_URI)                                                                                     \
    X(SERVER_NAME)                                                                                 \
    X(SERVER_PORT)                                                                                 \
    X(SERVER_PROTOCOL)                                                                             \
    X(SERVER_SOFTWARE)                                                                             \
    X(REMOTE_ADDR)                                                                                 \
    X(REMOTE_PORT)                                                                                 \
    X(CONTENT_TYPE)                                                                                \
    X(CONTENT_LENGTH)

enum key {
#define X(name) KEY_##name,
    KEYS(X)
#undef X
        KEY_COUNT
};

static const char *const key_texts[] = {
#define X(name) #name,
    KEYS(X)
#undef X
};

static PyObject *keys[KEY_COUNT];
static PyObject *key_input, *key_scheme, *key_peer, *key_trace;
static PyObject *text_https, *text_http10, *text_empty;
static PyObject *methods[8];
static const char *const method_texts[] = {"GET",   "POST",    "HEAD",  "PUT",
                                           "PATCH", "OPTIONS", "DELETE"};
static PyObject *upgrade_offer; /* called with the environ; see environ_offer_upgrade */
static PyObject **bases;        /* [listeners] */
static const struct listeners *listening;
static size_t script_name_bytes;

static const char *const common_names[] = {
    "Host",
    "User-Agent",
    "Accept",
    "Accept-Encoding",
    "Accept-Language",
    "Cookie",
    "Connection",
    "Referer",
    "Cache-Control",
    "Origin",
    "Upgrade-Insecure-Requests",
    "Authorization",
    "If-None-Match",
    "If-Modified-Since",
    "X-Requested-With",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Real-IP",
    "X-Request-ID",
    "X-CSRFToken",
    "Sec-Fetch-Site",
    "Sec-Fetch-Mode",
    "Sec-Fetch-Dest",
    "Sec-Fetch-User",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "Pragma",
    "DNT",
    "Range",
    "If-Range",
    "traceparent",
    "Priority",
    "Expect",
    "Content-Encoding",
    "host",
    "user-agent",
    "accept",
    "accept-encoding",
    "connection",
};

/* "User-Agent" to "HTTP_USER_AGENT". */
static PyObject *make_key(const char *name, size_t len)
{
    PyObject *key = PyUnicode_New((Py_ssize_t)len + 5, 127);
    if (!key)
        return NULL;
    Py_UCS1 *out = PyUnicode_1BYTE_DATA(key);
    memcpy(out, "HTTP_", 5);
    for (size_t i = 0; i < len; i++) {
        char c = name[i];
        out[5 + i] = (Py_UCS1)(c == '-' ? '_' : c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
    }
    return key;
}

static PyObject *remember_key(struct name_slot *slot, const char *name, size_t len)
{
    PyObject *key = make_key(name, len);
    if (!key)
        return NULL;
    PyUnicode_InternInPlace(&key);
    slot->key = Py_NewRef(key);
    slot->length = (unsigned char)len;
    memcpy(slot->name, name, len);
    names_filled++;
    return key;
}

/* New reference. */
static PyObject *header_key(const char *name, size_t len)
{
    if (len > NAME_MAX_BYTES)
        return make_key(name, len);
    for (uint32_t at = (uint32_t)text_hash(TEXT_HASH, name, len);; at++) {
        struct name_slot *slot = &names[at % NAME_SLOTS];
        if (!slot->key)
            return names_filled < NAME_FILL_MAX ? remember_key(slot, name, len)
                                                : make_key(name, len);
        if (slot->length == len && memcmp(slot->name, name, len) == 0)
            return Py_NewRef(slot->key);
    }
}

/* Sets dict[key] and takes `value`. NULL: making the value failed; returns -1. */
static int set_taking(PyObject *dict, PyObject *key, PyObject *value)
{
    int failed = value ? PyDict_SetItem(dict, key, value) : -1;
    Py_XDECREF(value);
    return failed;
}

static PyObject *latin1(const char *text, size_t len)
{
    return PyUnicode_DecodeLatin1(text, (Py_ssize_t)len, NULL);
}

/* Takes a tenth of the time of PyUnicode_FromFormat. */
static PyObject *decimal(uint64_t number)
{
    char digits[20];
    size_t at = sizeof(digits);
    do
        digits[--at] = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    return latin1(digits + at, sizeof(digits) - at);
}

static PyObject *request_text(const struct request *request, struct http_text text)
{
    return latin1(request_at(request, text), text.length);
}

/* Makes a base dict: the keys that are the same for every request of the listener, and defaults for
 * the others. */
static PyObject *make_base(const struct config *config, const struct listener *listener)
{
    /* borrowed; accepts any str, writes whole lines */
    PyObject *sys_stderr = PySys_GetObject("stderr");
    const char *prefix = config->script_name ? config->script_name : "";
    PyObject *base = Py_BuildValue(
        "{s:s,s:N,s:s,s:s,s:s,s:s,s:s,s:s,s:(ii),s:s,s:O,s:O,s:O,s:O,s:O,s:O}", "REQUEST_METHOD",
        "GET", "SCRIPT_NAME", latin1(prefix, strlen(prefix)), "PATH_INFO", "/", "QUERY_STRING", "",
        "SERVER_NAME", listener->server_name, "SERVER_PORT", listener->server_port,
        "SERVER_PROTOCOL", "HTTP/1.1", "SERVER_SOFTWARE", "myserver/" MYSERVER_VERSION,
        "wsgi.version", 1, 0, "wsgi.url_scheme", "http", "wsgi.errors",
        sys_stderr ? sys_stderr : Py_None, "wsgi.multithread",
        config->threads > 1 ? Py_True : Py_False, "wsgi.multiprocess", Py_True, "wsgi.run_once",
        Py_False, "wsgi.input_terminated", Py_True, "wsgi.file_wrapper", wsgi_file_type());
    return base;
}

/* A copy of a dict has a table of the original's size, and a request adds about a dozen keys. A
 * base whose table has room for them spares every request the growth. There is no public call for
 * that, but a table grows when the 22nd key is added, and keeps its size when keys are removed. */
#define GROWN_KEYS 22

static int add_fillers(PyObject *dict, Py_ssize_t count, bool remove)
{
    int failed = 0;
    for (Py_ssize_t i = 0; i < count && !failed; i++) {
        PyObject *key = PyUnicode_FromFormat("filler %zd", i);
        failed = !key || (remove ? PyDict_DelItem(dict, key) : PyDict_SetItem(dict, key, key));
        Py_XDECREF(key);
    }
    return failed ? -1 : 0;
}

/* Takes `base`; new reference or NULL. */
static PyObject *with_room(PyObject *base)
{
    PyObject *roomy = base ? PyDict_New() : NULL;
    Py_ssize_t fillers = roomy ? GROWN_KEYS - PyDict_GET_SIZE(base) : 0;
    if (roomy && (add_fillers(roomy, fillers, false) < 0 || PyDict_Update(roomy, base) < 0 ||
                  add_fillers(roomy, fillers, true) < 0))
        Py_CLEAR(roomy);
    Py_XDECREF(base);
    return roomy;
}

static int make_bases(const struct config *config, const struct listeners *listeners)
{
    bases = xcalloc(listeners->count, sizeof(PyObject *));
    for (size_t i = 0; i < listeners->count; i++) {
        bases[i] = with_room(make_base(config, &listeners->items[i]));
        if (!bases[i])
            return -1;
    }
    return 0;
}

static int make_texts(void)
{
    for (size_t i = 0; i < KEY_COUNT; i++)
        if (!(keys[i] = PyUnicode_InternFromString(key_texts[i])))
            return -1;
    for (size_t i = 0; i < ARRAY_LEN(method_texts); i++)
        if (!(methods[i] = PyUnicode_InternFromString(method_texts[i])))
            return -1;
    for (size_t i = 0; i < ARRAY_LEN(common_names); i++) {
        PyObject *key = header_key(common_names[i], strlen(common_names[i]));
        if (!key)
            return -1;
        Py_DECREF(key);
    }
    key_input = PyUnicode_InternFromString("wsgi.input");
    key_scheme = PyUnicode_InternFromString("wsgi.url_scheme");
    key_peer = PyUnicode_InternFromString("myserver.peer");
    key_trace = PyUnicode_InternFromString("myserver.traceparent");
    text_https = PyUnicode_InternFromString("https");
    text_http10 = PyUnicode_InternFromString("HTTP/1.0");
    text_empty = PyUnicode_InternFromString("");
    return key_input && key_scheme && key_peer && key_trace && text_https && text_http10 &&
                   text_empty
               ? 0
               : -1;
}

int environ_init(const struct config *config, const struct listeners *listeners)
{
    listening = listeners;
    script_name_bytes = config->script_name ? strlen(config->script_name) : 0;
    if (make_texts() < 0)
        return -1;
    return make_bases(config, listeners);
}

int environ_offer(const char *name, PyObject *value)
{
    for (size_t i = 0; i < listening->count; i++)
        if (PyDict_SetItemString(bases[i], name, value) < 0)
            return -1;
    return 0;
}

static PyObject *method_text(const struct request *request)
{
    const char *method = request_at(request, request->method);
    for (size_t i = 0; i < ARRAY_LEN(method_texts); i++)
        if (strlen(method_texts[i]) == request->method.length &&
            memcmp(method, method_texts[i], request->method.length) == 0)
            return Py_NewRef(methods[i]);
    return latin1(method, request->method.length);
}

/* The decoded path after script-name; intake.c has checked that the path begins with it. */
static PyObject *path_info(const struct request *request)
{
    const char *path = request_at(request, request->path);
    size_t len = request->path.length;
    if (script_name_bytes == 0 && !memchr(path, '%', len))
        return latin1(path, len);
    char *decoded = PyMem_Malloc(len + 1);
    if (!decoded)
        return PyErr_NoMemory();
    size_t decoded_len = request_decode(path, len, decoded);
    size_t skip = script_name_bytes < decoded_len ? script_name_bytes : decoded_len;
    PyObject *text = latin1(decoded + skip, decoded_len - skip);
    PyMem_Free(decoded);
    return text;
}

static int add_request_line(PyObject *dict, const struct request *request)
{
    if (set_taking(dict, keys[KEY_REQUEST_METHOD], method_text(request)) < 0 ||
        set_taking(dict, keys[KEY_PATH_INFO], path_info(request)) < 0)
        return -1;
    if (request->query.length > 0 &&
        set_taking(dict, keys[KEY_QUERY_STRING], request_text(request, request->query)) < 0)
        return -1;
    PyObject *target = request_text(request, request->target);
    if (!target || PyDict_SetItem(dict, keys[KEY_REQUEST_URI], target) < 0) {
        Py_XDECREF(target);
        return -1;
    }
    if (set_taking(dict, keys[KEY_RAW_URI], target) < 0)
        return -1;
    if (UNLIKELY(request->is_uwsgi))
        return set_taking(dict, keys[KEY_SERVER_PROTOCOL],
                          request_text(request, request_protocol(request)));
    return request->version_minor == 0
               ? PyDict_SetItem(dict, keys[KEY_SERVER_PROTOCOL], text_http10)
               : 0;
}

/* RFC 9110 5.2: repeated fields are one list; cookies have their own separator (RFC 6265). */
static int add_repeated(PyObject *dict, PyObject *key, PyObject *first, PyObject *second,
                        enum http_field field)
{
    PyObject *joined =
        PyUnicode_FromFormat(field == HTTP_FIELD_COOKIE ? "%U; %U" : "%U,%U", first, second);
    return set_taking(dict, key, joined);
}

static int add_header(PyObject *dict, const struct request *request,
                      const struct http_header *header)
{
    PyObject *key = header_key(request_at(request, header->name), header->name.length);
    PyObject *value = request_text(request, header->value);
    int failed = -1;
    if (key && value) {
        Py_ssize_t before = PyDict_GET_SIZE(dict);
        PyObject *there = PyDict_SetDefault(dict, key, value); /* borrowed */
        failed = there ? 0 : -1;
        if (there && PyDict_GET_SIZE(dict) == before)
            failed = add_repeated(dict, key, there, value, header->field);
    }
    Py_XDECREF(key);
    Py_XDECREF(value);
    return failed;
}

static bool is_proxy_field(enum http_field field)
{
    return field >= HTTP_FIELD_FORWARDED && field <= HTTP_FIELD_X_REAL_IP;
}

static int add_headers(PyObject *dict, const struct request *request, bool trusted)
{
    for (unsigned i = 0; i < request->header_count; i++) {
        const struct http_header *header = &request->headers[i];
        int failed = 0;
        if (header->field == HTTP_FIELD_CONTENT_TYPE)
            failed = set_taking(dict, keys[KEY_CONTENT_TYPE], request_text(request, header->value));
        else if (header->field == HTTP_FIELD_CONTENT_LENGTH ||
                 header->field == HTTP_FIELD_TRANSFER_ENCODING)
            continue; /* the body is decoded and its length known: CONTENT_LENGTH below */
        else if (trusted || !is_proxy_field(header->field))
            failed = add_header(dict, request, header);
        if (failed)
            return -1;
    }
    if (!request->has_body)
        return 0;
    return set_taking(dict, keys[KEY_CONTENT_LENGTH], decimal(request->body.length));
}

/* What the proxy has put into the uwsgi packet, beside what has a meaning here: REMOTE_USER,
 * SERVER_NAME, DOCUMENT_ROOT, and what the operator has thought of. */
static int add_variables(PyObject *dict, const struct request *request)
{
    for (unsigned i = 0; i < request->variable_count; i++) {
        const struct http_header *variable = &request->headers[request->header_count + i];
        PyObject *key = request_text(request, variable->name);
        int failed = key ? set_taking(dict, key, request_text(request, variable->value)) : -1;
        Py_XDECREF(key);
        if (failed)
            return -1;
    }
    return 0;
}

/* A unix socket has no host name and port, so SERVER_NAME and SERVER_PORT come from Host (never
 * empty, PEP 3333). */
static int add_server_from_host(PyObject *dict, const struct request *request, bool https)
{
    const char *host = request->host.length ? request_at(request, request->host) : "localhost";
    size_t len = request->host.length ? request->host.length : strlen("localhost");
    const char *colon = memrchr(host, ':', len);
    if (colon && memchr(colon, ']', len - (size_t)(colon - host)))
        colon = NULL; /* inside [v6] */
    size_t name_len = colon ? (size_t)(colon - host) : len;
    const char *port = colon ? colon + 1 : https ? "443" : "80";
    size_t port_len = colon ? len - name_len - 1 : strlen(port);
    if (port_len == 0) {
        port = https ? "443" : "80";
        port_len = strlen(port);
    }
    if (name_len == 0) {
        host = "localhost";
        name_len = strlen(host);
    }
    if (set_taking(dict, keys[KEY_SERVER_NAME], latin1(host, name_len)) < 0)
        return -1;
    return set_taking(dict, keys[KEY_SERVER_PORT], latin1(port, port_len));
}

/* RFC 9112 3.2.2: HTTP_HOST is the authority of the target, also for an HTTP/1.0 request without a
 * Host field. */
static int add_host(PyObject *dict, const struct request *request)
{
    PyObject *key = header_key("Host", strlen("Host"));
    int failed = key ? set_taking(dict, key, request_text(request, request->host)) : -1;
    Py_XDECREF(key);
    return failed;
}

static int add_ends(PyObject *dict, const struct environ_facts *facts)
{
    PyObject *client = latin1(facts->client, strlen(facts->client));
    if (!client || PyDict_SetItem(dict, keys[KEY_REMOTE_ADDR], client) < 0) {
        Py_XDECREF(client);
        return -1;
    }
    bool direct = facts->client == facts->peer || strcmp(facts->client, facts->peer) == 0;
    PyObject *peer = direct ? Py_NewRef(client) : latin1(facts->peer, strlen(facts->peer));
    Py_DECREF(client);
    if (set_taking(dict, key_peer, peer) < 0)
        return -1;
    if (facts->client_port &&
        set_taking(dict, keys[KEY_REMOTE_PORT], decimal(facts->client_port)) < 0)
        return -1;
    if (facts->https && PyDict_SetItem(dict, key_scheme, text_https) < 0)
        return -1;
    if (facts->request->authority_in_target && add_host(dict, facts->request) < 0)
        return -1;
    if (listening->items[facts->listener].server_port[0] == '\0')
        return add_server_from_host(dict, facts->request, facts->https);
    return 0;
}

void environ_offer_upgrade(PyObject *offer)
{
    Py_XSETREF(upgrade_offer, offer);
}

static int add_upgrade(PyObject *dict)
{
    PyObject *done = PyObject_CallOneArg(upgrade_offer, dict);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

/* A text that nobody else has, nor can find. */
static bool is_alone(PyObject *text)
{
#ifdef Py_GIL_DISABLED
    (void)text;
    return false; /* references are counted in more than one place */
#else
    return Py_REFCNT(text) == 1 && !PyUnicode_CHECK_INTERNED(text);
#endif
}

/* Each thread writes its text anew, unless the request that had it has left it to somebody: making
 * one costs three times as much. */
static int add_trace(PyObject *dict, const struct trace *trace)
{
    static _Thread_local PyObject *text; /* owned */
    if (!text || !is_alone(text))
        Py_XSETREF(text, PyUnicode_New(TRACE_TEXT, 127));
    if (!text)
        return -1;
    trace_write(trace, PyUnicode_DATA(text)); /* it has room for the NUL, too */
    ((PyASCIIObject *)text)->hash = -1;
    return PyDict_SetItem(dict, key_trace, text);
}

PyObject *environ_build(const struct environ_facts *facts, PyObject *input)
{
    PyObject *dict = PyDict_Copy(bases[facts->listener]);
    if (!dict)
        return NULL;
    if (add_request_line(dict, facts->request) < 0 ||
        add_headers(dict, facts->request, facts->trusted) < 0 || add_ends(dict, facts) < 0 ||
        PyDict_SetItem(dict, key_input, input) < 0 ||
        (facts->trace && add_trace(dict, facts->trace) < 0) ||
        (UNLIKELY(facts->vouched) && add_variables(dict, facts->request) < 0) ||
        (UNLIKELY(facts->request->asks_upgrade && !facts->prewarm) && add_upgrade(dict) < 0) ||
        (UNLIKELY(facts->prewarm) && PyDict_SetItemString(dict, "myserver.prewarm", Py_True) < 0))
        Py_CLEAR(dict);
    return dict;
}
