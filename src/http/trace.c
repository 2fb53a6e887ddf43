/* trace.c: W3C Trace Context, version 00 of traceparent; of later versions what 00 has.
 *
 * Owns the generator of ids: of each thread its own, since it is on the path of every request. Ids
 * need to be different, not secret. */
#include "http/trace.h"

#include <endian.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/random.h>

static _Atomic uint32_t process = 1; /* changes with each process that makes traces */
static _Thread_local uint32_t seeded_for;
static _Thread_local uint64_t state[2];

static const char digits[] = "0123456789abcdef";

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Reads lower-case digits; false: they are none, or all of them are 0 where that is not allowed. */
static bool read_hex(const char *text, uint8_t *out, size_t bytes, bool may_be_zero)
{
    unsigned all = 0;
    for (size_t i = 0; i < bytes; i++) {
        int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        out[i] = (uint8_t)(high << 4 | low);
        all |= out[i];
    }
    return all || may_be_zero;
}

bool trace_parse(struct trace *trace, struct text value)
{
    struct trace read;
    uint8_t version;
    const char *t = value.data;
    if (value.len < TRACE_TEXT || t[2] != '-' || t[35] != '-' || t[52] != '-' ||
        !read_hex(t, &version, 1, true) || version == 0xff)
        return false;
    if (value.len > TRACE_TEXT && (version == 0 || t[TRACE_TEXT] != '-'))
        return false;
    if (!read_hex(t + 3, read.id, TRACE_ID_BYTES, false) ||
        !read_hex(t + 36, read.span, TRACE_SPAN_BYTES, false) ||
        !read_hex(t + 53, &read.flags, 1, true))
        return false;
    *trace = read;
    return true;
}

/* xorshift128+ (Vigna) */
static uint64_t next_number(void)
{
    uint64_t a = state[0], b = state[1];
    state[0] = b;
    a ^= a << 23;
    state[1] = a ^ b ^ (a >> 18) ^ (b >> 5);
    return (state[1] + b) | 1; /* an id of zeros means none */
}

void trace_start(void)
{
    atomic_fetch_add(&process, 1);
}

void trace_make(struct trace *trace)
{
    uint64_t numbers[3];
    uint32_t now = atomic_load_explicit(&process, memory_order_relaxed);
    if (UNLIKELY(seeded_for != now)) {
        if (getrandom(state, sizeof state, 0) != (ssize_t)sizeof state)
            state[0] = now_ns();
        state[1] |= 1;
        seeded_for = now;
    }
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        numbers[i] = next_number();
    memcpy(trace->id, numbers, sizeof trace->id);
    memcpy(trace->span, &numbers[2], sizeof trace->span);
    trace->flags = 0;
}

#define EACH_BYTE(value) (0x0101010101010101u * (value))

/* Four bytes at once, each half of a byte in a byte of its own: this is on the path of every
 * request. `count` is a multiple of 4. */
static void write_hex(const uint8_t *bytes, size_t count, char *out)
{
    for (size_t i = 0; i < count; i += 4) {
        uint32_t four;
        memcpy(&four, bytes + i, sizeof four);
        uint64_t x = le32toh(four);
        x = (x | x << 16) & 0x0000ffff0000ffffu;
        x = (x | x << 8) & 0x00ff00ff00ff00ffu;
        uint64_t halves = (x >> 4 | x << 8) & EACH_BYTE(15);
        uint64_t letters = (halves + EACH_BYTE(6)) >> 4 & EACH_BYTE(1);
        uint64_t text = htole64(halves + EACH_BYTE('0') + letters * ('a' - '0' - 10));
        memcpy(out + 2 * i, &text, sizeof text);
    }
}

void trace_write_id(const uint8_t id[TRACE_ID_BYTES], char out[TRACE_ID_TEXT + 1])
{
    write_hex(id, TRACE_ID_BYTES, out);
    out[TRACE_ID_TEXT] = '\0';
}

void trace_write(const struct trace *trace, char out[TRACE_TEXT + 1])
{
    memcpy(out, "00-", 3);
    write_hex(trace->id, TRACE_ID_BYTES, out + 3);
    out[35] = '-';
    write_hex(trace->span, TRACE_SPAN_BYTES, out + 36);
    out[52] = '-';
    out[53] = digits[trace->flags >> 4];
    out[54] = digits[trace->flags & 15];
    out[TRACE_TEXT] = '\0';
}
