/* Preloaded: this program's wall clock is as many seconds off as SHIFT says; the boot clock is not. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME) {
        char shift[32] = "";
        int file = open("/run/lab/shift", O_RDONLY | O_CLOEXEC);
        if (read(file, shift, sizeof shift - 1) > 0)
            now->tv_sec += atol(shift);
        close(file);
    }
    return failed;
}
