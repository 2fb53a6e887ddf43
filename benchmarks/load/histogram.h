/* histogram.h: latencies in microseconds, counted in buckets whose width grows with the value:
 * every percentile is right to 1 part in 64. Owned by value; a zeroed struct is empty. */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_STEPS 64 /* buckets per doubling */
#define HISTOGRAM_SIZE  (HISTOGRAM_STEPS * 34)

struct histogram {
    uint64_t count, sum_us, max_us;
    uint32_t buckets[HISTOGRAM_SIZE];
};

void histogram_add(struct histogram *h, uint64_t value_us);
void histogram_merge(struct histogram *into, const struct histogram *from);
/* The value that `fraction` (0..1) of all are at most; 0 when empty. */
uint64_t histogram_at(const struct histogram *h, double fraction);

#endif
