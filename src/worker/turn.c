/* turn.c: one request being run for the application. Owns the word that decides who answers it. */
#include "turn.h"

#include "conn.h"
#include "shared/board.h"

#include <sys/socket.h>

void turns_init(struct turns *turns, struct turn **items, unsigned count)
{
    turns->items = items;
    turns->count = count;
    pthread_mutex_init(&turns->answering, NULL);
    sem_init(&turns->wake, 0, 0);
}

void turns_fini(struct turns *turns)
{
    sem_destroy(&turns->wake);
    pthread_mutex_destroy(&turns->answering);
}

unsigned turns_given_up(const struct turns *turns, bool with_client)
{
    unsigned count = 0;
    for (unsigned i = 0; i < turns->count; i++) {
        const struct turn *turn = turns->items[i];
        uint64_t word = atomic_load(&turn->word);
        count += TURN_STATE(word) != TURN_NONE &&
                 TURN_NUMBER(word) == atomic_load(&turn->given_up) &&
                 (!with_client || atomic_load(&turn->fd) >= 0);
    }
    return count;
}

static void begin(struct turn *turn, int fd, uint64_t deadline_ns, enum turn_state state)
{
    turn->request++;
    atomic_store_explicit(&turn->fd, fd, memory_order_relaxed);
    atomic_store_explicit(&turn->taken, false, memory_order_relaxed);
    atomic_store_explicit(&turn->seat->deadline_ns, deadline_ns, memory_order_relaxed);
    atomic_store_explicit(&turn->word, TURN_WORD(turn->request, state), memory_order_release);
}

void turn_begin(struct turn *turn, struct conn *conn, uint64_t deadline_ns)
{
    turn->conn = conn;
    begin(turn, conn->fd, deadline_ns, TURN_OPEN);
}

void turn_begin_close(struct turn *turn, uint64_t deadline_ns)
{
    turn->conn = NULL;
    begin(turn, -1, deadline_ns, TURN_SENDING);
}

bool turn_claim(struct turn *turn)
{
    uint64_t open = TURN_WORD(turn->request, TURN_OPEN);
    return atomic_compare_exchange_strong(&turn->word, &open,
                                          TURN_WORD(turn->request, TURN_SENDING)) ||
           TURN_STATE(open) == TURN_SENDING;
}

bool turn_is_answered(const struct turn *turn)
{
    return TURN_STATE(atomic_load_explicit(&turn->word, memory_order_relaxed)) == TURN_ANSWERED;
}

bool turn_end(struct turn *turn)
{
    uint64_t before = atomic_exchange(&turn->word, TURN_WORD(turn->request, TURN_NONE));
    atomic_store_explicit(&turn->seat->deadline_ns, 0, memory_order_relaxed);
    bool is_answered = TURN_STATE(before) == TURN_ANSWERED;
    if (LIKELY(!is_answered && !atomic_load_explicit(&turn->taken, memory_order_relaxed)))
        return true;
    /* waits until the watch, or who ends taken sockets, has done with the connection */
    pthread_mutex_lock(&turn->all->answering);
    pthread_mutex_unlock(&turn->all->answering);
    return !is_answered;
}

void turn_set_limit(struct turn *turn, uint64_t limit_ns)
{
    atomic_store(&turn->seat->deadline_ns, limit_ns ? now_ns() + limit_ns : 0);
    sem_post(&turn->all->wake);
}

void turn_take(struct turn *turn)
{
    atomic_store(&turn->taken, true);
    turn_set_limit(turn, 0);
}

bool turn_shut_taken(struct turn *turn, uint64_t number)
{
    pthread_mutex_lock(&turn->all->answering); /* turn_end waits for it */
    bool has =
        atomic_load(&turn->word) == TURN_WORD(number, TURN_SENDING) && atomic_load(&turn->taken);
    if (has)
        (void)shutdown(atomic_load(&turn->fd), SHUT_RDWR);
    pthread_mutex_unlock(&turn->all->answering);
    return has;
}

unsigned turns_shut_taken(const struct turns *turns)
{
    unsigned count = 0;
    for (unsigned i = 0; i < turns->count; i++)
        count += turn_shut_taken(turns->items[i], TURN_NUMBER(atomic_load(&turns->items[i]->word)));
    return count;
}

uint64_t turn_pause(struct turn *turn)
{
    uint64_t deadline_ns = atomic_exchange(&turn->seat->deadline_ns, 0), now = now_ns();
    if (deadline_ns == 0)
        return 0;
    return deadline_ns > now ? deadline_ns - now : 1;
}

void turn_resume(struct turn *turn, uint64_t paused)
{
    if (paused)
        atomic_store(&turn->seat->deadline_ns, now_ns() + paused);
}

bool turn_lock_to_answer(struct turn *turn, uint64_t number, bool *is_running)
{
    uint64_t word = TURN_WORD(number, TURN_OPEN);
    pthread_mutex_lock(&turn->all->answering);
    bool is_ours =
        atomic_compare_exchange_strong(&turn->word, &word, TURN_WORD(number, TURN_ANSWERED));
    *is_running = is_ours || (TURN_NUMBER(word) == number && TURN_STATE(word) != TURN_NONE);
    if (!is_ours)
        pthread_mutex_unlock(&turn->all->answering);
    return is_ours;
}

void turn_unlock(struct turn *turn)
{
    pthread_mutex_unlock(&turn->all->answering);
}
