#!/usr/bin/env -S python3 -B
"""A feed at full size under load: how long does it take, with how much memory, and does any query wait?

    benches/live/feed.py --binary target/release/tapis --names FILE [--changes 16360] [--rounds 5] [--rate 2000]

FILE has one name per line. Knot DNS is the primary of a policy zone that has two records for each name: the name and
its wildcard. While queries arrive at a steady rate, these phases follow each other:

  control  nothing changes
  kdig     `kdig AXFR` of the zone, whose output is thrown away; before the first transfer, and after it
  first    the feed is added to the configuration, and the whole zone is transferred and compiled
  whole    100 records of the zone change, and the whole zone is transferred again
  changes  another primary sends changes (IXFR) of that many records, in several rounds

Then the load ends, and the server is started again several times; the last start meets changes. Memory is the sum of the
resident memory of the server and the compiler, so that shared pages count twice. Exit code 1 if an answer was lost or
wrong, or if a zone was transferred or compiled as a whole where changes were to be applied.
"""

import argparse
import contextlib
import itertools
import json
import os
import random
import statistics
import sys
import time

import dns
import ixfr
import kills
import knot
import live
import load
import upstream

FEED, ZONE, NXDOMAIN = "feed", "rpz.feed.test", 3
PROBES, OTHERS = 2000, 64  # names of the zone that are queried, and others
WARM_UP, PAUSE = 3.0, 0.25  # seconds
REPLACED = 25  # names that differ between two whole zones: 25 that go and 25 that come, with two records each
STARTS = 5
SECTION = '[[feed]]\nname = "{feed}"\nzone = "{zone}"\nprimaries = ["{host}:{port}"]\n'
RECORD = "CNAME ."


def rules(names):
    return [(owner, RECORD) for name in names for owner in (name, f"*.{name}")]


class Names:
    """Disjoint samples of a file with one name per line."""

    def __init__(self, path, count, seed):
        self.path, chance = path, random.Random(seed)
        with open(path) as lines:
            total = sum(1 for _ in lines)
        if total < 2 * count:
            raise live.Failure(f"{path} has {total} names; at least {2 * count} are needed")
        wanted = set(chance.sample(range(total), count))
        with open(path) as lines:
            names = [line.strip() for at, line in enumerate(lines) if at in wanted]
        self.sample = [name for name in names if len(name) < 150 and name.index(".") < 50]  # to be made longer
        chance.shuffle(self.sample)

    def take(self, count):
        taken, self.sample = self.sample[:count], self.sample[count:]
        return taken

    def lines(self):
        with open(self.path) as names:
            for name in map(str.strip, names):
                yield f"{name} {RECORD}\n*.{name} {RECORD}\n"


class Primary(knot.Knot):
    """Knot DNS with version 1 of the zone."""

    def __init__(self, folder, names):
        os.mkdir(folder)
        knot.write(folder, ZONE, 1, names.lines())
        super().__init__(folder, ZONE, "whole")
        self.wait_for(lambda: self.serial() == 1, timeout=900.0, pause=0.5)

    def replace(self, names, shell):
        """Makes the next version, by the shell of a load."""
        verbs = [["zone-begin", ZONE]]
        for name in names:
            for owner, new in (name, f"new-{name}"), (f"*.{name}", f"*.new-{name}"):
                verbs.append(["zone-unset", ZONE, f"{owner}.{ZONE}.", "CNAME"])
                verbs.append(["zone-set", ZONE, f"{new}.{ZONE}.", "60", *RECORD.split()])
        for verb in [*verbs, ["zone-commit", ZONE]]:
            shell.run("knotc", "-c", self.config, *verb)


class Server(kills.Server):
    """A server with a state directory, and with the feed as soon as it has a primary."""

    def __init__(self, binary, folder, above):
        self.sections = None
        super().__init__(binary, folder, above, [])

    def write_config(self, sections):
        self.sections = self.sections or sections
        super().write_config(sections)

    def follow(self, primary):
        section = SECTION.format(feed=FEED, zone=ZONE, host=dns.LOOPBACK, port=primary.port)
        self.write_config([*self.sections, section])

    def start_again(self):
        self.__exit__()
        live.Child.__init__(self, [self.binary, "serve", "--config", self.config], self.log)

    def is_settled(self, status, serial):
        """Whether a version is in force and saved, and nothing is compiled."""
        in_force = [feed["serial"] for feed in status["feeds"]] == [serial]
        return in_force and self.kept() == status["generation"] and len(list(live.family(self.pid))) == 1

    def transfers(self):
        """The kinds of the transfers since its start, in the words of its log."""
        with open(self.log, errors="replace") as log:
            fields = [field for line in log if "zone transferred" in line for field in line.split()]
        return [field.split('"')[1] for field in fields if field.startswith("kind=")]


