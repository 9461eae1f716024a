"""The queries of the measurements, and the expected answers."""

import itertools
import os
import random

import dns
import live
from servers import MIXES

CACHED = 10_000
BLOCKED_SHARE = 0.05
MIX_LINES = 400_000
CHECKED = 200  # names of each kind, before and after each measurement
# Top labels of names that a server may answer locally.
LOCAL = {"localhost", "test", "invalid", "onion", "arpa", "local", "internal", "example", "lan", "home", "i2p"}


def special(name):
    return name.rpartition(".")[2] in LOCAL


class Queries:
    """Files for dnsperf and pace, by mix: new ones in each round."""

    def __init__(self, folder, lists, popular, seed):
        self.folder, self.random = folder, random.Random(seed)
        self.blocked = [name for name in lists.names if not special(name)]
        every = set(lists.names)
        clean = (n for n in popular if not any(n.split(".", i)[-1] in every for i in range(n.count(".") + 1)))
        self.free = [name for name in clean if not special(name) and len(name) < 200]
        self.cached = self.free[:CACHED]
        if not self.cached or not self.blocked:
            raise live.Failure("the lists leave no names to query")
        self.write("warm", self.cached)
        self.fresh = []

    def path(self, mix):
        return os.path.join(self.folder, f"{mix}.queries")

    def write(self, mix, names):
        with open(self.path(mix), "w") as out:
            out.writelines(f"{name} A\n" for name in names)

    def renew(self, unknown, paced):
        """Writes new mixes, and names that were never queried before: `unknown` names for dnsperf, and
        `paced` names for each kind of run of pace."""
        draw = self.random.choice
        for mix in MIXES[:3]:
            share = {"blocked": 1, "cached": 0, "mixed": BLOCKED_SHARE}[mix]
            lot = (self.blocked if self.random.random() < share else self.cached for _ in range(MIX_LINES))
            self.write(mix, map(draw, lot))
        label, numbers = self.random.getrandbits(32), itertools.count()
        fresh = (f"u{label:x}-{i:x}.{self.free[i % len(self.free)]}" for i in numbers)
        self.fresh = list(itertools.islice(fresh, CHECKED))
        self.write("unknown", itertools.islice(fresh, unknown))
        for kind, count in paced.items():
            self.write(f"unknown.{kind}", itertools.islice(fresh, count))

    def paced(self, mix, kind):
        return self.path(f"unknown.{kind}" if mix == "unknown" else mix)

    def cases(self, mix):
        """Some names of the mix, and whether they are blocked."""
        draw = random.Random(self.random.random())
        if mix in ("blocked", "mixed"):
            yield from ((name, "blocked") for name in draw.sample(self.blocked, min(CHECKED, len(self.blocked))))
        if mix in ("cached", "mixed"):
            yield from ((name, "true") for name in draw.sample(self.cached, min(CHECKED, len(self.cached))))
        if mix == "unknown":
            yield from ((name, "true") for name in self.fresh)

    def check(self, port, mix):
        """Wrong answers among some names; empty if the server works."""
        for name, want in self.cases(mix):
            reply = dns.ask(port, dns.query(name, ident=self.random.getrandbits(16)))
            got, detail = dns.classify(reply, dns.A, None) if reply else ("no answer", None)
            if got != want:
                yield f"{name} is {got} ({detail}), not {want}"

    def growth(self, port, mix):
        """The mean number of bytes by which answers to the mix are longer than its queries."""
        with open(self.path(mix)) as lines:
            packets = [dns.query(line.split()[0]) for line, _ in zip(lines, range(500))]
        replies = [(dns.ask(port, packet), packet) for packet in packets]
        grown = [len(reply) - len(packet) for reply, packet in replies if reply]
        return round(sum(grown) / max(1, len(grown)))
