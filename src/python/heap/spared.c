/* spared.c: objects whose end a program could notice.
 *
 * Owns: nothing that lasts. What is immortal or frozen may never end. A program notices that of an
 * object with a finalizer, with weak references, with a callback of a weak reference, with a
 * buffer of another object, or of a type in C that releases more than memory. Such an object is
 * spared, and with it
 *
 *   - all that owns it, directly or not, since it ends with its last owner. Modules do not end, nor
 * do their dictionaries: what a module names ends when the name does. Classes hardly ever end, and
 *     own half of a program, so that only weak references do not spare them.
 *   - what it and its owners alone keep alive, except where there are only weak references.
 *   - what a module names and is empty, or has an attribute that is None or empty: a worker may
 *     fill it with such things, and then forget it.
 *
 * Which types in C release only memory is written down below; others are taken to release more. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "spared.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>

enum {
    KEPT = 4,      /* a module in sys.modules, or its dictionary */
    JUDGED = 8,    /* a type: the next two are known */
    HARMLESS = 16, /* its instances release only memory and what they own */
    OPAQUE = 32,   /* its instances own what they do not show */
    BELOW = 64,    /* something spared owns it */
    OUTSIDE = 128, /* BELOW, and something else keeps it alive, too */
};

/* Of the standard library; a star stands for the rest of the name. Types of the interpreter itself
 * have no dot in their names, see judge_type. */
static const char *const harmless[] = {
    "Token.MISSING",  "_abc._abc_data", "_collections.*",
    "_operator.*",    "_contextvars.*", "_cython_*", /* functions */
    "_functools.*",   "_json.*",        "_queue.SimpleQueue",
    "_random.Random", "_sre.*",         "_struct.Struct",
    "_thread.RLock",  "_thread.lock",   "array.array",
    "ast.*",          "builtins.*",     "collections.*",
    "datetime.*",     "decimal.*",      "functools.*",
    "itertools.*",    "operator.*",     "re.*",
    "types.*",        "typing.*",       "unicodedata.*",
    "weakref.*",      "zoneinfo.*",
};

/* Types of the interpreter itself that release more than memory. */
static const char *const harmful[] = {"PyCapsule", "managedbuffer", "memoryview"};

/* Types that the collector does not know, with instances that own other objects. */
static const char *const opaque[] = {"datetime.datetime", "datetime.time",
                                     "functools._lru_list_elem"};

struct stack {
    struct owners *graph;
    uint32_t top; /* number of a node, whose `next` is the one below it; or OWNERS_NONE */
};

static destructor class_dealloc; /* of all classes that are written in Python */
static void *interpreter;        /* where libpython lies */

static void *library_of(const void *address)
{
    Dl_info info;
    return dladdr(address, &info) ? info.dli_fbase : NULL;
}

/* ---- types ---- */

static bool is_class_of_python(const PyTypeObject *type)
{
    return type->tp_dealloc == class_dealloc;
}

static bool is_listed(const char *const *names, size_t count, const char *type)
{
    for (size_t i = 0; i < count; i++) {
        size_t len = strcspn(names[i], "*");
        if (strncmp(type, names[i], len) == 0 && (names[i][len] == '*' || type[len] == '\0'))
            return true;
    }
    return false;
}

/* Whether ending an instance does nothing but to release memory and what it owns. A class that is
 * written in Python leaves that to its nearest base in C. */
static bool judge_type(PyTypeObject *type)
{
    if (type->tp_finalize || type->tp_del)
        return false;
    while (is_class_of_python(type) && type->tp_base)
        type = type->tp_base;
    if (PyType_FastSubclass(type, Py_TPFLAGS_BASE_EXC_SUBCLASS | Py_TPFLAGS_TUPLE_SUBCLASS))
        return true;
    if (strchr(type->tp_name, '.'))
        return is_listed(harmless, ARRAY_LEN(harmless), type->tp_name);
    return library_of((void *)(uintptr_t)type->tp_dealloc) == interpreter &&
           !is_listed(harmful, ARRAY_LEN(harmful), type->tp_name);
}

static bool is_opaque(const PyTypeObject *type)
{
    return is_listed(opaque, ARRAY_LEN(opaque), type->tp_name);
}

/* HARMLESS, OPAQUE. */
static uint32_t type_marks(struct owners *graph, PyTypeObject *type)
{
    uint32_t number = owners_number(graph, (PyObject *)type), other = 0;
    uint32_t *marks = number == OWNERS_NONE ? &other : &graph->nodes[number].marks;
    if (!(*marks & JUDGED))
        *marks |= JUDGED | (judge_type(type) ? HARMLESS : 0) | (is_opaque(type) ? OPAQUE : 0);
    return *marks;
}

