/* queries.c: the statements to databases, as text.
 *
 * Owns nothing. A statement is known by an id, which is its hash and so the same for ever; its
 * place on the board may be another's meanwhile. */
#include "queries.h"

#include "config/settings.h"
#include "format.h"
#include "shared/statements.h"

#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const char *const dialect_names[] = {[SQL_STANDARD] = "",
                                            [SQL_POSTGRESQL] = "postgresql",
                                            [SQL_SQLITE] = "sqlite",
                                            [SQL_MYSQL] = "mysql"};

static double seconds(uint64_t ns)
{
    return (double)ns / NS_PER_S;
}

static void append_id(struct buf *out, uint64_t hash)
{
    buf_printf(out, "\"id\":\"%016" PRIx64 "\"", hash);
}

static void append_view(const struct stats_facts *facts, uint32_t view, struct buf *out)
{
    const char *name = view ? ledger_name(facts->board->ledger, view - 1) : NULL;
    buf_append(out, ",", 1);
    json_text(out, "view", name ? name : LEDGER_NO_VIEW);
}

static void append_text(const struct statements *all, uint32_t place, struct buf *out)
{
    char text[STATEMENTS_TEXT_MAX + 1];
    buf_append(out, ",", 1);
    json_text(out, "text", statements_text(all, place, text) ? text : "");
}

static void append_statement(const struct stats_facts *facts, uint32_t place, uint64_t hash,
                             struct buf *out)
{
    const struct statement *s = &facts->board->statements->items[place];
    char alias[STATEMENTS_ALIAS_MAX];
    memcpy(alias, s->alias, sizeof alias - 1);
    alias[sizeof alias - 1] = '\0';
    buf_append(out, "{", 1);
    append_id(out, hash);
    append_text(facts->board->statements, place, out);
    buf_printf(out, ",\"cut\":%s,", s->cut ? "true" : "false");
    json_text(out, "database", alias);
    buf_append(out, ",", 1);
    json_text(out, "vendor",
              s->dialect < ARRAY_LEN(dialect_names) ? dialect_names[s->dialect] : "");
    buf_printf(out,
               ",\"count\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"duplicates\":%" PRIu64
               ",\"time\":%.9f,\"slowest\":%.9f",
               atomic_load(&s->count), atomic_load(&s->failed), atomic_load(&s->duplicates),
               seconds(atomic_load(&s->time_ns)), seconds(atomic_load(&s->most_ns)));
    append_view(facts, atomic_load(&s->slowest_view), out);
    buf_append(out, "}", 1);
}

static void append_repeat(const struct stats_facts *facts, const struct statement_repeat *repeat,
                          struct buf *out)
{
    char origin[STATEMENTS_ORIGIN_MAX] = "";
    uint32_t place = statements_place(facts->board->statements, repeat->hash);
    if (atomic_load_explicit(&repeat->whole, memory_order_acquire))
        memcpy(origin, repeat->origin, sizeof origin - 1);
    buf_append(out, "{", 1);
    append_id(out, repeat->hash);
    if (place != STATEMENTS_NONE)
        append_text(facts->board->statements, place, out);
    append_view(facts, repeat->view, out);
    buf_append(out, ",", 1);
    json_text(out, "origin", origin);
    buf_printf(out, ",\"requests\":%" PRIu64 ",\"queries\":%" PRIu64 ",\"most\":%u,\"time\":%.9f}",
               atomic_load(&repeat->requests), atomic_load(&repeat->queries),
               atomic_load(&repeat->most), seconds(atomic_load(&repeat->time_ns)));
}

void queries_json(const struct stats_facts *facts, struct buf *out)
{
    const struct statements *all = facts->board->statements;
    bool first = true;
    buf_printf(out, "{\"forgotten\":%" PRIu64 ",\"statements\":[", atomic_load(&all->forgotten));
    for (uint32_t i = 0; i < STATEMENTS_MAX; i++) {
        uint64_t hash = atomic_load(&all->items[i].hash);
        if (hash == 0 || atomic_load(&all->items[i].count) == 0)
            continue;
        json_item(out, &first);
        append_statement(facts, i, hash, out);
    }
    buf_append_str(out, "],\"repeated\":[");
    first = true;
    for (uint32_t i = 0; i < STATEMENTS_REPEATS; i++)
        if (atomic_load(&all->repeats[i].requests) > 0) {
            json_item(out, &first);
            append_repeat(facts, &all->repeats[i], out);
        }
    buf_append_str(out, "]}\n");
}

/* What the server was started with, where only this user and root can read it: as in
 * /proc/PID/environ, whose place the title has taken. -1: it cannot be had. */
static int keep_environment(void)
{
    int fd = memfd_create("environment", MFD_CLOEXEC);
    for (char **pair = environ; fd >= 0 && *pair; pair++)
        if (write(fd, *pair, strlen(*pair) + 1) < 0)
            break;
    return fd;
}

void queries_application(const struct stats_facts *facts, struct buf *out)
{
    const struct config *config = facts->config;
    static int environment = -1;
    bool first = true;
    if (environment < 0)
        environment = keep_environment();
    buf_printf(out, "{\"environment\":\"/proc/%d/fd/%d\",", (int)getpid(), environment);
    json_text(out, "app", config->app);
    buf_append(out, ",", 1);
    json_text(out, "directory", facts->directory);
    buf_append(out, ",", 1);
    json_text(out, "virtualenv", config->virtualenv);
    buf_append(out, ",", 1);
    json_text(out, "ini", config->ini_path);
    buf_append_str(out, ",\"pythonpath\":[");
    for (size_t i = 0; i < config->pythonpath.count; i++) {
        json_item(out, &first);
        json_quoted(out, config->pythonpath.items[i]);
    }
    buf_append_str(out, "]}\n");
}
