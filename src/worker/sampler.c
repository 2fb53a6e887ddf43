/* sampler.c: when to look at the stacks, and what the threads did since the last look.
 *
 * Owns: the thread, and the records that may still grow. A record is a span of time, not a count,
 * so that nothing is lost when a look comes late because C code had the GIL. What a thread did in
 * the span is told from what is seen at the moment of the look: it had the GIL, it has or wants a
 * CPU, or it waits. Only for a long span its clock of the CPU tells.
 *
 * Takes no lock that another thread holds for long, but for the GIL; never waits for the GIL while
 * it holds one. */
#include "sampler.h"

#include "base/log.h"
#include "config/settings.h"
#include "python/errand.h"
#include "python/stacks.h"
#include "shared/board.h"
#include "shared/samples.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The budget: it samples half as often when it has used more than a hundredth of one CPU in a
 * second, and twice as often again when it uses less than a third of that. */
#define BUDGET_LOOK_NS NS_PER_S
#define BUDGET_PART    100
#define SLOWED_MOST    5
/* A thread that computed for less than this since it was seen only waits. */
#define ACTIVE_NS      20000
/* After so long the clock is believed more than the moment: the process may have been stopped. */
#define LONG_NS        (250 * NS_PER_MS)
#define NAME_BYTES     128 /* of a view */

/* What is kept of a thread for one of the rings. */
struct trail {
    uint64_t look;   /* number of the look of this kind at which the thread was seen last */
    uint64_t cpu_ns; /* its clock then */
    uint64_t number; /* of the record */
    uint64_t begin_ns, wall_ns, cpu_sum_ns, had_ns, wanted_ns;
    uint16_t node, view, seat;
};

struct track {
    pid_t tid;
    uint64_t before_ns; /* its clock right before the look; 0: not known */
    bool wants;         /* it waited for the GIL then */
    uint64_t seen_ns;
    struct trail trails[SAMPLES_KINDS];
};

/* One look at all threads. */
struct look {
    uint64_t begin_ns;
    bool due[SAMPLES_KINDS];
    uint64_t span_ns[SAMPLES_KINDS];
};

static struct {
    struct turns *turns;
    struct samples *samples;
    const struct observed *observed;
    struct samples_area *area; /* NULL: it does not run */
    struct stacks *stacks;
    unsigned steady_hz;
    pthread_t thread;
    _Atomic bool stopping;
    pthread_mutex_t writing; /* held while turns or area are used without the GIL */
    uint64_t looks[SAMPLES_KINDS], last_ns[SAMPLES_KINDS];
    uint32_t epoch; /* of the area; the records of another one are gone */
    struct track *tracks;
    unsigned count, room;
    uint64_t budget_ns, budget_cpu_ns;
} sampler;

/* ---- clocks ---- */

static uint64_t read_clock(clockid_t clock)
{
    struct timespec t;
    return clock_gettime(clock, &t) == 0 ? (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec : 0;
}

/* How long a thread of this process has computed; 0: it has ended. The kernel's number of that
 * clock (CPUCLOCK_SCHED of one thread), as pthread_getcpuclockid makes it, which must not be asked
 * about a thread that may end. */
static uint64_t thread_cpu_ns(pid_t tid)
{
    return read_clock((clockid_t)(~(unsigned)tid << 3 | 6));
}

/* ---- names ---- */

/* What the requests of a seat are called in profiles: method and path. */
static uint16_t view_of(const struct board_seat *seat)
{
    char name[NAME_BYTES];
    size_t method = strnlen(seat->method, sizeof seat->method), room = sizeof name - method - 1;
    size_t path = strnlen(seat->path, sizeof seat->path);
    path = path < room ? path : room;
    memcpy(name, seat->method, method);
    name[method] = ' ';
    memcpy(name + method + 1, seat->path, path);
    return stacks_view(sampler.stacks, name, method + 1 + path);
}

/* The thread has Python frames, so that it cannot leave its seat as long as the GIL is held here.
 */
static void name_threads(struct stacks_thread *threads, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct stacks_thread *thread = &threads[i];
        thread->seat = SAMPLES_NO_SEAT;
        thread->view = SAMPLES_NO_VIEW;
        thread->of = 0;
        for (unsigned j = 0; j < sampler.turns->count; j++) {
            const struct turn *turn = sampler.turns->items[j];
            if (turn->python.state != thread->state)
                continue;
            thread->seat = (uint16_t)j;
            thread->tid = atomic_load(&turn->seat->tid);
            thread->of = atomic_load_explicit(&turn->seat->view, memory_order_relaxed);
            if (atomic_load_explicit(&turn->seat->phase, memory_order_acquire) == BOARD_RUNNING)
                thread->view = view_of(turn->seat);
        }
    }
}