/* ---- what is noticed by itself ---- */

/* Whether its end does something. */
static bool is_active(struct owners *graph, PyObject *object)
{
    if (Py_TYPE(object)->tp_finalize || Py_TYPE(object)->tp_del)
        return true;
    return !PyType_Check(object) && !(type_marks(graph, Py_TYPE(object)) & HARMLESS);
}

/* Whether its end is noticed only by what refers to it. All classes have weak references: those of
 * their bases. */
static bool is_watched(struct owners *graph, PyObject *object)
{
    if (PyWeakref_Check(object) && ((PyWeakReference *)object)->wr_callback)
        return true;
    if (type_marks(graph, Py_TYPE(object)) & OPAQUE)
        return true;
    Py_ssize_t offset = Py_TYPE(object)->tp_weaklistoffset;
    return offset != 0 && !PyType_Check(object) && *(PyObject **)((char *)object + offset);
}

/* Stops the visit at None and at what is empty. */
static int find_room(PyObject *object, void *arg)
{
    (void)arg;
    if (!object || object == Py_None)
        return object == Py_None;
    return (PyDict_CheckExact(object) && PyDict_GET_SIZE(object) == 0) ||
           (PyList_CheckExact(object) && PyList_GET_SIZE(object) == 0) ||
           (PySet_CheckExact(object) && PySet_GET_SIZE(object) == 0);
}

/* Whether it is empty, or an object with an attribute that is. */
static bool may_be_filled(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    if (find_room(object, NULL))
        return true;
    return is_class_of_python(type) && !PyType_Check(object) && type->tp_traverse &&
           type->tp_traverse(object, find_room, NULL) != 0;
}

/* ---- marking ---- */

static void push(struct stack *stack, uint32_t number, uint32_t mark)
{
    struct node *node = &stack->graph->nodes[number];
    node->marks |= mark;
    node->next = stack->top;
    stack->top = number;
}

static const struct node *pop(struct stack *stack)
{
    const struct node *node = &stack->graph->nodes[stack->top];
    stack->top = node->next;
    return node;
}

/* Spares what is noticed, and all its owners. */
static void spare(struct owners *graph, bool (*is_noticed)(struct owners *, PyObject *),
                  bool with_classes)
{
    struct stack stack = {graph, OWNERS_NONE};
    for (uint32_t i = 0; i < graph->count; i++)
        if (!(graph->nodes[i].marks & (KEPT | SPARED)) && is_noticed(graph, graph->nodes[i].object))
            push(&stack, i, SPARED);
    while (stack.top != OWNERS_NONE) {
        for (uint32_t at = pop(&stack)->owners; at != OWNERS_NONE; at = graph->links[at].next) {
            const struct node *owner = &graph->nodes[graph->links[at].owner];
            if (!(owner->marks & (KEPT | SPARED)) && (with_classes || !PyType_Check(owner->object)))
                push(&stack, graph->links[at].owner, SPARED);
        }
    }
}

/* ---- what is kept alive ---- */

struct walk {
    struct stack stack;
    uint32_t wanted, unwanted; /* marks */
    uint32_t mark;
};

static int mark_owned(PyObject *object, void *arg)
{
    struct walk *walk = arg;
    const struct owners *graph = walk->stack.graph;
    uint32_t number = object ? owners_number(graph, object) : OWNERS_NONE;
    if (number == OWNERS_NONE || !PyObject_IS_GC(object) || PyType_Check(object))
        return 0;
    uint32_t marks = graph->nodes[number].marks;
    if ((marks & walk->wanted) == walk->wanted && !(marks & walk->unwanted))
        push(&walk->stack, number, walk->mark);
    return 0;
}

static void walk_down(struct walk *walk)
{
    while (walk->stack.top != OWNERS_NONE)
        owners_visit_owned(pop(&walk->stack)->object, mark_owned, walk);
}

static bool has_other_owner(const struct owners *graph, const struct node *node)
{
    for (uint32_t at = node->owners; at != OWNERS_NONE; at = graph->links[at].next)
        if (!(graph->nodes[graph->links[at].owner].marks & (SPARED | BELOW)))
            return true;
    return false;
}

