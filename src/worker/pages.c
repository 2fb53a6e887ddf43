/* pages.c: what the first request of a view in a worker costs.
 *
 * Owns: which views this worker has run, and which paths. The first request of a view waits here
 * for the second one, because what both cost is no matter of being first. The kernel counts the
 * pages that it gives to a thread or copies for it (minor faults). It is asked only about paths
 * that are new here or were there once: which view it will be is not known before, and a request
 * that is like the ones before it shall cost no system call. */
#include "pages.h"

#include "python/allocs.h"
#include "shared/hints.h"
#include "shared/ledger.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define REQUESTS_MOST 2000         /* that are looked at */
#define PATHS         1024         /* a power of two */
#define TIMES         2            /* that a path is looked at */
#define LEAST_BYTES   (256 * 1024) /* that are worth a place on the board */

struct first {
    _Atomic bool is_known; /* there was one */
    _Atomic bool is_whole; /* the rest is written */
    _Atomic bool is_over;  /* the second one was seen */
    uint32_t pages;
    uint32_t us;
    bool has_login;
    char path[HINTS_PATH_MAX];
};

static struct {
    struct hints *hints; /* NULL: nothing is looked for */
    _Atomic uint32_t left;
    _Atomic uint8_t times[PATHS]; /* by the hash of the path */
    struct first *firsts;         /* [LEDGER_VIEWS]; owned; most of it is never touched */
} pages;

void pages_begin(struct hints *hints)
{
    free(pages.firsts); /* left over from a mold that was a worker */
    pages.firsts = hints ? xcalloc(LEDGER_VIEWS, sizeof *pages.firsts) : NULL;
    pages.hints = hints;
    memset(pages.times, 0, sizeof pages.times);
    atomic_store(&pages.left, hints ? REQUESTS_MOST : 0);
}

uint64_t pages_given(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_THREAD, &usage) == 0 ? (uint64_t)usage.ru_minflt : 0;
}

/* Two threads may count one request between them: it need not be exact. While memory is traced, the
 * trace itself takes some with each request. */
bool pages_are_wanted(struct text path)
{
    uint32_t left = atomic_load_explicit(&pages.left, memory_order_relaxed);
    if (left == 0 || atomic_load_explicit(&allocs_noted, memory_order_relaxed))
        return false;
    _Atomic uint8_t *times = &pages.times[text_hash(TEXT_HASH, path.data, path.len) % PATHS];
    uint8_t before = atomic_load_explicit(times, memory_order_relaxed);
    if (LIKELY(before >= TIMES))
        return false;
    atomic_store_explicit(times, before + 1, memory_order_relaxed);
    atomic_store_explicit(&pages.left, left - 1, memory_order_relaxed);
    return true;
}

/* Nobody would make other requests before each fork: a POST must not be repeated, an error loads
 * little. */
static bool is_worth_prewarming(const struct exchange *e, unsigned status)
{
    struct text method = request_piece(&e->request, e->request.method);
    return status / 100 == 2 && method.len == 3 && memcmp(method.data, "GET", 3) == 0;
}

static void note_first(struct first *first, const struct exchange *e, uint32_t us)
{
    struct text path = request_piece(&e->request, e->request.path);
    size_t len = path.len < HINTS_PATH_MAX - 1 ? path.len : HINTS_PATH_MAX - 1;
    memcpy(first->path, path.data, len);
    first->path[len] = '\0';
    first->us = us;
    first->has_login = request_has_login(&e->request);
    first->pages = e->pages;
    atomic_store_explicit(&first->is_whole, true, memory_order_release);
}

/* The place of a view on the board; NULL: there is none. */
static struct hints_page *place_of(unsigned view, const struct first *first)
{
    for (unsigned i = 0; i < HINTS_PAGES; i++) {
        struct hints_page *page = &pages.hints->pages[i];
        uint32_t there = atomic_load(&page->view);
        if (there == 0 && atomic_compare_exchange_strong(&page->view, &there, view + 1)) {
            memcpy(page->path, first->path, sizeof page->path);
            page->has_login = first->has_login;
            atomic_store(&page->is_whole, true);
            return page;
        }
        if (there == view + 1)
            return page;
    }
    return NULL;
}

static void note_second(unsigned view, struct first *first, const struct exchange *e, uint32_t us)
{
    if (!atomic_load_explicit(&first->is_whole, memory_order_acquire) ||
        atomic_exchange(&first->is_over, true))
        return;
    uint64_t more = first->pages > e->pages ? first->pages - e->pages : 0;
    uint64_t bytes = more * (uint64_t)sysconf(_SC_PAGESIZE);
    struct hints_page *page = bytes >= LEAST_BYTES ? place_of(view, first) : NULL;
    if (!page)
        return;
    atomic_fetch_add(&page->bytes, bytes);
    atomic_fetch_add(&page->us, first->us > us ? first->us - us : 0);
    atomic_fetch_add(&page->workers, 1);
}

void pages_note(const struct exchange *e, unsigned view, unsigned status)
{
    if (!e->pages_before || view >= LEDGER_VIEWS || !is_worth_prewarming(e, status))
        return;
    struct first *first = &pages.firsts[view];
    uint32_t us = (uint32_t)((e->done_ns - e->started_ns) / 1000);
    if (atomic_exchange(&first->is_known, true))
        note_second(view, first, e, us);
    else
        note_first(first, e, us);
}
