/* Latencies in nanoseconds, counted in buckets that are at most 1.6 % wide: any number of them in 30 kB, and a
   percentile is read at the end. Nothing is sampled or thrown away. */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stdint.h>
#include <string.h>

enum { SUB_BITS = 6, SUB = 1 << SUB_BITS, BUCKETS = (64 - SUB_BITS) * SUB };

typedef struct {
    uint64_t counts[BUCKETS], count, most;
} Histogram;

static inline void histogram_clear(Histogram *h) { memset(h, 0, sizeof *h); }

static inline unsigned histogram_bucket(uint64_t ns) {
    if (ns < SUB) return (unsigned)ns;
    unsigned shift = 63 - (unsigned)__builtin_clzll(ns) - SUB_BITS;
    return (shift + 1) * SUB + (unsigned)((ns >> shift) - SUB);
}

static inline void histogram_add(Histogram *h, uint64_t ns) {
    h->counts[histogram_bucket(ns)]++;
    h->count++;
    if (ns > h->most) h->most = ns;
}

/* The value below which `share` of all lie: the upper end of its bucket, and never more than the largest seen. */
static inline uint64_t histogram_at(const Histogram *h, double share) {
    uint64_t wanted = (uint64_t)(share * (double)h->count + 0.5), seen = 0;
    for (unsigned b = 0; b < BUCKETS; b++) {
        seen += h->counts[b];
        if (!seen || seen < wanted) continue;
        unsigned shift = b < SUB ? 0 : b / SUB - 1;
        uint64_t end = b < SUB ? b : (((uint64_t)(b % SUB + SUB + 1)) << shift) - 1;
        return end < h->most ? end : h->most;
    }
    return 0;
}

#endif