static void spare_kept_alive(struct owners *graph)
{
    struct walk below = {{graph, OWNERS_NONE}, 0, KEPT | SPARED | BELOW, BELOW};
    struct walk outside = {{graph, OWNERS_NONE}, BELOW, OUTSIDE, OUTSIDE};
    for (uint32_t i = 0; i < graph->count; i++)
        if (graph->nodes[i].marks & SPARED)
            push(&below.stack, i, SPARED);
    walk_down(&below);
    for (uint32_t i = 0; i < graph->count; i++)
        if (graph->nodes[i].marks & BELOW && has_other_owner(graph, &graph->nodes[i]))
            push(&outside.stack, i, OUTSIDE);
    walk_down(&outside);
    for (uint32_t i = 0; i < graph->count; i++)
        if ((graph->nodes[i].marks & (BELOW | OUTSIDE)) == BELOW)
            graph->nodes[i].marks |= SPARED;
}

/* ---- modules ---- */

static void keep(struct owners *graph, PyObject *object)
{
    uint32_t number = owners_number(graph, object);
    if (number != OWNERS_NONE)
        graph->nodes[number].marks |= KEPT;
}

static void keep_modules(struct owners *graph)
{
    PyObject *name, *module;
    for (Py_ssize_t at = 0; PyDict_Next(PyImport_GetModuleDict(), &at, &name, &module);) {
        if (!PyModule_Check(module))
            continue;
        keep(graph, module);
        keep(graph, PyModule_GetDict(module));
    }
}

/* Spares a dictionary that nobody else owns: that of an instance's attributes. */
static int spare_dictionary(PyObject *object, void *arg)
{
    struct owners *graph = arg;
    uint32_t number =
        object && PyDict_CheckExact(object) ? owners_number(graph, object) : OWNERS_NONE;
    if (number != OWNERS_NONE && graph->links[graph->nodes[number].owners].next == OWNERS_NONE)
        graph->nodes[number].marks |= SPARED;
    return 0;
}

static void spare_named(struct owners *graph, PyObject *names)
{
    PyObject *name, *value;
    for (Py_ssize_t at = 0; PyDict_Next(names, &at, &name, &value);) {
        uint32_t number = may_be_filled(value) ? owners_number(graph, value) : OWNERS_NONE;
        if (number == OWNERS_NONE || graph->nodes[number].marks & (KEPT | SPARED))
            continue;
        graph->nodes[number].marks |= SPARED;
        if (!PyDict_CheckExact(value))
            owners_visit_owned(value, spare_dictionary, graph);
    }
}

/* ---- cycles ---- */

static int drop_owner(PyObject *object, void *arg)
{
    struct stack *stack = arg;
    uint32_t number = object ? owners_number(stack->graph, object) : OWNERS_NONE;
    if (number == OWNERS_NONE || !(stack->graph->nodes[number].marks & IN_CYCLE))
        return 0;
    if (--stack->graph->nodes[number].count == 0)
        push(stack, number, 0);
    return 0;
}

/* Takes away, again and again, what none of the others owns: what is left is in a cycle or owned by
 * one. */
static void find_cycles(struct owners *graph)
{
    struct stack stack = {graph, OWNERS_NONE};
    for (uint32_t i = 0; i < graph->count; i++)
        if (graph->nodes[i].marks & SPARED && PyObject_GC_IsTracked(graph->nodes[i].object))
            graph->nodes[i].marks |= IN_CYCLE;
    for (uint32_t i = 0; i < graph->count; i++) {
        if (!(graph->nodes[i].marks & IN_CYCLE))
            continue;
        for (uint32_t at = graph->nodes[i].owners; at != OWNERS_NONE; at = graph->links[at].next)
            graph->nodes[i].count += (graph->nodes[graph->links[at].owner].marks & IN_CYCLE) != 0;
        if (graph->nodes[i].count == 0)
            push(&stack, i, 0);
    }
    while (stack.top != OWNERS_NONE) {
        struct node *node = &graph->nodes[stack.top];
        stack.top = node->next;
        owners_visit_owned(node->object, drop_owner, &stack);
        node->marks &= ~(uint32_t)IN_CYCLE;
    }
}

size_t spared_find(struct owners *graph, PyObject *python_class)
{
    size_t count = 0;
    class_dealloc = ((PyTypeObject *)python_class)->tp_dealloc;
    interpreter = library_of((void *)(uintptr_t)PyObject_Free);
    keep_modules(graph);
    spare(graph, is_active, true);
    spare_kept_alive(graph);
    spare(graph, is_watched, false);
    find_cycles(graph);
    for (uint32_t i = 0; i < graph->count; i++)
        if (graph->nodes[i].marks & KEPT && PyDict_Check(graph->nodes[i].object))
            spare_named(graph, graph->nodes[i].object);
    for (uint32_t i = 0; i < graph->count; i++)
        count += graph->nodes[i].marks & SPARED;
    return count;
}
