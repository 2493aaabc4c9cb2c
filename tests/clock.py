"""A wall clock that tests set, for processes of their own: C code sees it as Python does, and the machine's clock stays as it is.

A small library is compiled and put before the C library. It moves what the clock says, and lets waits that end at a time of the wall clock, as librdkafka's do, last until the
moved clock says so, as the kernel does when the real one is set.
"""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static volatile long long none, *seconds = &none;
static int (*wait_until)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
static int (*wait_until_c11)(cnd_t *, mtx_t *, const struct timespec *);

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("MOVED_CLOCK"), *versions[] = {"GLIBC_2.3.2", "GLIBC_2.17"};
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file >= 0) {
        void *page = mmap(NULL, 8, PROT_READ, MAP_SHARED, file, 0);
        if (page != MAP_FAILED) seconds = page;
        close(file);
    }
    for (int one = 0; one < 2 && !wait_until; one++) wait_until = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", versions[one]);
    if (!wait_until) wait_until = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    wait_until_c11 = dlsym(RTLD_NEXT, "cnd_timedwait");
}

int clock_gettime(clockid_t id, struct timespec *out) {
    int failed = (int)syscall(SYS_clock_gettime, id, out);
    if (!failed && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) out->tv_sec += *seconds;
    return failed;
}

int gettimeofday(struct timeval *out, void *zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}

/* Whether the moved clock has reached a time; if not, the next moment to look, by the machine's clock. */
static int is_past(const struct timespec *end, struct timespec *look) {
    clock_gettime(CLOCK_REALTIME, look);
    if (look->tv_sec > end->tv_sec || (look->tv_sec == end->tv_sec && look->tv_nsec >= end->tv_nsec)) return 1;
    syscall(SYS_clock_gettime, CLOCK_REALTIME, look);
    look->tv_nsec += 10000000;
    if (look->tv_nsec >= 1000000000) { look->tv_sec++; look->tv_nsec -= 1000000000; }
    return 0;
}

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *end) {
    struct timespec look;
    if (end->tv_sec < 1000000000) return wait_until(cond, mutex, end); /* Seconds since the machine began: of the clock that nobody sets. */
    while (!is_past(end, &look)) {
        int result = wait_until(cond, mutex, &look);
        if (result != ETIMEDOUT) return result;
    }
    return ETIMEDOUT;
}

int cnd_timedwait(cnd_t *cond, mtx_t *mutex, const struct timespec *end) {
    struct timespec look;
    while (!is_past(end, &look)) {
        int result = wait_until_c11(cond, mutex, &look);
        if (result != thrd_timedout) return result;
    }
    return thrd_timedout;
}
"""


class Clock:
    """The clock of processes that are started with `environ`. `set` moves it while they run."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            pytest.skip("no C compiler is here to make a clock that can be set")
        source, library, page = folder / "clock.c", folder / "clock.so", folder / "clock.seconds"
        source.write_text(_SOURCE)
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl", "-lpthread"], check=True, timeout=60)
        page.write_bytes(bytes(8))
        with page.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), 8)
        self.ahead_s = 0
        self._library = library
        self.environ = {"LD_PRELOAD": str(library), "MOVED_CLOCK": str(page)}

    def is_that_of(self, pid: int) -> bool:
        """Whether a process lives by it."""
        try:
            return str(self._library) in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
        except OSError:
            return False

    def set(self, ahead_s: int) -> None:
        """Sets the clock so many seconds ahead of the machine's; behind it where negative."""
        self.ahead_s = ahead_s
        self._page[:] = struct.pack("<q", ahead_s)
