"""Effects of a changed list on clients: the longest silence, lost queries, the time until it is in force.

A thousand names are removed and two thousand are added. If the server supports it, this is done by rules
before the list, and by a difference of the list. Then it is done by a new list that replaces the whole
one; a server that has no other way to load that list is restarted. Each added name is queried once, so no
cache can hide that it is blocked. The added names are queried from the last to the first: if a server
loads the names one by one, the last name is blocked only when all others are loaded.
"""

import contextlib
import struct
import subprocess
import threading
import time

import dns
import live
import load

PATIENCE, PATIENCE_A_NAME = 60.0, 100e-6  # seconds; BIND needs 16 µs per name
BEFORE, AFTER = 0.5, 1.5  # seconds that belong to the reload as well
REST_SHARE, REST_WINDOW, REST_PATIENCE = 0.25, 0.5, 120.0  # share of a core; seconds; seconds
PROBE_PAUSE, PROBE_SHARE, PROBE_TIMEOUT = 0.01, 0.01, 0.1  # seconds; share of the time since the change; seconds
ASKED = 2000  # names of each kind
CHECKED, ATTEMPTS = 100, 3  # names of each kind, removed and added; tries for each, as packets get lost


class Watch(load.Load):
    """A load that accepts any TTL of blocked answers."""

    def settle(self, index, reply, notes):
        if index < 0 or self.verdict[index] != load.LOST:
            self.strays += 1
            return
        seconds, nanos = struct.unpack("qq", notes[0][2])
        self.arrived[index] = seconds - self.clock + nanos / 1e9
        word, _detail = dns.classify(reply, self.queries[self.asked[index]].rtype, None)
        self.verdict[index] = load.VERDICTS[word]

    def count(self, numbers, kind, word):
        verdict = load.VERDICTS[word]
        return sum(self.verdict[i] == verdict and self.queries[self.asked[i]].kind == kind for i in numbers)


class Witness(threading.Thread):
    """Queries added names in sequence until one is blocked; measures memory meanwhile."""

    def __init__(self, server, names):
        super().__init__(daemon=True)
        self.server, self.names = server, names
        self.seen, self.peak_mb, self.done = None, 0.0, False
        self.began = time.monotonic()

    def run(self):
        for name in self.names:
            if self.done:
                return
            self.peak_mb = max(self.peak_mb, resident_mb(self.server))
            if self.seen is None:
                reply = dns.ask(self.server.port, dns.query(name), PROBE_TIMEOUT)
                if reply and dns.classify(reply, dns.A, None)[0] == "blocked":
                    self.seen = time.monotonic()
            time.sleep(max(PROBE_PAUSE, PROBE_SHARE * (time.monotonic() - self.began)))


def resident_mb(server):
    kilo = 0
    for pid in live.family(server.pid):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/status") as status:
            kilo += sum(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    return kilo * 1.024e-3


class Reload:
    """One change of a kind of lists.py."""

    def __init__(self, server, queries, options, kind):
        self.server, self.options, self.whole = server, options, kind == "whole"
        lists = server.field.lists
        self.changed = lists.changes[kind]
        kept = [name for name in live.sample(queries.blocked, 3 * ASKED) if name not in lists.gone][:ASKED]
        asked = [load.Query(name, dns.A, "blocked", False) for name in kept]
        asked += [load.Query(name, dns.A, "free", False) for name in queries.cached[:ASKED]]
        # Before the load starts: this takes time, and so does freeing the old list.
        self.old_list = open(server.list, "rb")
        if self.whole:
            server.prepare_reload()
            server.lay_list("new")
            self.command, self.way = server.reload_command(), server.reload_way
        else:
            server.lay_change(kind, self.changed)
            self.command, self.way = server.change_command(kind), server.ways[kind]
        server.settle()
        # Starting a process would delay the load, so the commands are run by a shell that is started beforehand.
        cpus = ["taskset", "-c", options.load_cpu]
        self.shell = subprocess.Popen([*cpus, "sh"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        self.load = Watch(server.port, asked, options.reload_rate)

    def run(self):
        before, peak = self.server.memory(), resident_mb(self.server)
        start = time.monotonic()
        self.load.run(start + self.options.reload_control)
        witness = Witness(self.server, self.changed.came[::-1])
        witness.start()
        changed = time.monotonic()
        self.change()
        try:
            self.wait_for(witness, changed)
            end = time.monotonic() + AFTER
            self.rest(end)
            end = time.monotonic()
        finally:
            witness.done = True
            self.load.drain()
            self.shell.stdin.close()
            self.shell.wait()
        witness.join()
        self.old_list.close()
        self.check()
        report = {"in_force_seconds": round(witness.seen - changed, 3), "peak_mb": round(max(peak, witness.peak_mb), 1)}
        report |= {"memory_before": before, "memory": self.server.memory(), "way": self.way}
        control = self.load.between(start, changed - BEFORE)
        return report | {"control": self.figures(control)} | self.figures(self.load.between(changed - BEFORE, end))

    def change(self):
        if self.whole:
            self.server.renew_list()
        if self.command is not None:
            self.shell.stdin.write(f"({self.command}) >> '{self.server.log}' 2>&1\n")
            self.shell.stdin.flush()
            return
        # In this thread: a process ends with the thread that started it.
        self.server.process.terminate()
        while self.server.alive():
            self.load.step()
        self.server.launch()

    def wait_for(self, witness, changed):
        end = changed + PATIENCE + PATIENCE_A_NAME * len(self.server.field.lists.names)
        while witness.seen is None:
            self.load.step()
            if not self.server.alive() or time.monotonic() > end or not witness.is_alive():
                raise live.Failure(f"{self.server.name}: the change is not in force:\n{self.server.tail()}")

    def check(self):
        """Whether the change is complete. No earlier answer below a removed name is cached."""
        cases = [(f"below.{name}", "true") for name in self.changed.gone[:CHECKED]]
        cases += [(name, "blocked") for name in self.changed.came[:CHECKED]]
        for name, want in cases:
            reply = next(filter(None, (dns.ask(self.server.port, dns.query(name)) for _ in range(ATTEMPTS))), None)
            got, detail = dns.classify(reply, dns.A, None) if reply else ("no answer", None)
            if got != want:
                raise live.Failure(f"{self.server.name}: after the change {name} is {got} ({detail}), not {want}")

    def rest(self, end):
        """Continues until the server only answers queries."""
        patience = time.monotonic() + REST_PATIENCE
        busy = True
        while time.monotonic() < end or busy and time.monotonic() < patience:
            spent = self.server.cpu_seconds()
            self.load.run(time.monotonic() + REST_WINDOW)
            busy = self.server.cpu_seconds() - spent > REST_SHARE * REST_WINDOW

    def figures(self, numbers):
        if not any(self.load.verdict[i] != load.LOST for i in numbers):
            raise live.Failure(f"{self.server.name} answered nothing around its reload")
        report = self.load.figures(numbers)
        report = {key: report[key] for key in ("queries", "lost", "longest_silence_ms", "longest_pause_of_the_sender_ms")}
        wrong = sum(self.load.count(numbers, kind, "wrong") for kind in ("blocked", "free"))
        return report | {"let_through": self.load.count(numbers, "blocked", "true"), "wrong": wrong}