/* ---- records ---- */

static struct track *find_track(pid_t tid)
{
    for (unsigned i = 0; i < sampler.count; i++)
        if (sampler.tracks[i].tid == tid)
            return &sampler.tracks[i];
    return NULL;
}

static struct track *track_of(pid_t tid)
{
    struct track *track = find_track(tid);
    if (track)
        return track;
    if (sampler.count == sampler.room) {
        sampler.room = sampler.room ? 2 * sampler.room : 16;
        sampler.tracks = xrealloc(sampler.tracks, sampler.room * sizeof *sampler.tracks);
    }
    track = &sampler.tracks[sampler.count++];
    *track = (struct track){.tid = tid};
    return track;
}

/* Whether it wants a CPU or has one, as the kernel says. */
static bool is_runnable(pid_t tid)
{
    char path[64], text[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    text[len > 0 ? len : 0] = '\0';
    const char *name_end = strrchr(text, ')');
    return name_end && name_end[1] == ' ' && name_end[2] == 'R';
}

/* Whether a thread that has not the GIL, nor waits for it, computes: in C code. Its clock runs; or,
 * where there are not enough CPUs for it to run beside this thread, it wants one. The kernel is
 * asked, which costs microseconds, only about a thread that has computed lately. */
static bool runs_in_c(const struct track *track, const struct trail *trail, uint64_t cpu_ns)
{
    if (!cpu_ns || track->wants)
        return false;
    if (track->before_ns && cpu_ns > track->before_ns)
        return true;
    bool is_active = !trail->cpu_ns || cpu_ns - trail->cpu_ns > ACTIVE_NS;
    return is_active && is_runnable(track->tid);
}

/* How much of the span the thread computed. */
static uint64_t computed_ns(const struct look *look, const struct track *track,
                            const struct trail *trail, const struct stacks_thread *seen,
                            uint64_t cpu_ns, enum samples_kind kind)
{
    uint64_t span_ns = look->span_ns[kind];
    bool was_seen = trail->look + 1 == sampler.looks[kind] && trail->look > 0;
    uint64_t ran_ns = cpu_ns - trail->cpu_ns;
    if (was_seen && cpu_ns && span_ns > LONG_NS)
        return ran_ns < span_ns ? ran_ns : span_ns;
    return seen->had_gil || runs_in_c(track, trail, cpu_ns) ? span_ns : 0;
}

static uint8_t part_of(uint64_t ns, uint64_t wall_ns)
{
    uint64_t part = wall_ns ? (ns * UINT8_MAX + wall_ns / 2) / wall_ns : 0;
    return part < UINT8_MAX ? (uint8_t)part : UINT8_MAX;
}

static void write_record(struct trail *trail, enum samples_kind kind, bool again)
{
    uint64_t origin_ns = atomic_load(&sampler.area->begin_ns);
    struct samples_record record = {
        .begin_ms = (uint32_t)((trail->begin_ns - origin_ns) / NS_PER_MS),
        .wall_us = (uint32_t)(trail->wall_ns / 1000),
        .node = trail->node,
        .view = trail->view,
        .seat = trail->seat,
        .cpu = part_of(trail->cpu_sum_ns, trail->wall_ns),
        .had_gil = part_of(trail->had_ns, trail->wall_ns),
        .wanted_gil = part_of(trail->wanted_ns, trail->wall_ns),
    };
    if (again)
        samples_put_again(sampler.area, kind, trail->number, &record);
    else
        trail->number = samples_put(sampler.area, kind, &record);
}

static void note(const struct look *look, const struct track *track, struct trail *trail,
                 const struct stacks_thread *seen, uint64_t cpu_ns, enum samples_kind kind)
{
    uint64_t span_ns = look->span_ns[kind], begin_ns = look->begin_ns - span_ns;
    uint64_t computed = computed_ns(look, track, trail, seen, cpu_ns, kind);
    bool goes_on = trail->look + 1 == sampler.looks[kind] && trail->look > 0 &&
                   trail->node == seen->node && trail->view == seen->view &&
                   trail->seat == seen->seat &&
                   look->begin_ns - trail->begin_ns < SAMPLES_GROW_MS * NS_PER_MS;
    if (!goes_on)
        *trail = (struct trail){.begin_ns = begin_ns,
                                .number = trail->number,
                                .node = seen->node,
                                .view = seen->view,
                                .seat = seen->seat};
    trail->look = sampler.looks[kind];
    trail->cpu_ns = cpu_ns;
    trail->wall_ns += span_ns;
    trail->cpu_sum_ns += computed;
    trail->had_ns += seen->had_gil ? span_ns : 0;
    trail->wanted_ns += track->wants && !seen->had_gil ? span_ns : 0;
    write_record(trail, kind, goes_on);
}

/* A profile that somebody makes is of all views. */
static bool is_wanted(const struct look *look, enum samples_kind kind,
                      const struct stacks_thread *seen)
{
    return look->due[kind] && (kind != SAMPLES_STEADY ||
                               observed_is_for(sampler.observed, OBSERVED_SAMPLER, seen->of));
}

static void note_all(const struct look *look, const struct stacks_thread *threads, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct track *track = track_of(threads[i].tid);
        uint64_t cpu_ns = thread_cpu_ns(track->tid);
        track->seen_ns = look->begin_ns;
        for (unsigned kind = 0; kind < SAMPLES_KINDS; kind++)
            if (is_wanted(look, kind, &threads[i]))
                note(look, track, &track->trails[kind], &threads[i], cpu_ns, kind);
    }
}

