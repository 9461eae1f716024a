/* The clocks of a program under test, which a test can set forward. It is loaded before the C
   library by LD_PRELOAD, so the program itself needs no hook. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The seconds that have been added. */
static const _Atomic uint64_t *seconds;

__attribute__((constructor)) static void open_file(void) {
    const char *path = getenv("SHIFTED_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *page = mmap(NULL, sizeof *seconds, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (page != MAP_FAILED)
        seconds = page;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = (int)syscall(SYS_clock_gettime, clock, time);
    int is_shifted = clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC || clock == CLOCK_BOOTTIME;
    if (result == 0 && is_shifted && seconds)
        time->tv_sec += (time_t)atomic_load_explicit(seconds, memory_order_relaxed);
    return result;
}
