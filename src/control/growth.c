/* growth.c: asks a worker to trace its memory, and passes on what it has found. Owns nothing; never
 * waits for a worker. */
#include "growth.h"

#include "format.h"
#include "question.h"
#include "shared/board.h"

#include <inttypes.h>
#include <string.h>

#define SECONDS_MOST 3600

static const char *const state_names[] = {
    [GROWTH_NONE] = "failed", [GROWTH_ASKED] = "asked",   [GROWTH_TRACING] = "tracing",
    [GROWTH_READY] = "ready", [GROWTH_FAILED] = "failed",
};

bool growth_is_asked(const struct request *request)
{
    return question_is(request, request->path, "/memory");
}

static bool serves(const struct board *board, unsigned slot)
{
    return atomic_load(&board->worker[slot].state) == BOARD_WORKER_SERVING;
}

/* The slot of the worker that is asked for, from the number in the question; board->workers: it
 * does not serve. */
static unsigned choose(const struct board *board, uint64_t number)
{
    unsigned best = board->workers;
    if (number != QUESTION_MISSING)
        return number >= 1 && number <= board->workers && serves(board, (unsigned)number - 1)
                   ? (unsigned)number - 1
                   : board->workers;
    for (unsigned slot = 0; slot < board->workers; slot++)
        if (serves(board, slot) &&
            (best == board->workers || atomic_load(&board->worker[slot].requests) >
                                           atomic_load(&board->worker[best].requests)))
            best = slot;
    return best;
}

/* A name as Python has them; other alphabets are left out. */
static bool read_type(const struct request *request, char *type)
{
    struct text text = question_text(request, "type");
    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i], low = (char)(c | 0x20);
        if (!text_is_digit(c) && !(low >= 'a' && low <= 'z') && c != '_' && c != '.')
            return false;
    }
    if (text.len >= GROWTH_TYPE_MAX)
        return false;
    if (text.len)
        memcpy(type, text.data, text.len);
    type[text.len] = '\0';
    return true;
}

/* A trace that its worker can no longer end, because it is gone. */
static const char *why_lost(const struct board *board)
{
    const struct growth *growth = board->growth;
    enum growth_state state = GROWTH_STATE(atomic_load(&growth->word));
    const struct board_worker *worker = &board->worker[atomic_load(&growth->slot)];
    unsigned of = atomic_load(&worker->state);
    if (state != GROWTH_ASKED && state != GROWTH_TRACING)
        return NULL;
    if (atomic_load(&worker->pid) != atomic_load(&growth->pid) || of == BOARD_WORKER_EMPTY ||
        of == BOARD_WORKER_ENDING)
        return "it has ended meanwhile; the log says why";
    if (state == GROWTH_ASKED && of != BOARD_WORKER_SERVING)
        return "it was told to stop";
    return NULL;
}

static void append_result(const struct growth *growth, struct buf *body)
{
    uint32_t length = atomic_load(&growth->length);
    buf_append_str(body, ",\"result\":");
    buf_append(body, growth->text, length < sizeof growth->text ? length : sizeof growth->text);
}

static unsigned append_state(const struct board *board, struct buf *body)
{
    const struct growth *growth = board->growth;
    uint64_t word = atomic_load(&growth->word), began_ns = atomic_load(&growth->began_ns);
    const char *lost = why_lost(board);
    enum growth_state state = lost ? GROWTH_FAILED : GROWTH_STATE(word);
    buf_printf(body, "{\"trace\":%" PRIu64 ",\"worker\":%u,\"pid\":%d,", GROWTH_NUMBER(word),
               atomic_load(&growth->slot) + 1, atomic_load(&growth->pid));
    json_text(body, "state", state_names[state < ARRAY_LEN(state_names) ? state : GROWTH_FAILED]);
    buf_printf(body, ",\"seconds\":%.3f,\"passed\":%.3f",
               (double)atomic_load(&growth->lasts_ns) / NS_PER_S,
               began_ns ? (double)(now_ns() - began_ns) / NS_PER_S : 0.);
    if (state == GROWTH_READY)
        append_result(growth, body);
    char why[GROWTH_WHY_MAX];
    memcpy(why, growth->why, sizeof why - 1);
    why[sizeof why - 1] = '\0';
    if (state == GROWTH_FAILED) {
        buf_append(body, ",", 1);
        json_text(body, "why", lost ? lost : why);
    }
    buf_append_str(body, "}\n");
    return 200;
}

static unsigned begin(const struct board *board, const struct request *request, struct buf *body)
{
    char type[GROWTH_TYPE_MAX];
    uint64_t seconds = question_number(request, "seconds");
    unsigned slot = choose(board, question_number(request, "worker"));
    if (seconds < 1 || seconds > SECONDS_MOST || !read_type(request, type)) {
        buf_printf(body,
                   "seconds is a number from 1 to %d, and type the name of a type in Python.\n",
                   SECONDS_MOST);
        return 400;
    }
    if (slot == board->workers) {
        buf_append_str(body, "No such worker serves; /stats lists them.\n");
        return 404;
    }
    if (growth_is_busy(board->growth) && !why_lost(board)) {
        buf_printf(body, "The memory of worker %u is being traced; one trace at a time.\n",
                   atomic_load(&board->growth->slot) + 1);
        return 409;
    }
    growth_ask(board->growth, slot, atomic_load(&board->worker[slot].pid), seconds * NS_PER_S, type,
               question_number(request, "pages") == 1);
    return append_state(board, body);
}

unsigned growth_answer(const struct board *board, const struct request *request, bool is_post,
                       struct buf *body)
{
    struct growth *growth = board->growth;
    uint64_t number = question_number(request, "trace");
    if (is_post && number == QUESTION_MISSING)
        return begin(board, request, body);
    if (number == 0 || number != GROWTH_NUMBER(atomic_load(&growth->word))) {
        buf_append_str(body, "No trace of that number is kept: another one was begun.\n");
        return 404;
    }
    if (is_post)
        atomic_store(&growth->wanted_until_ns, now_ns() + GROWTH_WANTED_NS);
    return append_state(board, body);
}
