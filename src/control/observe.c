/* observe.c: switches parts of the observation. Owns the words of observed.h that say what is off:
 * only this process writes them. */
#include "observe.h"

#include "format.h"
#include "question.h"
#include "shared/board.h"
#include "shared/samples.h"

#include <string.h>

bool observe_is_asked(const struct request *request)
{
    return question_is(request, request->path, "/observe");
}

void observe_append_off(const struct board *board, struct buf *out)
{
    bool first = true;
    buf_append_str(out, ",\"off\":[");
    for (unsigned i = 0; i < OBSERVED_PARTS; i++)
        if (!observed_is_on(board->observed, i)) {
            json_item(out, &first);
            json_quoted(out, observed_names[i]);
        }
    buf_append(out, "]", 1);
}

static unsigned append_state(const struct board *board, struct buf *body)
{
    const struct observed *observed = board->observed;
    bool first = true;
    buf_printf(body, "{\"observe\":%s,\"profile_rate\":%u,\"names_views\":%s,\"parts\":{",
               atomic_load(&observed->is_set) ? "true" : "false", atomic_load(&observed->steady_hz),
               atomic_load(&observed->names_views) ? "true" : "false");
    for (unsigned i = 0; i < OBSERVED_PARTS; i++) {
        uint32_t only = atomic_load(&observed->only[i]);
        json_item(body, &first);
        json_quoted(body, observed_names[i]);
        buf_printf(body, ":{\"on\":%s", observed_is_on(observed, i) ? "true" : "false");
        if (only) {
            buf_append(body, ",", 1);
            json_text(body, "view", ledger_name(board->ledger, only - 1));
        }
        buf_append(body, "}", 1);
    }
    buf_append_str(body, "}}\n");
    return 200;
}

/* What a question wants of one part. */
enum wanted { NOTHING, ON, OFF, WRONG };

static enum wanted wanted_of(const struct request *request, const char *name)
{
    struct text text = question_text(request, name);
    if (!text.data)
        return NOTHING;
    return text_is(text, "on") ? ON : text_is(text, "off") ? OFF : WRONG;
}

/* The view that is named, + 1; 0: none is. False: none has that name. */
static bool read_view(const struct board *board, const struct request *request, uint32_t *view)
{
    char name[LEDGER_NAME_MAX];
    struct text text = question_text(request, "view");
    *view = 0;
    if (!text.data)
        return true;
    if (text.len > 3 * sizeof name)
        return false;
    char decoded[3 * sizeof name];
    struct text wanted = {decoded, request_decode(text.data, text.len, decoded)};
    for (uint32_t i = 0; i < LEDGER_VIEWS && !*view; i++) {
        const char *known = ledger_name(board->ledger, i);
        if (known && text_is(wanted, known))
            *view = i + 1;
    }
    return *view > 0;
}

static void set(struct observed *observed, enum observed_part part, bool on, uint32_t only)
{
    atomic_store(&observed->only[part], on ? only : 0);
    if (on)
        atomic_fetch_and(&observed->off, ~(1u << part));
    else
        atomic_fetch_or(&observed->off, 1u << part);
}

static bool may_be_limited(enum observed_part part)
{
    return part == OBSERVED_QUERIES || part == OBSERVED_SAMPLER;
}

/* What is wanted of each part. NULL, or why that cannot be. */
static const char *read_wanted(const struct board *board, const struct request *request,
                               enum wanted *wanted, uint32_t *view)
{
    enum wanted all = wanted_of(request, "all");
    bool is_view_known = read_view(board, request, view), any = all != NOTHING;
    for (unsigned i = 0; i < OBSERVED_PARTS; i++) {
        wanted[i] = wanted_of(request, observed_names[i]);
        any = any || wanted[i] != NOTHING;
        if (wanted[i] == WRONG || all == WRONG)
            return "A part is on or off: queries=off.\n";
        if (*view && (wanted[i] == OFF || (wanted[i] == ON && !may_be_limited(i))))
            return "Only queries and sampler can be on for one view alone.\n";
        wanted[i] = wanted[i] == NOTHING ? all : wanted[i];
    }
    if (!is_view_known)
        return "No request of a view of that name has ended yet; /views lists them.\n";
    if (*view && all != NOTHING)
        return "Only queries and sampler can be on for one view alone.\n";
    if (*view && !atomic_load(&board->observed->names_views))
        return "Which view a request is of is known at its end: the application's framework "
               "does not name it before.\n";
    return any ? NULL
               : "The parts are all, views, queries, gil, collector and sampler: queries=off.\n";
}

unsigned observe_answer(const struct board *board, const struct request *request, bool is_post,
                        struct buf *body)
{
    enum wanted wanted[OBSERVED_PARTS];
    uint32_t view;
    struct observed *observed = board->observed;
    if (!is_post)
        return append_state(board, body);
    const char *wrong = read_wanted(board, request, wanted, &view);
    if (wrong) {
        buf_append_str(body, wrong);
        return 400;
    }
    for (unsigned i = 0; i < OBSERVED_PARTS; i++)
        if (wanted[i] != NOTHING)
            set(observed, i, wanted[i] == ON, view);
    if (board->samples)
        samples_wake(board->samples);
    return append_state(board, body);
}