/* ---- looking ---- */

/* What must be known of the threads right before the look changes it. */
static void prepare(void)
{
    pthread_mutex_lock(&sampler.writing);
    for (unsigned i = 0; i < sampler.count; i++) {
        sampler.tracks[i].before_ns = thread_cpu_ns(sampler.tracks[i].tid);
        sampler.tracks[i].wants = false;
    }
    bool goes_on = !atomic_load(&sampler.stopping);
    for (unsigned i = 0; goes_on && i < sampler.turns->count; i++) {
        const struct board_seat *seat = sampler.turns->items[i]->seat;
        struct track *track = find_track(atomic_load(&seat->tid));
        if (track)
            track->wants = atomic_load_explicit(&seat->wants_gil, memory_order_relaxed);
    }
    pthread_mutex_unlock(&sampler.writing);
}

/* Forgets threads that have not been in Python for long. */
static void forget_tracks(uint64_t now)
{
    for (unsigned i = sampler.count; i-- > 0;)
        if (now - sampler.tracks[i].seen_ns > 10 * NS_PER_S)
            sampler.tracks[i] = sampler.tracks[--sampler.count];
}

static void begin_look(struct look *look)
{
    for (unsigned kind = 0; kind < SAMPLES_KINDS; kind++) {
        if (!look->due[kind])
            continue;
        look->span_ns[kind] = look->begin_ns - sampler.last_ns[kind];
        sampler.last_ns[kind] = look->begin_ns;
        sampler.looks[kind]++;
    }
}

/* What name_threads has found, for after the GIL. */
struct found {
    struct stacks_thread *threads;
    unsigned count;
};

static void see(void *context, struct stacks_thread *threads, unsigned count)
{
    struct found *found = context;
    name_threads(threads, count);
    *found = (struct found){threads, count};
}

