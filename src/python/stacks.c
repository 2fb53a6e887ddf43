/* stacks.c: walks the frames of all threads.
 *
 * Owns: what it knows of the code that it has met. Code objects are found by their address, so each
 * is kept alive by a reference, until it is found that nothing else keeps it. That reference writes
 * to no page that is shared: a call has written to the count of its code already, unless that is
 * immortal and is not counted at all. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "python/stacks.h"

#include "base/text.h"
#include "hurry.h"
#include "shared/samples.h"

#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 256 /* deeper stacks lose their outermost frames */
#define LASTS_MAX 65536
#define LOOK_NS   (60 * NS_PER_S) /* between two looks for code that nobody else has */

/* Open addressing; 0 is no key. */
struct map {
    struct {
        uint64_t key;
        uint32_t value;
    } * entries;
    uint32_t room, count;
};

struct stacks {
    PyThreadState *state;
    struct samples_area *area;
    PyCodeObject **codes; /* [codes_room], by number of the function; NULL: no longer kept */
    uint32_t codes_room;
    struct map functions; /* by address of the code */
    struct map frames;    /* by function and instruction, and by function and line */
    struct map nodes;     /* by parent and frame */
    struct map texts;     /* by hash: views and names of files */
    struct map views;     /* by text */
    bool is_full;         /* something had no room in the area */
    uint64_t look_ns;
    struct stacks_thread *threads;
    unsigned threads_room;
};

/* ---- maps ---- */

static uint32_t map_index(const struct map *map, uint64_t key)
{
    uint32_t i = (uint32_t)((key * 0x9e3779b97f4a7c15ull) >> 32) & (map->room - 1);
    while (map->entries[i].key && map->entries[i].key != key)
        i = (i + 1) & (map->room - 1);
    return i;
}

/* -1: it is not there. */
static int64_t map_find(const struct map *map, uint64_t key)
{
    if (map->room == 0)
        return -1;
    uint32_t i = map_index(map, key);
    return map->entries[i].key ? (int64_t)map->entries[i].value : -1;
}

static void map_put(struct map *map, uint64_t key, uint32_t value)
{
    if (2 * map->count >= map->room) {
        struct map larger = {.room = map->room ? 2 * map->room : 256};
        larger.entries = xcalloc(larger.room, sizeof *larger.entries);
        for (uint32_t i = 0; i < map->room; i++)
            if (map->entries[i].key)
                larger.entries[map_index(&larger, map->entries[i].key)] = map->entries[i];
        larger.count = map->count;
        free(map->entries);
        *map = larger;
    }
    uint32_t i = map_index(map, key);
    map->count += map->entries[i].key == 0;
    map->entries[i].key = key;
    map->entries[i].value = value;
}

static void map_clear(struct map *map)
{
    free(map->entries);
    *map = (struct map){0};
}

/* ---- what is known ---- */

static void forget_all(struct stacks *stacks)
{
    map_clear(&stacks->functions);
    map_clear(&stacks->frames);
    map_clear(&stacks->nodes);
    map_clear(&stacks->texts);
    map_clear(&stacks->views);
    for (uint32_t i = 0; i < stacks->codes_room; i++)
        Py_CLEAR(stacks->codes[i]);
}

/* Lets go of code that nothing else keeps alive. */
static void forget_dead(struct stacks *stacks)
{
    struct map kept = {0};
    for (uint32_t i = 0; i < stacks->codes_room; i++) {
        if (stacks->codes[i] && Py_REFCNT(stacks->codes[i]) == 1)
            Py_CLEAR(stacks->codes[i]);
        if (stacks->codes[i])
            map_put(&kept, (uintptr_t)stacks->codes[i], i);
    }
    map_clear(&stacks->functions);
    stacks->functions = kept;
}

/* Its offset; 0, the empty text, when there is no room. */
static uint32_t add_text(struct stacks *stacks, const char *text, size_t len)
{
    uint64_t key = text_hash(TEXT_HASH, text, len) | 1;
    int64_t known = map_find(&stacks->texts, key);
    if (known >= 0)
        return (uint32_t)known;
    int at = samples_add_text(stacks->area, text, len);
    stacks->is_full |= at < 0;
    if (at > 0)
        map_put(&stacks->texts, key, (uint32_t)at);
    return at > 0 ? (uint32_t)at : 0;
}

