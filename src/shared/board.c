/* board.c: makes the shared mapping and the bell.
 *
 * Owns the layout of the mapping; board.h names the writer of each part of its content. One
 * anonymous shared mapping holds everything, so it needs no name on disk and is freed with the last
 * process. The pointers in it are valid in every process, because all are forks of the master that
 * made it.
 *
 * Never locks, never waits. board_new, board_free and board_begin_mold run in the master, the rest
 * in any process. */
#include "shared/board.h"

#include "base/text.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* More workers than that share shards of the ledger, which is then 7 MB. */
#define SHARDS_MAX 16
#define LINE_BYTES 128 /* two cache lines: the prefetcher of x86 fetches them in pairs */

const char *const board_end_names[BOARD_END_COUNT] = {
    [BOARD_END_CRASH] = "crash",       [BOARD_END_RELOAD] = "reload",
    [BOARD_END_REQUESTS] = "requests", [BOARD_END_LIFETIME] = "lifetime",
    [BOARD_END_MEMORY] = "memory",     [BOARD_END_STUCK] = "stuck",
    [BOARD_END_REFORK] = "refork",     [BOARD_END_STOP] = "stop",
};

const uint64_t board_latency_bounds_ns[BOARD_LATENCY_BOUNDS] = {
    1 * NS_PER_MS,    2500000,         5 * NS_PER_MS,   10 * NS_PER_MS,  25 * NS_PER_MS,
    50 * NS_PER_MS,   100 * NS_PER_MS, 250 * NS_PER_MS, 500 * NS_PER_MS, NS_PER_S,
    2500 * NS_PER_MS, 5 * NS_PER_S,    10 * NS_PER_S,   30 * NS_PER_S,   60 * NS_PER_S,
};

static size_t whole_lines(size_t bytes)
{
    return (bytes + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
}

/* Without the ledger, the statements and what else follows. */
static size_t board_bytes(unsigned workers, unsigned seats)
{
    return whole_lines(sizeof(struct board)) + workers * sizeof(struct board_worker) +
           (size_t)workers * seats * sizeof(struct board_seat);
}

static size_t all_bytes(unsigned workers, unsigned seats, unsigned shards)
{
    return board_bytes(workers, seats) + ledger_bytes(shards) +
           whole_lines(sizeof(struct statements)) + whole_lines(sizeof(struct observed)) +
           sizeof(struct growth);
}

struct board *board_new(unsigned workers, unsigned seats, unsigned usual)
{
    unsigned shards = usual < SHARDS_MAX ? usual : SHARDS_MAX;
    size_t before = board_bytes(workers, seats), bytes = all_bytes(workers, seats, shards);
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        die(EXIT_CRASH, "cannot map %zu bytes of shared memory: %s", bytes, strerror(errno));
    struct board *board = (struct board *)memory;
    board->workers = workers;
    board->seats = seats;
    board->started_ns = now_ns();
    board->started_s = (uint64_t)time(NULL);
    board->worker = (struct board_worker *)(memory + whole_lines(sizeof *board));
    board->seat = (struct board_seat *)(board->worker + workers);
    board->ledger = ledger_init(memory + before, shards);
    board->statements = (struct statements *)(memory + before + ledger_bytes(shards));
    memory = (char *)board->statements + whole_lines(sizeof(struct statements));
    board->observed = (struct observed *)memory;
    board->growth = (struct growth *)(memory + whole_lines(sizeof(struct observed)));
    board->bell_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (board->bell_fd < 0)
        die(EXIT_CRASH, "cannot make an eventfd: %s", strerror(errno));
    return board;
}

void board_free(struct board *board)
{
    close(board->bell_fd);
    munmap(board, all_bytes(board->workers, board->seats, board->ledger->shards));
}

bool board_set_parked(struct board *board, unsigned slot, bool parked)
{
    struct board_worker *worker = &board->worker[slot];
    if (atomic_load(&worker->parked) == parked ||
        atomic_exchange(&worker->parked, parked) == parked)
        return false;
    atomic_fetch_add(&board->parked, parked ? 1 : -1);
    return true;
}

void board_begin_mold(struct board *board, uint32_t generation)
{
    struct board_mold *mold = board_mold(board, generation);
    atomic_store(&mold->workers, atomic_load(&board_mold(board, generation - 1)->workers));
    atomic_store(&mold->workers_min, atomic_load(&board_mold(board, generation - 1)->workers_min));
    for (size_t i = 0; i < BOARD_SAID_MAX; i++)
        atomic_store(&mold->said[i], 0);
    memset(&mold->hints, 0, sizeof mold->hints);
    atomic_store(&mold->state, BOARD_MOLD_LOADING);
}

bool board_say_first(struct board_mold *mold, const char *text)
{
    uint64_t mark = text_hash(TEXT_HASH, text, strlen(text)) | 1; /* 0: a place that is free */
    for (size_t i = 0; i < BOARD_SAID_MAX; i++) {
        uint64_t found = 0;
        if (atomic_compare_exchange_strong(&mold->said[i], &found, mark))
            return true;
        if (found == mark)
            return false;
    }
    return true;
}

bool board_is_served(const struct board *board)
{
    bool served = false;
    for (unsigned i = 0; i < board->workers; i++)
        served = served || atomic_load(&board->worker[i].state) == BOARD_WORKER_SERVING;
    return served;
}

/* There is only one writer, so a load and a store are enough: no locked instruction. */
static void add(_Atomic uint64_t *counter, uint64_t by)
{
    uint64_t before = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, before + by, memory_order_relaxed);
}

void board_count_latency(struct board_seat *thread, uint64_t latency_ns)
{
    unsigned bucket = 0;
    while (bucket < BOARD_LATENCY_BOUNDS && latency_ns > board_latency_bounds_ns[bucket])
        bucket++;
    add(&thread->latency[bucket], 1);
    add(&thread->latency_ns, latency_ns);
}

void board_ring(struct board *board)
{
    int before = errno;
    /* EAGAIN means that the counter is full with 2^64 unread rings: the master is woken anyway. */
    ssize_t written = write(board->bell_fd, &(uint64_t){1}, sizeof(uint64_t));
    (void)written;
    errno = before;
}