static void look_now(struct look *look)
{
    struct found found;
    prepare();
    if (!stacks_take(sampler.stacks, &sampler.stopping, see, &found))
        return;
    pthread_mutex_lock(&sampler.writing);
    if (!atomic_load(&sampler.stopping)) {
        uint32_t epoch = atomic_load(&sampler.area->epoch);
        if (epoch != sampler.epoch)
            sampler.count = 0;
        sampler.epoch = epoch;
        begin_look(look);
        note_all(look, found.threads, found.count);
        forget_tracks(look->begin_ns);
        atomic_fetch_add_explicit(&sampler.area->taken, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&sampler.writing);
}

/* ---- when ---- */

static unsigned fast_hz(uint64_t now)
{
    bool wanted = atomic_load(&sampler.samples->fast_until_ns) > now;
    unsigned hz = wanted ? atomic_load(&sampler.samples->fast_hz) : 0;
    return hz < SAMPLES_MOST_HZ ? hz : SAMPLES_MOST_HZ;
}

static void keep_budget(uint64_t now)
{
    if (now - sampler.budget_ns < BUDGET_LOOK_NS)
        return;
    uint64_t cpu_ns = read_clock(CLOCK_THREAD_CPUTIME_ID), used_ns = cpu_ns - sampler.budget_cpu_ns;
    uint64_t allowed_ns = (now - sampler.budget_ns) / BUDGET_PART;
    uint32_t slowed = atomic_load(&sampler.area->slowed);
    if (used_ns > allowed_ns && slowed < SLOWED_MOST)
        atomic_store(&sampler.area->slowed, slowed + 1);
    else if (used_ns < allowed_ns / 3 && slowed > 0)
        atomic_store(&sampler.area->slowed, slowed - 1);
    sampler.budget_ns = now;
    sampler.budget_cpu_ns = cpu_ns;
    atomic_store(&sampler.area->cpu_ns, cpu_ns);
}

/* When the next look of a kind is due; UINT64_MAX: never. */
static uint64_t due_ns(enum samples_kind kind, unsigned hz)
{
    uint32_t slowed = atomic_load(&sampler.area->slowed);
    return hz ? sampler.last_ns[kind] + ((NS_PER_S / hz) << slowed) : UINT64_MAX;
}

/* Waits for the next look. A kind that was not wanted before begins a period from now. */
static bool wait_for_look(struct look *look)
{
    uint64_t now = now_ns(), due[SAMPLES_KINDS], next = UINT64_MAX / 2;
    bool is_steady = observed_is_on(sampler.observed, OBSERVED_SAMPLER);
    unsigned hz[SAMPLES_KINDS] = {is_steady ? sampler.steady_hz : 0, fast_hz(now)};
    for (unsigned kind = 0; kind < SAMPLES_KINDS; kind++) {
        if (hz[kind] == 0)
            sampler.last_ns[kind] = 0;
        else if (sampler.last_ns[kind] == 0)
            sampler.last_ns[kind] = now;
        due[kind] = due_ns(kind, hz[kind]);
    }
    if (hz[SAMPLES_FAST]) /* whose looks serve both */
        next = due[SAMPLES_FAST];
    else if (hz[SAMPLES_STEADY])
        next = due[SAMPLES_STEADY];
    atomic_store(&sampler.area->hz, hz[SAMPLES_FAST] ? hz[SAMPLES_FAST] : hz[SAMPLES_STEADY]);
    (void)errand_wait(&sampler.area->wake, next);
    *look = (struct look){.begin_ns = now_ns()};
    for (unsigned kind = 0; kind < SAMPLES_KINDS; kind++)
        look->due[kind] = due[kind] <= look->begin_ns;
    return look->due[SAMPLES_STEADY] || look->due[SAMPLES_FAST];
}

static void *sampler_main(void *arg)
{
    struct look look;
    (void)arg;
    pthread_setname_np(pthread_self(), "sampler");
    sampler.stacks = stacks_new(sampler.area);
    sampler.budget_ns = now_ns();
    sampler.budget_cpu_ns = read_clock(CLOCK_THREAD_CPUTIME_ID);
    while (sampler.stacks && !atomic_load(&sampler.stopping))
        if (wait_for_look(&look) && !atomic_load(&sampler.stopping)) {
            look_now(&look);
            keep_budget(now_ns());
        }
    if (sampler.stacks)
        stacks_free(sampler.stacks);
    free(sampler.tracks);
    return NULL;
}

/* ---- life ---- */

static void note_log(const char *record, size_t len)
{
    samples_note_log(sampler.area, record, len);
}

void sampler_start(struct turns *turns, const struct config *config, const struct board *board,
                   unsigned slot)
{
    struct samples *samples = board->samples;
    sigset_t all, before;
    memset(&sampler, 0, sizeof(sampler)); /* left over from a mold that was a worker */
    if (!samples)
        return;
    sampler.turns = turns;
    sampler.samples = samples;
    sampler.observed = board->observed;
    sampler.area = samples_area(samples, slot);
    sampler.steady_hz = config->profile_rate;
    pthread_mutex_init(&sampler.writing, NULL);
    samples_begin(sampler.area, getpid());
    sampler.epoch = atomic_load(&sampler.area->epoch);
    if (sampler.steady_hz)
        log_copy(note_log);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* no handler of the application runs on it */
    int error = pthread_create(&sampler.thread, NULL, sampler_main, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!error)
        return;
    log_warning("no stacks are sampled: a thread cannot be started: %s", strerror(error));
    log_copy(NULL);
    sampler.area = NULL;
}

void sampler_stop(void)
{
    if (!sampler.area)
        return;
    log_copy(NULL);
    pthread_mutex_lock(&sampler.writing);
    atomic_store(&sampler.stopping, true);
    pthread_mutex_unlock(&sampler.writing);
    sem_post(&sampler.area->wake);
}

void sampler_join(void)
{
    if (!sampler.area)
        return;
    struct python_thread caller;
    python_thread_adopt(&caller);
    pthread_join(sampler.thread, NULL);
    python_acquire(&caller);
    sampler.area = NULL;
}

void sampler_note_request(const struct board_seat *seat, uint64_t wall_ns, uint64_t ended_ns)
{
    if (sampler.steady_hz && observed_is_on(sampler.observed, OBSERVED_SAMPLER))
        samples_note_request(sampler.area, seat->method, seat->path,
                             atomic_load_explicit(&seat->status, memory_order_relaxed), wall_ns,
                             ended_ns);
}
