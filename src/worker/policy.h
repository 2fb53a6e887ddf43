/* policy.h: decides when another thread of a worker becomes the leader (pool.h), from what its
 * requests do: compute or wait.
 *
 * While the interpreter is busy, one more running thread only adds contention; while it is idle,
 * every request should get a thread at once. */
#ifndef MYSERVER_WORKER_POLICY_H
#define MYSERVER_WORKER_POLICY_H

#include "base/base.h"

#include <stdbool.h>
#include <sys/types.h>

/* What one thread has measured of itself. Zeroed, then policy_begin on that thread, which alone
 * uses it. */
struct policy_meter {
    uint64_t run_ns; /* spent in requests, sum */
    uint64_t requests;
    /* The values at the last measurement; _wanted_: see policy.c. */
    uint64_t measured_run_ns, measured_requests, measured_cpu_ns, measured_wanted_ns;
};

/* What a worker has learned of its requests. Under the pool's lock. */
struct policy {
    unsigned samples;       /* weight of what was learned before, against a new sample */
    unsigned wait_permille; /* share of their time that requests wait, smoothed */
    uint64_t cpu_ns;        /* what a request computes, smoothed */
    uint64_t run_ns;        /* how long a request runs, smoothed */
    /* The time without a leader that policy_judge judges: `since_ns` its begin; `base_ns` and
     * `base_cpu_ns` wall time and CPU time of the process when it was first looked at. */
    uint64_t since_ns, base_ns, base_cpu_ns;
};

/* What a meter found since the last measurement. */
struct policy_sample {
    unsigned wait_permille;
    uint64_t cpu_ns, run_ns; /* of one request, mean */
};

/* On the thread of the meter, before its first request. */
void policy_begin(struct policy_meter *meter);
/* After a request that ran for `run_ns`, on its thread, without the lock. True about every 5 ms of
 * running time: `*sample` is filled, for policy_learn. */
MUST_CHECK bool policy_measure(struct policy_meter *meter, uint64_t run_ns,
                               struct policy_sample *sample);
void policy_learn(struct policy *policy, const struct policy_sample *sample);
/* Requests wait for more than half of their time: another thread shall lead at once. */
bool policy_hands_on(const struct policy *policy);
/* At this moment the thread `tid` sleeps, and no thread waits for the interpreter: one more request
 * would not slow it down. Costs some 5 us. */
bool policy_sees_waiting(pid_t tid);
/* When no thread is free: after how long without a leader the standby leads. Soon where requests
 * wait for long: beside them the two hand-offs that it costs do not count. But not at once, since a
 * short request among them may end before. */
uint64_t policy_standby_ns(const struct policy *policy);
/* Estimate: from one request's start to the next one's, while `running` requests run. */
uint64_t policy_service_ns(const struct policy *policy, unsigned running);
/* A request that has run for `ran_ns` so far may still be one of usual length. */
bool policy_is_young(const struct policy *policy, uint64_t ran_ns);
enum policy_due {
    POLICY_NOT_DUE,
    POLICY_DUE,
    /* hardly any CPU time was used: the running requests wait, or they get no CPU */
    POLICY_DUE_IF_WAITING,
};

/* Whether somebody shall take over the loop, which nobody has led since `unled_since_ns`: a free
 * thread if one `is_free`, else the standby. `running` requests run. To be asked every few
 * milliseconds. */
enum policy_due policy_judge(struct policy *policy, uint64_t now_ns, uint64_t unled_since_ns,
                             unsigned running, bool is_free);

#endif