/* PyUnicode_AsUTF8 would keep its result in the string, on a page that may be shared. */
static uint32_t add_name(struct stacks *stacks, PyObject *name)
{
    if (PyUnicode_Check(name) && PyUnicode_IS_COMPACT_ASCII(name))
        return add_text(stacks, PyUnicode_DATA(name), (size_t)PyUnicode_GET_LENGTH(name));
    PyObject *bytes =
        PyUnicode_Check(name) ? PyUnicode_AsEncodedString(name, "utf-8", "backslashreplace") : NULL;
    uint32_t at =
        bytes ? add_text(stacks, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes)) : 0;
    PyErr_Clear();
    Py_XDECREF(bytes);
    return at;
}

static void keep_code(struct stacks *stacks, uint32_t number, PyCodeObject *code)
{
    if (number >= stacks->codes_room) {
        uint32_t room = stacks->codes_room ? 2 * stacks->codes_room : 256;
        stacks->codes = xrealloc(stacks->codes, room * sizeof(PyCodeObject *));
        memset(stacks->codes + stacks->codes_room, 0,
               (room - stacks->codes_room) * sizeof(PyCodeObject *));
        stacks->codes_room = room;
    }
    stacks->codes[number] = (PyCodeObject *)Py_NewRef((PyObject *)code);
    map_put(&stacks->functions, (uintptr_t)code, number);
}

/* The number of a function; of 0, when there is no room. */
static uint32_t function_of(struct stacks *stacks, PyCodeObject *code)
{
    int64_t known = map_find(&stacks->functions, (uintptr_t)code);
    if (known >= 0)
        return (uint32_t)known;
    struct samples_function function = {.name = add_name(stacks, code->co_qualname),
                                        .file = add_name(stacks, code->co_filename),
                                        .first_line = (uint32_t)code->co_firstlineno};
    int number = samples_add_function(stacks->area, function);
    stacks->is_full |= number < 0;
    if (number < 0)
        return 0;
    keep_code(stacks, (uint32_t)number, code);
    return (uint32_t)number;
}

#define BY_LINE (1ull << 63)

static uint32_t frame_of(struct stacks *stacks, PyCodeObject *code, int last)
{
    uint64_t function = function_of(stacks, code), key = (function + 1) << 32 | (uint32_t)last;
    int64_t known = map_find(&stacks->frames, key);
    if (known >= 0)
        return (uint32_t)known;
    int line = PyCode_Addr2Line(code, last);
    uint64_t line_key = BY_LINE | (function + 1) << 32 | (uint32_t)(line > 0 ? line : 0);
    known = map_find(&stacks->frames, line_key);
    if (known < 0) {
        struct samples_frame frame = {.line = (uint32_t)(line > 0 ? line : 0),
                                      .function = (uint16_t)function};
        known = samples_add_frame(stacks->area, frame);
        stacks->is_full |= known < 0;
        if (known < 0)
            return 0;
        map_put(&stacks->frames, line_key, (uint32_t)known);
    }
    map_put(&stacks->frames, key, (uint32_t)known);
    stacks->is_full |= stacks->frames.count > LASTS_MAX;
    return (uint32_t)known;
}

static uint16_t node_below(struct stacks *stacks, uint16_t parent, uint32_t frame)
{
    uint64_t key = ((uint64_t)parent + 1) << 32 | frame;
    int64_t known = map_find(&stacks->nodes, key);
    if (known >= 0)
        return (uint16_t)known;
    int number = samples_add_node(
        stacks->area, (struct samples_node){.parent = parent, .frame = (uint16_t)frame});
    stacks->is_full |= number < 0;
    if (number < 0)
        return 0;
    map_put(&stacks->nodes, key, (uint32_t)number);
    return (uint16_t)number;
}

