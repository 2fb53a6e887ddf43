/* demand.c: how many workers the load asks for.
 *
 * A worker more costs some milliseconds and little memory, one too few makes clients wait: so the
 * number grows at once, by up to half, when all threads are busy, and goes down one by one when
 * those that remain would have been busy for less than a third of a long time. Who was let go and
 * is missed soon afterwards doubles that time: a load that comes and goes makes the number stay,
 * not follow.
 *
 * Owns no state, reads no clock, knows no process: sizing.c does. */
#include "demand.h"

#define SMOOTHING  0.2  /* of a sample: half a second */
#define FULL       0.85 /* more of the threads are busy: a worker is missing */
#define FULL_LOOKS 3    /* or a request has waited in so many samples */
#define LOW        0.3  /* less of the remaining threads would be busy: one is too many */
#define SOON       6    /* times the patience */

static void begin_window(struct demand *d, uint64_t now_ms)
{
    d->window_ms = now_ms;
    d->busy_sum = d->samples = 0;
}

void demand_pause(struct demand *d)
{
    d->fraction = 0;
    d->full = 0;
    begin_window(d, 0);
}

static int grow(struct demand *d, const struct demand_sample *s)
{
    unsigned more = s->serving > 1 ? s->serving / 2 : 1;
    if (d->shrunk_ms != 0 && s->now_ms - d->shrunk_ms < SOON * d->patience_ms) {
        d->patience_ms *= 2;
        if (d->patience_ms > DEMAND_PATIENCE_MAX_MS)
            d->patience_ms = DEMAND_PATIENCE_MAX_MS;
        d->shrunk_ms = 0; /* one mistake counts once */
    }
    d->grown_ms = s->now_ms;
    demand_pause(d);
    return (int)more;
}

/* The window is over. */
static int shrink(struct demand *d, const struct demand_sample *s)
{
    double remaining = (double)(s->serving - 1) * s->threads;
    bool is_low = (double)d->busy_sum < LOW * remaining * (double)d->samples;
    begin_window(d, s->now_ms);
    if (!is_low)
        return 0;
    if (d->grown_ms == 0 || s->now_ms - d->grown_ms > DEMAND_PATIENCE_MAX_MS)
        d->patience_ms = DEMAND_PATIENCE_MS;
    d->shrunk_ms = s->now_ms;
    return -1;
}

int demand_judge(struct demand *d, const struct demand_sample *s)
{
    unsigned capacity = s->serving * s->threads;
    if (d->patience_ms == 0)
        d->patience_ms = DEMAND_PATIENCE_MS;
    if (d->window_ms == 0)
        begin_window(d, s->now_ms);
    d->fraction += SMOOTHING * ((double)s->busy / capacity - d->fraction);
    d->full = s->busy >= capacity && s->waits ? d->full + 1 : 0;
    d->busy_sum += s->busy;
    d->samples++;
    if (d->full >= FULL_LOOKS || d->fraction >= FULL)
        return grow(d, s);
    return s->now_ms - d->window_ms >= d->patience_ms ? shrink(d, s) : 0;
}
