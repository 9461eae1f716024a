#!/usr/bin/env -S python3 -B
"""Kills while lists are compiled and put in force: does each restart serve the last good image?

    benches/live/kills.py --binary target/release/tapis --names FILE [--kills 50]

FILE holds the big list, a name a line. Each round gives the big list and a small one a new state,
whose number stands in a name of its own in each of them, and ends the server by SIGKILL at a random
moment: while the compiler reads, sorts or writes, while the image comes into force, or while it is
stored. Then the server is started again with the same state directory.

What is checked: that the first answers after the restart come before any list is compiled, and are
those of one whole state of each list that could be in force when the server was killed; that no
compiler is left over; that the newest state comes into force then; and that a restart after that
serves it at once. Exit code 1 if one of that fails.
"""

import argparse
import os
import random
import signal
import subprocess
import time

import dns
import live
import upstream

BIG, SMALL = "big", "small"


def marker(kind, state):
    return f"state{state}.{kind}.kills.example"


class Server(live.Tapis):
    """A server with a state directory, which can be killed."""

    def __init__(self, binary, folder, upstream_port):
        paths = [(kind, os.path.join(folder, f"{kind}.txt")) for kind in (BIG, SMALL)]
        lists = [{"name": kind, "path": path} for kind, path in paths]
        self.state_dir = os.path.join(folder, "state")
        super().__init__(binary, folder, upstream_port, lists)

    def write_config(self, sections):
        return super().write_config([*sections, f'[state]\ndir = "{self.state_dir}"\n'])

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def compilers(self):
        """Compilers of this program that run."""
        done = subprocess.run(["pgrep", "-f", f"{self.binary} compile --plan"], capture_output=True, text=True)
        return done.stdout.split()


class Asker:
    """Asks one question at a time."""

    def __init__(self, port):
        self.socket = dns.udp_socket()
        self.socket.connect((dns.LOOPBACK, port))
        self.ident = 0

    def blocked(self, name, patience=2.0):
        """Whether the name is blocked; None if no answer comes."""
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
                return dns.classify(reply, dns.A)[0] == "blocked"
        return None

    def state(self, kind, states, patience=2.0):
        """The states of a list whose names are blocked."""
        return [state for state in states if self.blocked(marker(kind, state), patience)]


def write(folder, kind, names, state):
    path = os.path.join(folder, f"{kind}.txt")
    live.write_names(path + ".new", [*names, marker(kind, state)])
    os.rename(path + ".new", path)


def settle(asker, server, state, patience=120.0):
    """Seconds until both lists show that state."""
    start = time.monotonic()
    while not all(asker.blocked(marker(kind, state)) for kind in (BIG, SMALL)):
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
        small = [f"n{i}.kills.example" for i in range(200)]
        write(folder, BIG, names, 0)
        write(folder, SMALL, small, 0)
        with Server(options.binary, folder, above.port) as server:
            server.wait()
            asker = Asker(server.port)
            write(folder, BIG, names, 1)
            write(folder, SMALL, small, 1)
            length = settle(asker, server, 1) * 1.3
            server.kill()
        for state in range(2, options.kills + 2):
            with Server(options.binary, folder, above.port) as server:
                asker = Asker(server.port)
                if asker.blocked(marker(BIG, state - 1), 20.0) is None:
                    raise live.Failure(f"no answer after a restart:\n{server.tail()}")
                settle(asker, server, state - 1)
                write(folder, BIG, names, state)
                write(folder, SMALL, small, state)
                time.sleep(chance.random() * length)
                server.kill()
            with Server(options.binary, folder, above.port) as server:
                start = time.monotonic()
                asker = Asker(server.port)
                while (old := asker.blocked(marker(BIG, 0), 20.0)) is None and server.alive():
                    pass
                starts.append(time.monotonic() - start)
                for kind in (BIG, SMALL):
                    found = asker.state(kind, (state - 1, state))
                    if len(found) != 1 or old:
                        failures.append(f"kill {state}: the {kind} list is in states {found}")
                    before_force += kind == BIG and found == [state - 1]
                if asker.blocked(names[chance.randrange(len(names))]) is not True:
                    failures.append(f"kill {state}: a name of the big list is not blocked")
                if len(server.compilers()) > 1:
                    failures.append(f"kill {state}: compilers are left over: {server.compilers()}")
                settle(asker, server, state)
                server.kill()
    spread = {"median": 0.5, "max": 1}
    result = {"tool": "kills", "options": vars(options), "kills": options.kills}
    result["restart_to_answer_ms"] = {k: round(live.percentile(starts, s) * 1e3, 1) for k, s in spread.items()}
    result["killed_before_the_new_base_was_kept"] = before_force
    live.say(f"{options.kills} kills, {before_force} of them before the new base was kept, {len(failures)} faults")
    live.finish(result, failures)


if __name__ == "__main__":
    main()