uint16_t stacks_view(struct stacks *stacks, const char *name, size_t len)
{
    uint32_t text = add_text(stacks, name, len);
    int64_t known = map_find(&stacks->views, (uint64_t)text + 1);
    if (known >= 0)
        return (uint16_t)known;
    int view = text ? samples_add_view(stacks->area, text) : -1;
    map_put(&stacks->views, (uint64_t)text + 1, view < 0 ? SAMPLES_OTHER_VIEW : (uint32_t)view);
    return view < 0 ? SAMPLES_OTHER_VIEW : (uint16_t)view;
}

/* ---- walking ---- */

static bool has_begun(const PyThreadState *state)
{
#if PY_VERSION_HEX < 0x030c0000
    return state->cframe != NULL; /* it is in the list before it is whole */
#else
    (void)state;
    return true;
#endif
}

/* The node of its innermost frame; 0: it is in no Python code. */
static uint16_t walk(struct stacks *stacks, PyThreadState *state)
{
    uint32_t frames[DEPTH_MAX];
    unsigned depth = 0;
    uint16_t node = 0;
    PyFrameObject *frame = has_begun(state) ? PyThreadState_GetFrame(state) : NULL;
    while (frame && depth < DEPTH_MAX) {
        PyCodeObject *code = PyFrame_GetCode(frame);
        frames[depth++] = frame_of(stacks, code, PyFrame_GetLasti(frame));
        Py_DECREF(code);
        PyFrameObject *back = PyFrame_GetBack(frame);
        Py_DECREF(frame);
        frame = back;
    }
    Py_XDECREF(frame);
    while (depth > 0)
        node = node_below(stacks, node, frames[--depth]);
    return node;
}

static struct stacks_thread *add_thread(struct stacks *stacks, unsigned count)
{
    if (count >= stacks->threads_room) {
        stacks->threads_room = stacks->threads_room ? 2 * stacks->threads_room : 16;
        stacks->threads = xrealloc(stacks->threads, stacks->threads_room * sizeof *stacks->threads);
    }
    return &stacks->threads[count];
}

/* Threads may be added to the list meanwhile, at its head, but not taken out. */
static unsigned walk_all(struct stacks *stacks, const PyThreadState *holder)
{
    unsigned count = 0;
    PyThreadState *state = PyInterpreterState_ThreadHead(stacks->state->interp);
    for (; state; state = PyThreadState_Next(state)) {
        uint16_t node = walk(stacks, state);
        if (node)
            *add_thread(stacks, count++) =
                (struct stacks_thread){.state = state,
                                       .tid = (pid_t)state->native_thread_id,
                                       .node = node,
                                       .had_gil = state == holder};
    }
    return count;
}

bool stacks_take(struct stacks *stacks, const _Atomic bool *stopping, stacks_see *see,
                 void *context)
{
    const PyThreadState *holder = hurry_take(stacks->state);
    bool goes_on = !atomic_load(stopping);
    if (goes_on) {
        /* the frame objects that the walk makes must not start a collection on this thread */
        int collects = PyGC_Disable();
        unsigned count = walk_all(stacks, holder);
        if (stacks->is_full) { /* begins anew: all numbers lose their meaning */
            forget_all(stacks);
            samples_empty(stacks->area);
            stacks->is_full = false;
            count = walk_all(stacks, holder);
        }
        see(context, stacks->threads, count);
        if (now_ns() > stacks->look_ns) {
            forget_dead(stacks);
            stacks->look_ns = now_ns() + LOOK_NS;
        }
        if (collects)
            PyGC_Enable();
    }
    (void)PyEval_SaveThread();
    return goes_on;
}

/* ---- life ---- */

struct stacks *stacks_new(struct samples_area *area)
{
#ifdef Py_GIL_DISABLED
    (void)area;
    return NULL; /* the others run while they are looked at */
#else
    struct stacks *stacks = xcalloc(1, sizeof *stacks);
    stacks->area = area;
    stacks->state = PyThreadState_New(PyInterpreterState_Main());
    assert(stacks->state);
    return stacks;
#endif
}

void stacks_free(struct stacks *stacks)
{
    PyEval_RestoreThread(stacks->state);
    forget_all(stacks);
    PyThreadState_Clear(stacks->state);
    PyThreadState_DeleteCurrent();
    free(stacks->codes);
    free(stacks->threads);
    free(stacks);
}
