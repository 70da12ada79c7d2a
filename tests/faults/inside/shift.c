/* Preloaded: this program's wall clock is SHIFT seconds off; the boot clock is not. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
    const char *shift = getenv("SHIFT");
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME && shift)
        now->tv_sec += atol(shift);
    return failed;
}
