/* policy.h: when another thread takes over the loop of a worker: what requests are seen to do.
 *
 * While the interpreter is busy, one more running thread only adds contention; while it is idle,
 * every waiting request should get a thread at once. */
#ifndef MYSERVER_POLICY_H
#define MYSERVER_POLICY_H

#include "base.h"

#include <stdbool.h>
#include <sys/types.h>

/* What one thread has measured of itself. Zeroed, then policy_begin on that thread. */
struct policy_meter {
    uint64_t run_ns; /* spent in requests, in all; the thread's to count */
    uint64_t requests;
    uint64_t measured_run_ns, measured_requests, measured_cpu_ns, measured_wanted_ns;
};

/* What a worker has learned. Under the pool's lock. */
struct policy {
    unsigned samples;       /* that weigh in the following three */
    unsigned wait_permille; /* share of their time that requests wait, smoothed */
    uint64_t cpu_ns;        /* what a request computes, smoothed */
    uint64_t run_ns;        /* how long a request runs, smoothed */
    /* The stretch without a leader that is being looked at. */
    uint64_t since_ns, base_ns, base_cpu_ns;
};

/* What a meter found since the last time. */
struct policy_sample {
    unsigned wait_permille;
    uint64_t cpu_ns, run_ns; /* a request's */
};

void policy_begin(struct policy_meter *meter);
/* After a request that ran for `run_ns`, on its thread, without the lock: true now and then, when
 * there is something to learn. */
MUST_CHECK bool policy_measure(struct policy_meter *meter, uint64_t run_ns,
                               struct policy_sample *sample);
void policy_learn(struct policy *policy, const struct policy_sample *sample);
/* Requests wait for more than half of their time: hand the loop on at once. */
bool policy_hands_on(const struct policy *policy);
/* The thread waits for something, and nobody for the interpreter: one more request would not hold
 * it up. What is so at this moment, not what is usual; costs some 5 us. */
bool policy_sees_waiting(pid_t tid);
/* No thread is free: the standby looks after the clients when nobody has led for so long. Soon,
 * where requests wait for long: its two hand-offs are nothing beside them. But not at once, because
 * a short one among them is done before. */
uint64_t policy_standby_ns(const struct policy *policy);
/* After how long the next request comes to its turn, while `running` are running. */
uint64_t policy_service_ns(const struct policy *policy, unsigned running);
/* A request that has run for `ran_ns` so far may still be an ordinary one. */
bool policy_is_young(const struct policy *policy, uint64_t ran_ns);
/* Asked every few milliseconds while nobody leads, since `unled_since_ns`; `running` requests run,
 * and a thread `is_free` or not: has it been long enough? */
bool policy_is_overdue(struct policy *policy, uint64_t now_ns, uint64_t unled_since_ns,
                       unsigned running, bool is_free);

#endif