class Memory(live.Child):
    """This file in another process, which samples the resident memory of a server and its children."""

    def __init__(self, folder, server):
        command = [sys.executable, "-B", os.path.abspath(__file__), "--sample", str(server.pid)]
        super().__init__(command, os.path.join(folder, "memory.log"))

    def most(self, start, end):
        """The maximum in MB between two times."""
        with open(self.log) as log:
            samples = [tuple(map(float, line.split())) for line in log if line.endswith("\n")]
        return round(max(size for at, size in samples if start <= at <= end), 1)


def sample(pid):
    while os.path.exists(f"/proc/{pid}"):
        pages = 0
        for each in live.family(pid):
            with contextlib.suppress(OSError), open(f"/proc/{each}/statm") as fields:
                pages += int(fields.read().split()[1])
        print(time.monotonic(), pages * os.sysconf("SC_PAGE_SIZE") / 1e6, flush=True)
        time.sleep(0.02)


class Answers:
    """When each name was first blocked, and wrong answers: names that are not in the zone, or not blocked any more."""

    def __init__(self, sender):
        self.blocked, self.faults = {}, []
        sender.on_answer, sender.classify = self.on_answer, self.classify

    @staticmethod
    def classify(reply, rtype):
        return ("blocked", None) if reply[3] & 15 == NXDOMAIN else dns.classify(reply, rtype)

    def on_answer(self, query, verdict, sent, taken):
        if verdict == load.BLOCKED and query.kind == "zone":
            self.blocked.setdefault(query.name, taken)
        elif verdict == load.BLOCKED or sent > self.blocked.get(query.name, sent):
            self.faults.append(f"{query.name}: {load.WORDS[verdict]}")


