/* lag.c: answers whose clients lag behind the application.
 *
 * Owns: where the pieces go that a client does not take, and the wait for it. Two things need both
 * sides. While the application makes its next piece, the loop sends what is left of the pieces
 * before. And where no thread is free, the loop picks the answers that must end; the thread then
 * ends its own. */
#include "lag.h"
#include "leads.h"

#include "base/log.h"
#include "config/settings.h"
#include "conn.h"
#include "shared/board.h"

#include <poll.h>

/* So much of an answer is kept in memory. */
#define MEMORY_BYTES     (256 * 1024)
/* A client that always takes more within this time costs no file. */
#define PAUSE_MS         10
/* A thread that waits for its client looks so often whether it may go on waiting. */
#define STEP_MS          100

/* The word `quiet`: since when the client is too slow, and whether it had taken bytes at a good
 * rate before, while it lagged behind. */
#define TOOK_BEFORE      1u
#define WORD(since, bit) ((since) << 1 | (bit))
#define SINCE(word)      ((word) >> 1)
#define TOLD_TO_END      UINT64_MAX

/* What is taken within this time after a client began to lag behind may be taken by the kernel of
 * its machine. */
#define KERNEL_TAKES_MS  1000
/* So long must requests have waited, and a client have taken nothing, before its answer ends. */
#define QUIET_MS         5000
/* The same where not one request has ended meanwhile, for a client that has taken nothing at all
 * since it began to lag behind. */
#define STARVED_MS       1500
/* After so long the next ones, which come from the queue of those that waited, are ended sooner. */
#define STARVED_LONG_MS  2500
#define QUIET_LEAST_MS   300

/* ---- the thread's side ---- */

void lag_init(struct lag *lag, const struct board_seat *seat)
{
    lag->seat = seat;
    pthread_mutex_init(&lag->lock, NULL);
}

void lag_fini(struct lag *lag)
{
    pthread_mutex_destroy(&lag->lock);
}

void lag_lend(struct lag *lag, struct output *output, int fd)
{
    pthread_mutex_lock(&lag->lock);
    lag->output = output;
    lag->fd = fd;
    lag->gone = false;
    pthread_mutex_unlock(&lag->lock);
}

enum output_result lag_take_back(struct lag *lag)
{
    pthread_mutex_lock(&lag->lock);
    lag->output = NULL;
    bool gone = lag->gone;
    pthread_mutex_unlock(&lag->lock);
    return gone ? OUTPUT_GONE : OUTPUT_BLOCKED;
}

bool lag_keeps_in_memory(struct output *o, const struct iovec *pieces, unsigned count)
{
    if (o->file_fd >= 0 || output_pending(o) + pieces_bytes(pieces, count) > MEMORY_BYTES)
        return false;
    output_copy(o, pieces, count);
    return true;
}

static bool keeps(struct conn *c, const struct iovec *pieces, unsigned count)
{
    struct output *o = &c->exchange->output;
    return lag_keeps_in_memory(o, pieces, count) ||
           ((output_is_spilled(o) || conn_may_spill(c->table)) && output_spill(o, pieces, count));
}

/* Says for how long the client has been too slow. False: the thread was told to end its answer. */
static bool say_lagging(struct lag *lag, const struct output_pace *pace, uint64_t quiet_ms)
{
    bool took = pace->since_ms >= pace->begun_ms + KERNEL_TAKES_MS;
    uint64_t word = WORD(now_ms() - quiet_ms, took ? TOOK_BEFORE : 0);
    return atomic_exchange(&lag->quiet, word) != TOLD_TO_END;
}

static void end_for_others(const struct lag *lag, struct exchange *e, uint64_t quiet_ms)
{
    e->end = "made room for waiting requests";
    log_client(
        LOG_WARNING,
        "ended the answer to %s %s: its client %s took nothing for %.1f s, and requests wait "
        "for the thread",
        lag->seat->method, lag->seat->path, lag->seat->client, (double)quiet_ms / 1000);
}

static bool has_timed_out(const struct conn *c, uint64_t quiet_ms)
{
    uint64_t limit_ms = c->table->serving->config->send_timeout_ms;
    return limit_ms > 0 && quiet_ms >= limit_ms;
}

/* False: the client must be waited for no longer, and the answer is aborted. */
static bool may_go_on(struct lag *lag, struct conn *c, struct output_pace *pace)
{
    struct exchange *e = c->exchange;
    uint64_t quiet_ms = output_pace_note(pace, &e->output, c->fd);
    /* The word may be older than what the client has taken since. */
    if (!say_lagging(lag, pace, quiet_ms) && quiet_ms >= QUIET_LEAST_MS)
        end_for_others(lag, e, quiet_ms);
    else if (has_timed_out(c, quiet_ms))
        e->end = "send timeout";
    else
        return true;
    e->aborted = true;
    return false;
}

