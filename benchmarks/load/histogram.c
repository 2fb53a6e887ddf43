/* histogram.c: counts latencies in log-linear buckets.
 *
 * Owns the mapping between a value and its bucket: below 128 us one bucket a microsecond, above it
 * 64 buckets per doubling. Never allocates, never loses a value: what is too large for the last
 * bucket is counted in it, and the maximum is kept exactly. */
#include "histogram.h"

static unsigned bucket_of(uint64_t value)
{
    if (value < 2 * HISTOGRAM_STEPS)
        return (unsigned)value;
    unsigned shift = 57 - (unsigned)__builtin_clzll(value); /* leaves 7 significant bits */
    uint64_t index = (uint64_t)shift * HISTOGRAM_STEPS + (value >> shift);
    return index < HISTOGRAM_SIZE ? (unsigned)index : HISTOGRAM_SIZE - 1;
}

/* The largest value of a bucket. */
static uint64_t top_of(unsigned bucket)
{
    if (bucket < 2 * HISTOGRAM_STEPS)
        return bucket;
    unsigned shift = bucket / HISTOGRAM_STEPS - 1;
    uint64_t mantissa = bucket - (uint64_t)shift * HISTOGRAM_STEPS;
    return ((mantissa + 1) << shift) - 1;
}

void histogram_add(struct histogram *h, uint64_t value_us)
{
    h->count++;
    h->sum_us += value_us;
    if (value_us > h->max_us)
        h->max_us = value_us;
    h->buckets[bucket_of(value_us)]++;
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
    into->count += from->count;
    into->sum_us += from->sum_us;
    if (from->max_us > into->max_us)
        into->max_us = from->max_us;
    for (unsigned i = 0; i < HISTOGRAM_SIZE; i++)
        into->buckets[i] += from->buckets[i];
}

uint64_t histogram_at(const struct histogram *h, double fraction)
{
    uint64_t wanted = (uint64_t)(fraction * (double)h->count + 0.999999);
    uint64_t seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_SIZE && h->count; i++) {
        seen += h->buckets[i];
        if (seen >= wanted && seen)
            return top_of(i) < h->max_us ? top_of(i) : h->max_us;
    }
    return h->max_us;
}
