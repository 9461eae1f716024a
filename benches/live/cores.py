"""How long a process had no core to run on: what is late by that is the machine's doing."""

import contextlib
import os


def waited(pid):
    """Seconds that its threads were ready to run and did not, all together."""
    nanos = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):  # it ended
            with open(f"/proc/{pid}/task/{task}/schedstat") as fields:
                nanos += int(fields.read().split()[1])
    return nanos / 1e9
