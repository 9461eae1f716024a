#!/usr/bin/env -S python3 -B
"""Measures start and memory with the configuration of the packages.

    benches/live/start.py --binary target/release/tapis [--starts 20] [--idle SECONDS]

Uses a copy of packaging/etc, in which only addresses and directories are others, and an upstream that answers every
name. Starts the server this many times with an empty state directory, and as often with the one that the start before
left. Each time measures the seconds from before the program is executed until a client has the first answer, and
the resident memory after the answer and some seconds (--idle) later. Exit code 1 if a median is over its bar, which is
100 ms and 20 MB, or if a server gives no answer.
"""

import argparse
import os
import re
import shutil
import socket
import statistics
import time

import dns
import live
import upstream

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BARS = {"first_answer_ms": 100, "rss_mb": 20, "rss_mb_later": 20}
LIMIT = 30  # seconds until a server is given up
AGAIN = 0.01  # seconds after which a client sends its query again


def configuration(folder, port, server):
    """Copies the configuration of the packages, and returns its path."""
    etc = os.path.join(folder, "etc")
    shutil.copytree(os.path.join(ROOT, "packaging/etc"), etc)
    path = os.path.join(etc, "tapis.toml")
    with open(path) as file:
        text = file.read()
    for key, value in [
        (r"listen = .*", f'listen = ["{dns.LOOPBACK}:{port}"]'),
        (r"control = .*", f'control = "{folder}/control.sock"'),
        (r"# servers = .*", f'servers = ["{dns.LOOPBACK}:{server}"]'),
        (r"dir = .*", f'dir = "{folder}/state"'),
        # The group of the package, which this machine may not have.
        (r"control-group = .*", ""),
    ]:
        text, count = re.subn(f"^{key}$", value, text, flags=re.MULTILINE)
        if count != 1:
            raise live.Failure(f"packaging/etc/tapis.toml: the bench does not know it any more: {key}")
    with open(path, "w") as file:
        file.write(text)
    return path


class Server(live.Child):
    """A start of the server."""

    def __init__(self, command, log):
        self.began = time.perf_counter()
        super().__init__(command, log)

    def first_answer(self, port):
        """Milliseconds until a client has an answer. The system refuses queries until the socket is bound.

        The query is sent again and again: the server first binds a socket that it closes at once, to find out whether the
        port is free, and a query that arrives at that moment is lost.
        """
        query = bytes.fromhex("1234 0100 0001 0000 0000 0000") + b"\x05first\x07example\x00\x00\x01\x00\x01"
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.connect((dns.LOOPBACK, port))
            client.settimeout(AGAIN)
            while True:
                if not self.alive():
                    raise live.Failure(f"{self.name} ended at its start:\n{self.tail()}")
                if time.perf_counter() - self.began > LIMIT:
                    raise live.Failure(f"no answer within {LIMIT} s:\n{self.tail()}")
                try:
                    client.send(query)
                    answer = client.recv(512)
                    break
                except ConnectionRefusedError:
                    time.sleep(0.0005)
                except TimeoutError:
                    continue
        took = (time.perf_counter() - self.began) * 1000
        if answer[3] & 15 or answer[7] != 1:
            raise live.Failure(f"the answer is not the upstream's: {answer.hex()}")
        return took


def measure(command, log, port, idle):
    with Server(command, log) as server:
        took = server.first_answer(port)
        memory = server.memory()["rss_mb"]
        time.sleep(idle)
        return {"first_answer_ms": took, "rss_mb": memory, "rss_mb_later": server.memory()["rss_mb"]}


def summary(runs):
    """Median and range of each figure."""
    found = {}
    for figure in runs[0]:
        values = [run[figure] for run in runs]
        found[figure] = {
            "median": round(statistics.median(values), 1),
            "range": [round(min(values), 1), round(max(values), 1)],
        }
    return found


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--starts", type=int, default=20, help="how many of each kind (default: 20)")
    arguments.add_argument("--idle", type=float, default=1, help="seconds until memory is measured again (default: 1)")
    options = arguments.parse_args()
    first, again = [], []
    with live.workshop("start") as folder, upstream.Upstream(folder) as above:
        port = live.free_port()
        config = configuration(folder, port, above.port)
        command = [os.path.abspath(options.binary), "serve", "--config", config]
        for _ in range(options.starts):
            shutil.rmtree(os.path.join(folder, "state"), ignore_errors=True)
            for kind in (first, again):
                kind.append(measure(command, os.path.join(folder, "tapis.log"), port, options.idle))
    result = {
        "tool": "start",
        "starts": options.starts,
        "program_mb": round(os.path.getsize(options.binary) / 1e6, 1),
        "first_start": summary(first),
        "start_with_state": summary(again),
    }
    failures = [
        f"{kind}: {figure} is {result[kind][figure]['median']}, the bar is {bar}"
        for kind in ("first_start", "start_with_state")
        for figure, bar in BARS.items()
        if result[kind][figure]["median"] > bar
    ]
    live.finish(result, failures)


if __name__ == "__main__":
    main()
