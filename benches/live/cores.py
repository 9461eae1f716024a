"""CPU times, to tell delays by other processes from delays by the server."""

import contextlib
import os


def waited(pid):
    """Seconds in which threads of a process were ready to run without a core, in total."""
    nanos = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):  # the thread ended
            with open(f"/proc/{pid}/task/{task}/schedstat") as fields:
                nanos += int(fields.read().split()[1])
    return nanos / 1e9


def busy(core):
    """Seconds that a core was busy since boot."""
    with open("/proc/stat") as stat:
        fields = next(line for line in stat if line.startswith(f"cpu{core} ")).split()[1:9]
    ticks = [int(field) for field in fields]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
