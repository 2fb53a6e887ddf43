/* samples.c: the memory of the samplers.
 *
 * Owns its layout; samples.h names the writer of each part of the content. Like the board it has no
 * locks: a process that died would never give one back. An entry of a table is written before the
 * count that makes it visible; a record of a ring is read, and thrown away again if it has been
 * overwritten meanwhile. Only pages that are used exist. */
#include "shared/samples.h"

#include "base/log.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define PAGE              4096
/* A minute at 19 Hz has 1140 samples of a thread that is always somewhere else, and few are. */
#define STEADY_LEAST      2048
#define STEADY_MOST       16384
#define STEADY_PER_THREAD 512
#define FAST_ROOM         16384

static size_t whole_pages(size_t bytes)
{
    return (bytes + PAGE - 1) / PAGE * PAGE;
}

static uint32_t steady_room(unsigned threads)
{
    uint32_t room = STEADY_LEAST;
    while (room < STEADY_MOST && room < threads * STEADY_PER_THREAD)
        room *= 2;
    return room;
}

static size_t head_bytes(unsigned slots)
{
    return whole_pages(sizeof(struct samples) + slots * sizeof(_Atomic uint32_t));
}

static size_t all_bytes(const struct samples *samples)
{
    return head_bytes(samples->slots) + (samples->slots + SAMPLES_KEPT) * samples->area_bytes;
}

struct samples_area *samples_area_at(struct samples *samples, unsigned index)
{
    char *areas = (char *)samples + head_bytes(samples->slots);
    return (struct samples_area *)(areas +
                                   (index % (samples->slots + SAMPLES_KEPT)) * samples->area_bytes);
}

