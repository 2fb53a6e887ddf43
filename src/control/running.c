/* running.c: the requests that run now. Owns nothing. A text on the board may be a mix of two: a
 * thread may be writing it. */
#include "running.h"

#include <string.h>

bool running_is(const struct board_seat *seat)
{
    return atomic_load(&seat->phase) == BOARD_RUNNING;
}

static void read_doing(const struct board *board, const struct board_seat *seat,
                       struct running *running)
{
    uint32_t doing = atomic_load(&seat->doing), view = atomic_load(&seat->view);
    running->doing_since_ns = atomic_load(&seat->doing_since_ns);
    running->view = view ? ledger_name(board->ledger, view - 1) : NULL;
    running->doing = ledger_doing_names[doing < LEDGER_DOINGS ? doing : LEDGER_RUNS];
    uint32_t statement = atomic_load(&seat->statement);
    bool is_place = doing == LEDGER_QUERIES && statement > 0 && statement <= STATEMENTS_MAX;
    running->statement = is_place ? statement - 1 : STATEMENTS_NONE;
    if (atomic_load(&seat->wants_gil))
        running->doing = ledger_part_names[LEDGER_GIL];
}

bool running_read(const struct board *board, const struct board_seat *seat, struct running *running)
{
    running->started_ns = atomic_load(&seat->started_ns);
    if (!running_is(seat))
        return false;
    running->accepted_ns = atomic_load(&seat->accepted_ns);
    memcpy(running->method, seat->method, sizeof running->method - 1);
    memcpy(running->path, seat->path, sizeof running->path - 1);
    memcpy(running->client, seat->client, sizeof running->client - 1);
    running->method[sizeof running->method - 1] = '\0';
    running->path[sizeof running->path - 1] = '\0';
    running->client[sizeof running->client - 1] = '\0';
    read_doing(board, seat, running);
    return running_is(seat) && atomic_load(&seat->started_ns) == running->started_ns;
}
