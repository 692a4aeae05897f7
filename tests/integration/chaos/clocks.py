"""Clocks that are off: processes that ask a shim for the time, which adds the seconds that stand in a file."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long off(void) {
    char text[32] = {0};
    const char *path = getenv("SHIFTED_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return 0;
    ssize_t size = read(file, text, sizeof text - 1);
    close(file);
    return size > 0 ? atol(text) : 0;
}
int clock_gettime(clockid_t clock, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, at);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) at->tv_sec += off();
    return failed;
}
int gettimeofday(struct timeval *at, void *zone) {
    static int (*real)(struct timeval *, void *);
    if (!real) real = dlsym(RTLD_NEXT, "gettimeofday");
    int failed = real(at, zone);
    if (!failed) at->tv_sec += off();
    return failed;
}
time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
"""


class Clock:
    """The clock of the processes that are started with `env`; `put` sets it, also while they run."""

    def __init__(self, folder: Path, shim: Path) -> None:
        self._file = folder / "seconds"
        self.env = {"LD_PRELOAD": str(shim), "SHIFTED_CLOCK": str(self._file)}
        self.put(0)

    def put(self, seconds: int) -> None:
        """Let it be so many seconds ahead of the machine's, or behind."""
        part = self._file.with_suffix(".part")
        part.write_text(str(seconds))
        part.chmod(0o644)
        part.replace(self._file)


@contextmanager
def clock() -> Iterator[Clock]:
    """Yield a clock of one's own, read by whoever runs as whatever user; a test that has no C compiler is skipped."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("a process with another clock needs a C compiler (cc) for a shim of twenty lines")
    with tempfile.TemporaryDirectory(prefix="sluice-clock-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        source, shim = folder / "shim.c", folder / "shim.so"
        source.write_text(_SHIM)
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", shim, source, "-ldl"], check=True)
        yield Clock(folder, shim)
