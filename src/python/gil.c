/* gil.c: how long threads wait for the GIL.
 *
 * Owns the hook in the program's pthread_cond_timedwait (launcher/timedwait.h). A thread that wants
 * the GIL while another holds it sleeps in that function, and nothing else in libpython does (locks
 * and events wait on semaphores), so the wait is measured without changing Python. A thread that
 * gets the GIL at once never comes here, so that costs nothing. The waits of extensions and of
 * other libraries come here too: they are passed on, and only those that libpython's code asks for
 * count. */
#include "python/gil.h"

#include "system/launch.h"

#include <errno.h>
#include <link.h>
#include <pthread.h>

static _Thread_local uint64_t waited_ns;
static _Thread_local bool counted, hurries;
static _Thread_local _Atomic uint32_t *shown;
static _Atomic unsigned waiting;
static _Atomic uintptr_t code_start, code_end; /* of libpython */

void gil_count_this_thread(void)
{
    counted = true;
}

void gil_show_wait(_Atomic uint32_t *word)
{
    shown = word;
}

void gil_hurry(bool hurry)
{
    hurries = hurry;
}

bool gil_is_wanted(void)
{
    return waiting > 0;
}

uint64_t gil_waited_ns(void)
{
    return waited_ns;
}

/* Takes the code of the object in which `address` is; 1: this one. Tools that sort code by use
 * leave more than one segment of it. */
static int take_code(struct dl_phdr_info *object, size_t size, void *address)
{
    uintptr_t start = UINTPTR_MAX, end = 0, wanted = (uintptr_t)address;
    (void)size;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
        uintptr_t from = object->dlpi_addr + segment->p_vaddr, to = from + segment->p_memsz;
        if (segment->p_type != PT_LOAD || !(segment->p_flags & PF_X))
            continue;
        start = from < start ? from : start;
        end = to > end ? to : end;
    }
    if (wanted < start || wanted >= end)
        return 0;
    code_start = start;
    code_end = end;
    return 1;
}

static void show_wait(bool waits)
{
    if (shown)
        atomic_store_explicit(shown, waits, memory_order_relaxed);
}

static bool is_of_python(const void *caller)
{
    return (uintptr_t)caller - code_start < code_end - code_start;
}

/* launch.wait_hook */
static int measured_wait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until,
                         launch_timedwait *next, const void *caller)
{
    if (!is_of_python(caller))
        return next(cond, mutex, until);
    if (hurries) {
        hurries = false;
        return ETIMEDOUT;
    }
    uint64_t start_ns = now_ns();
    waiting += counted;
    show_wait(true);
    int result = next(cond, mutex, until);
    show_wait(false);
    waiting -= counted;
    waited_ns += now_ns() - start_ns;
    return result;
}

void gil_measure(void (*of_python)(void))
{
    dl_iterate_phdr(take_code, (void *)(uintptr_t)of_python);
    if (launch_get()->wait_hook)
        *launch_get()->wait_hook = measured_wait;
}