static bool wait_for_client(const struct conn *c, int ms)
{
    struct pollfd pollfd = {.fd = c->fd, .events = POLLOUT};
    return poll(&pollfd, 1, ms) > 0;
}

/* Sends as long as the client takes what it is given without a pause. */
static enum output_result send_fast(struct conn *c, struct iovec **pieces, unsigned *count)
{
    enum output_result result = OUTPUT_BLOCKED;
    while (result == OUTPUT_BLOCKED && wait_for_client(c, PAUSE_MS))
        result = output_try(&c->exchange->output, c->fd, pieces, count);
    return result;
}

enum output_result lag_wait(struct lag *lag, struct conn *c, struct output_pace *pace,
                            struct iovec **pieces, unsigned *count)
{
    enum output_result result = OUTPUT_BLOCKED;
    while (result == OUTPUT_BLOCKED && may_go_on(lag, c, pace)) {
        (void)wait_for_client(c, STEP_MS);
        result = output_try(&c->exchange->output, c->fd, pieces, count);
        if (result == OUTPUT_BLOCKED && keeps(c, *pieces, *count))
            break;
    }
    return result;
}

bool lag_keep(struct lag *lag, struct conn *c, struct output_pace *pace, struct iovec **pieces,
              unsigned *count, enum output_result *result)
{
    *result = c->exchange->output.file_fd < 0 ? send_fast(c, pieces, count) : OUTPUT_BLOCKED;
    if (*result != OUTPUT_BLOCKED)
        return true;
    return !may_go_on(lag, c, pace) || keeps(c, *pieces, *count);
}

void lag_end(struct lag *lag, struct output_pace *pace)
{
    atomic_store_explicit(&lag->quiet, 0, memory_order_relaxed);
    pace->since_ms = 0;
}

/* ---- the loop's side ---- */

/* A thread that has the lock uses its output itself. */
static void send_lent(struct lag *lag)
{
    if (pthread_mutex_trylock(&lag->lock) != 0)
        return;
    if (lag->output && !lag->gone) {
        enum output_result result = output_flush(lag->output, lag->fd);
        lag->gone = result == OUTPUT_GONE;
        if (result == OUTPUT_DONE)
            atomic_store_explicit(&lag->quiet, 0, memory_order_relaxed);
    }
    pthread_mutex_unlock(&lag->lock);
}

void lag_send(const struct lags *lags)
{
    assert_leads();
    for (unsigned i = 0; i < lags->count; i++)
        send_lent(lags->items[i]);
}

bool lag_holds_thread(const struct lags *lags)
{
    for (unsigned i = 0; i < lags->count; i++)
        if (atomic_load_explicit(&lags->items[i]->quiet, memory_order_relaxed) != 0)
            return true;
    return false;
}

/* Requests that have ended by themselves; less for a moment, until a thread ends as it was told. */
static int64_t count_ended(const struct lag_relief *relief, const struct lags *lags)
{
    int64_t ended = 0;
    for (unsigned i = 0; i < lags->count; i++)
        ended +=
            (int64_t)atomic_load_explicit(&lags->items[i]->seat->requests, memory_order_relaxed);
    return ended - relief->told;
}

static bool must_end(const struct lag_relief *relief, uint64_t word, uint64_t now)
{
    uint64_t quiet_ms = now - SINCE(word), starved_ms = now - relief->starved_since_ms;
    if (now - relief->waits_since_ms >= QUIET_MS && quiet_ms >= QUIET_MS)
        return true;
    if (word & TOOK_BEFORE || starved_ms < STARVED_MS)
        return false;
    return quiet_ms >= (starved_ms < STARVED_LONG_MS ? STARVED_MS : QUIET_LEAST_MS);
}

/* Tells the thread to end whose client has been quiet for longest; false: none must end. */
static bool end_slowest(struct lag_relief *relief, const struct lags *lags, uint64_t now)
{
    struct lag *slowest = NULL;
    uint64_t its_word = TOLD_TO_END;
    for (unsigned i = 0; i < lags->count; i++) {
        struct lag *lag = lags->items[i];
        uint64_t word = atomic_load(&lag->quiet);
        if (word != 0 && word < its_word && must_end(relief, word, now)) {
            slowest = lag;
            its_word = word;
        }
    }
    if (!slowest)
        return false;
    if (atomic_compare_exchange_strong(&slowest->quiet, &its_word, TOLD_TO_END))
        relief->told++;
    return true;
}

void lag_relieve(struct lag_relief *relief, const struct lags *lags, unsigned waiting, bool held)
{
    uint64_t now = now_ms();
    if (waiting == 0) {
        relief->waits_since_ms = 0;
        return;
    }
    int64_t ended = count_ended(relief, lags);
    if (relief->waits_since_ms == 0 || ended > relief->ended) {
        relief->starved_since_ms = now;
        relief->ended = ended;
    }
    if (relief->waits_since_ms == 0 || !held)
        relief->waits_since_ms = now;
    while (held && waiting > 0 && end_slowest(relief, lags, now))
        waiting--;
}
