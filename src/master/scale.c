/* scale.c: how many workers there should be, as the operator says by signals and settings, and
 * within that, as the load asks.
 *
 * Never starts or ends a worker: master.c does that. */
#include "scale.h"

#include "base/log.h"

void scale_pause(struct scale *s)
{
    if (s->wanted == 0)
        return;
    log_info("pausing: no workers until HUP or TTIN");
    s->before_pause = s->wanted;
    s->wanted = 0;
}

bool scale_resume(struct scale *s)
{
    if (s->wanted > 0)
        return false;
    s->wanted = s->before_pause;
    log_info("resuming with %u worker%s", s->wanted, s->wanted == 1 ? "" : "s");
    return true;
}

static unsigned least(const struct scale *s)
{
    return s->least > 0 && s->least < s->limit ? s->least : s->limit;
}

bool scale_is_elastic(const struct scale *s)
{
    return least(s) < s->limit;
}

/* The operator's number is `workers` now: without workers-min it is the number of workers, else
 * their number keeps within. */
static void set_limit(struct scale *s, unsigned workers)
{
    unsigned *number = s->wanted > 0 ? &s->wanted : &s->before_pause;
    s->limit = workers;
    if (*number > workers)
        *number = workers;
    if (*number < least(s))
        *number = least(s);
    if (scale_is_elastic(s))
        log_info("now %u to %u workers", least(s), workers);
    else
        log_info("now %u worker%s", workers, workers == 1 ? "" : "s");
}

void scale_begin(struct scale *s, unsigned workers, unsigned workers_min, unsigned most)
{
    *s =
        (struct scale){.limit = workers, .configured = workers, .least = workers_min, .most = most};
    s->wanted = least(s);
}

void scale_configure(struct scale *s, unsigned workers, unsigned workers_min)
{
    /* 0 is no valid setting: a mold that crashed may have damaged the board. */
    if (workers == 0 || (workers == s->configured && workers_min == s->least))
        return;
    bool is_same = workers == s->configured; /* TTIN and TTOU still count */
    s->configured = workers;
    s->least = workers_min;
    if (workers > s->most) {
        log_warning("workers = %u: until a restart or an upgrade (USR2) there is room for %u",
                    workers, s->most);
        workers = s->most;
    }
    set_limit(s, is_same ? s->limit : workers);
}

void scale_change(struct scale *s, int by)
{
    if (s->wanted == 0) {
        log_warning("paused: there is no worker to do without; TTIN or HUP resumes with %u",
                    s->before_pause);
        return;
    }
    if ((by < 0 && s->limit == 1) || (by > 0 && s->limit == s->most)) {
        log_warning("still %u worker%s: the number can go from 1 to %u", s->limit,
                    s->limit == 1 ? "" : "s", s->most);
        return;
    }
    if (by > 0) /* also where the load alone would not ask for it now */
        s->wanted++;
    set_limit(s, (unsigned)((int)s->limit + by));
}

void scale_follow(struct scale *s, int by)
{
    unsigned before = s->wanted;
    int wanted = (int)s->wanted + by;
    s->wanted = wanted > (int)s->limit   ? s->limit
                : wanted < (int)least(s) ? least(s)
                                         : (unsigned)wanted;
    if (s->wanted > before)
        log_info("all workers are busy: %u instead of %u", s->wanted, before);
    else if (s->wanted < before)
        log_info("few requests come: %u worker%s instead of %u", s->wanted,
                 s->wanted == 1 ? "" : "s", before);
}
