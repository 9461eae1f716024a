#!/usr/bin/env -S python3 -B
"""Kills while lists are compiled and put in force: does each restart serve the last good image?

    benches/live/kills.py --binary target/release/tapis --names FILE [--kills 50]

FILE contains the names of two large lists, one name per line: the first half for one list, the second
half for the other. Each round gives the large lists and a small one a new state, whose number is part
of a name in each of them, and ends the server by SIGKILL at a random moment: while the compiler reads,
sorts or writes, while the image comes into force, or while it is saved. Then the server is started
again with the same state directory.

There are two large lists, so that the compiled rules of one are carried over while the other changes.
Checks: each restart serves from the saved images, with none rejected and nothing compiled before the
first answers; these answers show one whole state of each list, which could be in force at the time of the kill;
no compiler of the killed server is left; the newest state comes into force afterwards; and a restart after
that state was saved serves it at once. Exit code 1 if a check fails.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import time

import dns
import live
import upstream

KINDS = BIG, MORE, SMALL = "big", "more", "small"


def marker(kind, state):
    return f"state{state}.{kind}.kills.example"


class Server(live.Tapis):
    """A server with a state directory that can be killed."""

    def __init__(self, binary, folder, upstream_port, lists):
        self.state_dir = os.path.join(folder, "state")
        super().__init__(binary, folder, upstream_port, lists)

    def write_config(self, sections):
        return super().write_config([*sections, f'[state]\ndir = "{self.state_dir}"\n'])

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def began(self):
        """The log of its start."""
        with open(self.log, errors="replace") as log:
            return log.read()

    def kept(self):
        """The generation that a restart would restore."""
        newest = self.newest_kept()
        # `again` has ranges of later generations with equal lists, each as its first and its last generation.
        return newest and (newest["again"][-1][1] if newest.get("again") else newest["generation"])

    def kept_lists(self):
        """The digest of the lists that a restart would restore: the images of equal lists can be made anew."""
        newest = self.newest_kept()
        return newest and newest["contents"]["lists"]

    def newest_kept(self):
        with contextlib.suppress(OSError, ValueError, LookupError):
            with open(os.path.join(self.state_dir, "current")) as record:
                return json.load(record)["published"][0]
        return None


def parents():
    """The parents of all running compilers."""
    done = subprocess.run(["pgrep", "-f", "compile --plan -"], capture_output=True, text=True)
    found = []
    for pid in done.stdout.split():
        with contextlib.suppress(OSError, IndexError):
            with open(f"/proc/{pid}/stat") as stat:
                found.append(int(stat.read().rpartition(")")[2].split()[1]))
    return found


class Client:
    """Sends one query at a time."""

    def __init__(self, port):
        self.socket = dns.udp_socket()
        self.socket.connect((dns.LOOPBACK, port))
        self.ident = 0

    def blocked(self, name, patience=2.0):
        """Whether the name is blocked; None without an answer."""
        self.ident = (self.ident + 1) % 65536
        query = self.ident.to_bytes(2, "big") + dns.query(name, dns.A)[2:]
        end = time.monotonic() + patience
        while time.monotonic() < end:
            self.socket.settimeout(0.02)
            try:
                self.socket.send(query)
                reply = self.socket.recv(2048)
            except OSError:
                continue
            if reply[:2] == query[:2]:
                return self.is_block(reply)
        return None

    def is_block(self, reply):
        return dns.classify(reply, dns.A)[0] == "blocked"

    def state(self, kind, states, patience=2.0):
        """The states of a list whose names are blocked."""
        return [state for state in states if self.blocked(marker(kind, state), patience)]


def restart(server, client, states, failures, label):
    """Checks the first answers of a restarted server; returns the states found."""
    if client.blocked("none.kills.example", 20.0) is None:
        raise live.Failure(f"no answer after a restart:\n{server.tail()}")
    began, found = server.began(), {kind: client.state(kind, states) for kind in KINDS}
    if "kept images are in force" not in began or "kept image refused" in began:
        failures.append(f"{label}: not served from the saved images")
    if "compiled" in began.split("serving")[0]:
        failures.append(f"{label}: compiled before it served")
    for kind, several in found.items():
        if len(several) != 1:
            failures.append(f"{label}: the {kind} list is in states {several}")
    return found


def write(folder, kind, names, state):
    path = os.path.join(folder, f"{kind}.txt")
    live.write_names(path + ".new", [*names, marker(kind, state)])
    os.rename(path + ".new", path)


def settle(client, server, state, patience=120.0):
    """Seconds until all lists show that state."""
    start = time.monotonic()
    while not all(client.blocked(marker(kind, state)) for kind in KINDS):
        if time.monotonic() > start + patience or not server.alive():
            raise live.Failure(f"state {state} is not in force after {patience} s:\n{server.tail()}")
        time.sleep(0.02)
    return time.monotonic() - start


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--names", required=True)
    arguments.add_argument("--kills", type=int, default=50)
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()
    chance = random.Random(options.seed)
    failures, starts, before_force = [], [], 0
    with live.workshop("kills") as folder, upstream.Upstream(folder) as above:
        names = live.read_names(options.names)
        half = len(names) // 2
        texts = {BIG: names[:half], MORE: names[half:], SMALL: [f"n{i}.kills.example" for i in range(200)]}

        def put(state):
            for kind in KINDS:
                write(folder, kind, texts[kind], state)

        def serve():
            lists = [{"name": kind, "path": os.path.join(folder, f"{kind}.txt")} for kind in KINDS]
            return Server(options.binary, folder, above.port, lists)

        def finish(server, client, state):
            """Waits until a state is in force and saved; returns the seconds until it was in force."""
            took = settle(client, server, state)
            server.wait_for(lambda: server.kept() == server.status()["generation"], pause=0.05)
            return took

        put(0)
        with serve() as server:
            server.wait()
            client = Client(server.port)
            put(1)
            length = finish(server, client, 1) * 1.3
            server.kill()
        for state in range(2, options.kills + 2):
            with serve() as server:
                client = Client(server.port)
                found = restart(server, client, (state - 2, state - 1), failures, f"restart {state}")
                if any(several != [state - 1] for several in found.values()):
                    failures.append(f"restart {state}: the saved state is not in force: {found}")
                put(state)
                time.sleep(chance.random() * length)
                old = server.pid
                server.kill()
            with serve() as server:
                start = time.monotonic()
                client = Client(server.port)
                found = restart(server, client, (state - 1, state), failures, f"kill {state}")
                starts.append(time.monotonic() - start)
                before_force += found[BIG] == [state - 1]
                for kind in (BIG, MORE):
                    if client.blocked(chance.choice(texts[kind])) is not True:
                        failures.append(f"kill {state}: a name of the {kind} list is not blocked")
                end = time.monotonic() + 2  # a compiler that was just starting notices that its server is gone
                while {old, 1} & set(parents()) and time.monotonic() < end:
                    time.sleep(0.01)
                if {old, 1} & set(parents()):
                    failures.append(f"kill {state}: a compiler is left over")
                finish(server, client, state)
                server.kill()
    spread = {"median": 0.5, "max": 1}
    result = {"tool": "kills", "options": vars(options), "kills": options.kills}
    result["restart_to_answer_ms"] = {k: round(live.percentile(starts, s) * 1e3, 1) for k, s in spread.items()}
    result["killed_before_the_new_base_was_kept"] = before_force
    live.say(f"{options.kills} kills, {before_force} of them before the new base was saved, {len(failures)} faults")
    live.finish(result, failures)


if __name__ == "__main__":
    main()
