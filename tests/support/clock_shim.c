/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into a daemon under test: clocks that jump. The file $CLOCK_SHIM holds two numbers, seconds to add to the wall
 * clock and to the monotonic one; it is read again each time, so a test changes the time by writing to it. The kernel's
 * own waits do not jump. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static const volatile long long *offsets; /* Mapped once: the sandbox lets no file be opened later. */

__attribute__((constructor)) static void map_offsets(void) {
    const char *path = getenv("CLOCK_SHIM");
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *at = mmap(NULL, 2 * sizeof(long long), PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (at != MAP_FAILED) offsets = at;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*original)(clockid_t, struct timespec *);
    if (original == NULL) original = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int rc = original(clock, now);
    if (rc != 0 || offsets == NULL) return rc;
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) now->tv_sec += (time_t)offsets[0];
    if (clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE) now->tv_sec += (time_t)offsets[1];
    return 0;
}

/* The kernel's monotonic clock has not jumped. */
int timerfd_settime(int fd, int flags, const struct itimerspec *at, struct itimerspec *old) {
    static int (*original)(int, int, const struct itimerspec *, struct itimerspec *);
    struct itimerspec shifted = *at;
    if (original == NULL)
        original = (int (*)(int, int, const struct itimerspec *, struct itimerspec *))dlsym(RTLD_NEXT, "timerfd_settime");
    if (offsets != NULL && (flags & TFD_TIMER_ABSTIME) != 0 && at->it_value.tv_sec > offsets[1])
        shifted.it_value.tv_sec -= (time_t)offsets[1];
    return original(fd, flags, &shifted, old);
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec time;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &time);
    now->tv_sec = time.tv_sec;
    now->tv_usec = time.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (now != NULL) *now = exact.tv_sec;
    return exact.tv_sec;
}
