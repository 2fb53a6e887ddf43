/* policy.c: decides when another thread of a worker becomes the leader.
 *
 * Owns: what was learned of the requests. Decides from CPU time, not from wall time alone: on a
 * machine with more work than cores a request that computes takes long without waiting, and taking
 * it for one that waits would add the contention that this file is to avoid. Never blocks. */
#include "policy.h"
#include "python/gil.h"
#include "system/usage.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Time in requests between two measurements of a thread; each costs about 5 us. */
#define MEASURE_EVERY_NS (5 * NS_PER_MS)
#define HAND_ON_PERMILLE 500
/* The highest weight of what was learned before, against a new sample. */
#define SAMPLES_KEPT     7
/* A free thread would compete for the interpreter. So it leads only when the running requests have
 * computed for twice their usual CPU time, bounded by these two: a usual page never gets there, and
 * a long computation soon does. */
#define COMPUTED_MIN_NS  (10 * NS_PER_MS)
#define COMPUTED_MAX_NS  (200 * NS_PER_MS)
/* The longest time without a leader: requests that compute for a tenth of their time would reach
 * the bounds above only after seconds, and all clients would wait meanwhile. */
#define UNLED_MAX_NS     (400 * NS_PER_MS)
/* When hardly any CPU time was used for so long, the running requests wait for something. */
#define IDLE_NS          (5 * NS_PER_MS)
/* Bounds for policy_standby_ns; when the standby leads, that costs two hand-offs. */
#define STANDBY_SOON_NS  (NS_PER_MS / 2)
#define STANDBY_MIN_NS   (2 * NS_PER_MS)
#define STANDBY_MAX_NS   (10 * NS_PER_MS)

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec ts;
    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* The CPU time of the calling thread since it began. `*wanted_ns`: the time in which it ran or
 * wanted to: on a CPU, ready without a CPU, or waiting for the GIL. */
static uint64_t read_thread(uint64_t *wanted_ns)
{
    uint64_t cpu_ns, delay_ns;
    usage_of_thread(&cpu_ns, &delay_ns);
    *wanted_ns = cpu_ns + delay_ns + gil_waited_ns();
    return cpu_ns;
}

void policy_begin(struct policy_meter *meter)
{
    gil_count_this_thread();
    meter->measured_cpu_ns = read_thread(&meter->measured_wanted_ns);
}

bool policy_measure(struct policy_meter *meter, uint64_t run_ns, struct policy_sample *sample)
{
    meter->run_ns += run_ns;
    meter->requests++;
    uint64_t ran_ns = meter->run_ns - meter->measured_run_ns;
    if (ran_ns < MEASURE_EVERY_NS)
        return false;
    uint64_t wanted_ns;
    uint64_t cpu_ns = read_thread(&wanted_ns);
    uint64_t used_ns = wanted_ns - meter->measured_wanted_ns;
    uint64_t requests = meter->requests - meter->measured_requests;
    sample->wait_permille = used_ns >= ran_ns ? 0 : (unsigned)((ran_ns - used_ns) * 1000 / ran_ns);
    sample->cpu_ns = (cpu_ns - meter->measured_cpu_ns) / requests;
    sample->run_ns = ran_ns / requests;
    meter->measured_run_ns = meter->run_ns;
    meter->measured_requests = meter->requests;
    meter->measured_cpu_ns = cpu_ns;
    meter->measured_wanted_ns = wanted_ns;
    return true;
}

/* The mean of the first samples, so that the first one counts in full; then a moving average. */
void policy_learn(struct policy *policy, const struct policy_sample *sample)
{
    unsigned kept = policy->samples;
    policy->wait_permille = (policy->wait_permille * kept + sample->wait_permille) / (kept + 1);
    policy->cpu_ns = (policy->cpu_ns * kept + sample->cpu_ns) / (kept + 1);
    policy->run_ns = (policy->run_ns * kept + sample->run_ns) / (kept + 1);
    if (kept < SAMPLES_KEPT)
        policy->samples++;
}

bool policy_hands_on(const struct policy *policy)
{
    return policy->wait_permille > HAND_ON_PERMILLE;
}

bool policy_sees_waiting(pid_t tid)
{
    char path[64], text[128];
    if (gil_is_wanted())
        return false;
    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t len = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[len > 0 ? len : 0] = '\0';
    const char *name_end = strrchr(text, ')'); /* proc(5): the state follows the name */
    return name_end && strncmp(name_end, ") S", 3) == 0;
}

uint64_t policy_service_ns(const struct policy *policy, unsigned running)
{
    bool beside = policy_hands_on(policy) && running > 1;
    return beside ? policy->run_ns / running : policy->run_ns;
}

static uint64_t clamp(uint64_t value, uint64_t min, uint64_t max)
{
    return value < min ? min : value > max ? max : value;
}

uint64_t policy_standby_ns(const struct policy *policy)
{
    if (policy_hands_on(policy) && policy->run_ns >= STANDBY_MIN_NS)
        return STANDBY_SOON_NS;
    return clamp(2 * policy->run_ns, STANDBY_MIN_NS, STANDBY_MAX_NS);
}

bool policy_is_young(const struct policy *policy, uint64_t ran_ns)
{
    return ran_ns < clamp(4 * policy->run_ns, COMPUTED_MIN_NS, COMPUTED_MAX_NS);
}

/* Whether a free thread may lead now, although it may then compete with the running requests. */
static enum policy_due may_compete(struct policy *policy, uint64_t now_ns, unsigned running)
{
    uint64_t cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    uint64_t patience_ns = clamp(2 * policy->cpu_ns, COMPUTED_MIN_NS, COMPUTED_MAX_NS);
    uint64_t computed_ns = cpu_ns - policy->base_cpu_ns;
    uint64_t elapsed_ns = now_ns - policy->base_ns;
    if (computed_ns >= patience_ns * (running ? running : 1) || elapsed_ns >= UNLED_MAX_NS)
        return POLICY_DUE;
    if (elapsed_ns < IDLE_NS)
        return POLICY_NOT_DUE;
    /* Idle: below 1/4 of a CPU where requests are known to wait, else below 1/16. */
    bool idle = computed_ns < elapsed_ns / (policy->wait_permille > 0 ? 4 : 16);
    return idle ? POLICY_DUE_IF_WAITING : POLICY_NOT_DUE;
}

enum policy_due policy_judge(struct policy *policy, uint64_t now_ns, uint64_t unled_since_ns,
                             unsigned running, bool is_free)
{
    uint64_t unled_ns = now_ns > unled_since_ns ? now_ns - unled_since_ns : 0;
    if (!is_free)
        return unled_ns >= policy_standby_ns(policy) ? POLICY_DUE : POLICY_NOT_DUE;
    if (policy->since_ns != unled_since_ns) {
        policy->since_ns = unled_since_ns;
        policy->base_ns = now_ns;
        policy->base_cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
        return POLICY_NOT_DUE;
    }
    return may_compete(policy, now_ns, running);
}