class Play:
    """The phases under load. Each returns its figures."""

    def __init__(self, folder, server, primary, names, sender, options):
        self.folder, self.server, self.primary, self.names = folder, server, primary, names
        self.sender, self.options, self.answers = sender, options, Answers(sender)
        self.shell, self.base, self.faults = live.Shell(sender.step), None, []

    def settle(self, serial, patience=900.0):
        """Runs the load until a version is in force and saved; returns the status."""
        end = time.monotonic() + patience
        while True:
            text = self.shell.run(*self.server.command("status", "--json"), allowed=(0, 1))
            status = json.loads(text)
            if self.server.is_settled(status, serial):
                return status
            if time.monotonic() > end or not self.server.alive():
                raise live.Failure(f"serial {serial} is not in force after {patience} s:\n{self.server.tail()}")
            self.sender.run(time.monotonic() + PAUSE)

    def control(self):
        self.sender.run(time.monotonic() + self.options.control)
        return {}

    def kdig(self):
        start = time.monotonic()
        query = f"kdig +tcp -p {self.primary.port} @{dns.LOOPBACK} {ZONE} AXFR > {os.devnull}"
        self.shell.run("sh", "-c", query)
        return {"took_s": round(time.monotonic() - start, 2)}

    def first(self):
        start, used = time.monotonic(), self.server.cpu_seconds()
        self.server.follow(self.primary)
        self.shell.run(*self.server.command("reload"))
        while not self.answers.blocked and self.server.alive():
            self.sender.step()
        seconds, status = min(self.answers.blocked.values()) - start, self.settle(1)
        used, self.base = self.server.cpu_seconds() - used, status["images"][0]
        self.sender.run(time.monotonic() + WARM_UP)
        figures = {"took_s": round(seconds, 2), "cpu_seconds": round(used, 2), "rules": status["lists"][0]["rules"]}
        return figures | {"rss_mb_after": self.server.memory()["rss_mb"], "image_bytes": self.base["octets"]}

    def whole(self):
        self.primary.replace(self.names.take(REPLACED), self.shell)
        start, used = time.monotonic(), self.server.cpu_seconds()
        self.shell.run(*self.server.command("feed", "refresh", FEED, "--whole"))
        status = self.settle(2)
        seconds, used = time.monotonic() - start, self.server.cpu_seconds() - used
        if status["images"][0] != self.base:
            self.faults.append("100 changed records made a new base image")
        return {"took_s": round(seconds, 2), "cpu_seconds": round(used, 2)}

    def changes(self):
        """Replaces the same names in each round."""
        names, before = self.names.take(self.options.changes // 4), self.server.transfers()
        with ixfr.Primary(self.folder, ZONE, 2, server=self.server.port) as made:
            self.server.follow(made)
            self.shell.run(*self.server.command("reload"))
            old = names
            for number in range(self.options.rounds):
                new = [f"v{number}-{name}" for name in names]
                made.lay(rules(old), rules(new))
                os.rename(*made.move())
                self.shell.run(*self.server.command("feed", "refresh", FEED))
                self.settle(made.serial)
                old = new
            status = self.settle(made.serial)
            delays = made.delays()
        kinds = self.server.transfers()[len(before) :]
        if set(kinds) != {"changes"}:
            self.faults.append(f"changes arrived as {kinds}")
        spread = {"median": statistics.median(delays), "least": min(delays), "most": max(delays)}
        return {"records": 4 * len(names), "in_force_ms": spread, "new_base": status["images"][0] != self.base}


def restarts(server, probe):
    """Milliseconds from the start to the first blocked answer, of several starts."""
    times = []
    for _ in range(STARTS):
        server.start_again()
        client = Client(server.port)
        while not client.blocked(probe, 20.0):
            if not server.alive():
                raise live.Failure(f"the server ended:\n{server.tail()}")
        times.append((time.monotonic() - server.started) * 1e3)
        server.wait()
    return {"median": round(statistics.median(times), 1), "least": round(min(times), 1), "most": round(max(times), 1)}


class Client(kills.Client):
    def is_block(self, reply):
        return dns.read(reply)[0] == NXDOMAIN


def measure(play, memory, above):
    """The figures of all phases."""
    sender, result, times = play.sender, {}, []
    sender.run(time.monotonic() + WARM_UP)
    phases = [play.control, play.kdig, play.first, play.kdig, play.whole, play.changes]
    for number, phase in enumerate(phases):
        name = phase.__name__ + (" again" if phase in phases[:number] else "")
        ours = play.server, play.primary, play.shell, memory, above
        begin, foreign = time.monotonic(), live.foreign_seconds(*ours)
        result[name] = phase()
        times.append((name, begin, time.monotonic()))
        foreign = live.foreign_seconds(*ours) - foreign
        result[name]["cores_busy_with_others"] = round(foreign / (times[-1][2] - begin), 2)
        live.say(f"{name}: {result[name]}")
    sender.run(time.monotonic() + 0.5)
    sender.drain()
    play.shell.end()
    for name, begin, end in times:
        result[name] |= sender.figures(sender.between(begin, end)) | {"peak_mb": memory.most(begin, end)}
        slow = result[name].pop("slowest")
        share = result[name]["longest_silence_ms"] / result["control"]["longest_silence_ms"]
        result[name] |= {"longest_silence_to_control": round(share, 2), "slowest": slow[:3]}
        live.say(
            f"{name}: {result[name]['queries']} queries, {result[name]['lost']} lost, longest silence "
            f"{result[name]['longest_silence_ms']:.1f} ms ({share:.2f} x control), peak {result[name]['peak_mb']} MB"
        )
    first, kdig = result["first"], [result[name]["took_s"] for name in ("kdig", "kdig again")]
    result["first_to_kdig"] = round(first["took_s"] / statistics.mean(kdig), 2)
    result["whole_to_first_cpu"] = round(result["whole"]["cpu_seconds"] / first["cpu_seconds"], 2)
    lost = sender.lost(range(len(sender.sent)))
    return result, [f"{lost} queries lost"] * bool(lost) + sender.wrongs + play.answers.faults + play.faults


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--binary")
    arguments.add_argument("--names")
    arguments.add_argument("--changes", type=int, default=16_360, help="records, of four per name that is replaced")
    arguments.add_argument("--rounds", type=int, default=5, help="of changes")
    arguments.add_argument("--rate", type=int, default=2000, help="queries per second")
    arguments.add_argument("--control", type=float, default=30.0, help="seconds without a change")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--sample", type=int, default=0, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.sample:
        return sample(options.sample)
    sys.setswitchinterval(0.0002)
    live.need("kdig", "knot-dnsutils")
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(live.workshop("feed"))
        above = stack.enter_context(upstream.Upstream(folder))
        names = Names(options.names, PROBES + options.changes // 3, options.seed)
        primary = stack.enter_context(Primary(os.path.join(folder, "knot"), names))
        live.say(f"Knot DNS has the zone after {time.monotonic() - primary.started:.0f} s")
        server = stack.enter_context(Server(options.binary, folder, above.port))
        server.wait()
        memory = stack.enter_context(Memory(folder, server))
        probes = names.take(PROBES)
        others = [f"other{at}.not-in-the-zone.com" for at in range(OTHERS)]
        queries = [load.Query(name, dns.A, "zone", at % 2 == 0) for at, name in enumerate(probes)]
        queries += [load.Query(name, dns.A, "other", False) for name in itertools.islice(itertools.cycle(others), PROBES)]
        sender = load.Load(server.port, queries, options.rate)
        figures, failures = measure(Play(folder, server, primary, names, sender, options), memory, above)
        figures["restart_ms"] = restarts(server, min(probes, key=len))
    live.say(f"restart: {figures['restart_ms']} ms")
    live.finish({"tool": "feed", "options": vars(options)} | figures, failures)


if __name__ == "__main__":
    main()