struct samples *samples_new(unsigned slots, unsigned threads)
{
    uint32_t steady = steady_room(threads);
    struct samples shape = {.slots = slots};
    shape.area_bytes = whole_pages(sizeof(struct samples_area) +
                                   (steady + FAST_ROOM) * sizeof(struct samples_record));
    struct samples *samples = mmap(NULL, all_bytes(&shape), PROT_READ | PROT_WRITE,
                                   MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (samples == MAP_FAILED) {
        log_warning("no stacks are sampled: cannot map %zu bytes: %s", all_bytes(&shape),
                    strerror(errno));
        return NULL;
    }
    (void)madvise(samples, all_bytes(&shape), MADV_DONTDUMP);
    samples->slots = slots;
    samples->area_bytes = shape.area_bytes;
    for (unsigned i = 0; i < slots + SAMPLES_KEPT; i++) {
        struct samples_area *area = samples_area_at(samples, i);
        area->rings[SAMPLES_STEADY] = (struct samples_ring){.room = steady};
        area->rings[SAMPLES_FAST] = (struct samples_ring){.room = FAST_ROOM, .at = steady};
        sem_init(&area->wake, 1, 0);
    }
    for (unsigned i = 0; i < slots; i++)
        atomic_store(&samples->area_of[i], i);
    for (unsigned i = 0; i < SAMPLES_KEPT; i++)
        samples->death[i].area = slots + i;
    return samples;
}

void samples_free(struct samples *samples)
{
    if (samples)
        munmap(samples, all_bytes(samples));
}

static void copy_text(char *out, size_t room, const char *text, size_t len)
{
    len = len < room - 1 ? len : room - 1;
    memcpy(out, text, len);
    out[len] = '\0';
}

unsigned samples_keep(struct samples *samples, unsigned slot, const char *how, struct text running)
{
    uint32_t area = atomic_load(&samples->area_of[slot]);
    if (atomic_load(&samples_area_at(samples, area)->pid) == 0)
        return 0;
    uint32_t number = atomic_fetch_add(&samples->deaths, 1) + 1;
    struct samples_death *death = &samples->death[number % SAMPLES_KEPT];
    atomic_store(&death->number, 0);
    uint32_t spare = death->area;
    atomic_store(&samples_area_at(samples, spare)->pid, 0);
    death->area = area;
    death->worker = slot + 1;
    death->died_s = (uint64_t)time(NULL);
    death->died_ns = now_ns();
    copy_text(death->how, sizeof death->how, how, strlen(how));
    copy_text(death->running, sizeof death->running, running.len ? running.data : "", running.len);
    atomic_store(&samples->area_of[slot], spare);
    atomic_store(&death->number, number);
    return number;
}

/* ---- writing ---- */

void samples_begin(struct samples_area *area, pid_t pid)
{
    while (sem_trywait(&area->wake) == 0)
        continue;
    atomic_store(&area->log_head, 0);
    atomic_store(&area->past_head, 0);
    atomic_store(&area->taken, 0);
    atomic_store(&area->cpu_ns, 0);
    atomic_store(&area->begin_ns, now_ns());
    samples_empty(area);
    atomic_store(&area->pid, pid);
}

void samples_empty(struct samples_area *area)
{
    uint32_t odd = atomic_load(&area->epoch) | 1; /* it is odd when its writer died in here */
    atomic_store(&area->epoch, odd);
    atomic_store(&area->text_len, 1); /* the empty text, which all other offsets are not */
    area->text[0] = '\0';
    area->view[SAMPLES_NO_VIEW] = 0;
    atomic_store(&area->views, 1);
    atomic_store(&area->functions, 0);
    atomic_store(&area->frames, 0);
    area->node[0] = (struct samples_node){0};
    atomic_store(&area->nodes, 1);
    for (unsigned i = 0; i < SAMPLES_KINDS; i++)
        area->rings[i].first = atomic_load(&area->rings[i].head);
    atomic_store(&area->epoch, odd + 1);
}

/* The entry is whole: shows it. */
static int show(_Atomic uint32_t *count, uint32_t number)
{
    atomic_store_explicit(count, number + 1, memory_order_release);
    return (int)number;
}

int samples_add_text(struct samples_area *area, const char *text, size_t len)
{
    uint32_t at = atomic_load(&area->text_len);
    len = strnlen(text, len);
    if (len >= SAMPLES_TEXT_BYTES - at)
        return -1;
    memcpy(area->text + at, text, len);
    area->text[at + len] = '\0';
    atomic_store_explicit(&area->text_len, at + (uint32_t)len + 1, memory_order_release);
    return (int)at;
}

int samples_add_view(struct samples_area *area, uint32_t text)
{
    uint32_t number = atomic_load(&area->views);
    if (number >= SAMPLES_OTHER_VIEW)
        return -1;
    area->view[number] = text;
    return show(&area->views, number);
}

int samples_add_function(struct samples_area *area, struct samples_function function)
{
    uint32_t number = atomic_load(&area->functions);
    if (number >= SAMPLES_FUNCTIONS)
        return -1;
    area->function[number] = function;
    return show(&area->functions, number);
}

int samples_add_frame(struct samples_area *area, struct samples_frame frame)
{
    uint32_t number = atomic_load(&area->frames);
    if (number >= SAMPLES_FRAMES)
        return -1;
    area->frame[number] = frame;
    return show(&area->frames, number);
}

int samples_add_node(struct samples_area *area, struct samples_node node)
{
    uint32_t number = atomic_load(&area->nodes);
    if (number >= SAMPLES_NODES)
        return -1;
    area->node[number] = node;
    return show(&area->nodes, number);
}

static struct samples_record *record_at(const struct samples_area *area,
                                        const struct samples_ring *ring, uint64_t number)
{
    size_t index = ring->at + (number & (ring->room - 1));
    return (struct samples_record *)(uintptr_t)&area->records[index];
}

uint64_t samples_put(struct samples_area *area, enum samples_kind kind,
                     const struct samples_record *record)
{
    struct samples_ring *ring = &area->rings[kind];
    uint64_t number = atomic_load_explicit(&ring->head, memory_order_relaxed);
    *record_at(area, ring, number) = *record;
    atomic_store_explicit(&ring->head, number + 1, memory_order_release);
    return number;
}

void samples_put_again(struct samples_area *area, enum samples_kind kind, uint64_t number,
                       const struct samples_record *record)
{
    struct samples_ring *ring = &area->rings[kind];
    if (atomic_load_explicit(&ring->head, memory_order_relaxed) - number <= ring->room)
        *record_at(area, ring, number) = *record;
}

void samples_note_request(struct samples_area *area, const char *method, const char *path,
                          uint32_t status, uint64_t wall_ns, uint64_t ended_ns)
{
    uint32_t number = atomic_fetch_add_explicit(&area->past_head, 1, memory_order_relaxed);
    struct samples_past *past = &area->past[number % SAMPLES_PAST];
    past->wall_ns = wall_ns;
    past->status = status;
    memcpy(past->method, method, sizeof past->method);
    memcpy(past->path, path, sizeof past->path - 1);
    atomic_store_explicit(&past->ended_ns, ended_ns, memory_order_release);
}

void samples_note_log(struct samples_area *area, const char *record, size_t len)
{
    if (len > SAMPLES_LOG_BYTES) { /* its end */
        record += len - SAMPLES_LOG_BYTES;
        len = SAMPLES_LOG_BYTES;
    }
    uint64_t at = atomic_fetch_add(&area->log_head, len) % SAMPLES_LOG_BYTES;
    size_t first = SAMPLES_LOG_BYTES - at < len ? SAMPLES_LOG_BYTES - at : len;
    memcpy(area->log + at, record, first);
    memcpy(area->log, record + first, len - first);
}

/* ---- reading ---- */

size_t samples_read(const struct samples_area *area, enum samples_kind kind, uint64_t from,
                    bool all, struct samples_record *out, size_t room, uint64_t *next,
                    uint64_t *lost)
{
    const struct samples_ring *ring = &area->rings[kind];
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    uint64_t kept = head > ring->room ? head - ring->room : 0;
    uint64_t first = from > ring->first ? from : ring->first;
    uint64_t age_ms = (now_ns() - atomic_load(&area->begin_ns)) / NS_PER_MS;
    size_t count = 0;
    uint64_t wanted = first;
    first = first > kept ? first : kept;
    uint64_t number = first;
    for (; number < head && count < room; number++) {
        out[count] = *record_at(area, ring, number);
        if (!all && out[count].begin_ms + 2ull * SAMPLES_GROW_MS > age_ms)
            break;
        count++;
    }
    atomic_thread_fence(memory_order_acquire);
    head = atomic_load_explicit(&ring->head, memory_order_relaxed) + 1; /* one may be begun */
    uint64_t overwritten = head > ring->room + first ? head - ring->room - first : 0;
    overwritten = overwritten < count ? overwritten : count;
    memmove(out, out + overwritten, (count - overwritten) * sizeof *out);
    *next = number;
    *lost = first + overwritten - wanted;
    return count - overwritten;
}

void samples_ask(struct samples *samples, unsigned hz, uint64_t until_ns)
{
    atomic_store(&samples->fast_hz, hz);
    atomic_store(&samples->fast_until_ns, until_ns);
    samples_wake(samples);
}

void samples_wake(struct samples *samples)
{
    for (unsigned i = 0; i < samples->slots; i++)
        if (atomic_load(&samples_area(samples, i)->pid))
            sem_post(&samples_area(samples, i)->wake);
}
