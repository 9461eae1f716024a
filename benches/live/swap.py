#!/usr/bin/env -S python3 -B
"""Swaps of a list under load: is an answer lost, late, or of neither state?

    benches/live/swap.py --binary target/release/tapis --names FILE [--swaps 200] [--rate 2000]
    benches/live/swap.py --binary target/release/tapis --names FILE --edit-latency 20 [--big-edits 3]
FILE contains the large list, one name per line. A small list alternates between two states, which share
half of their names. One process queries at a steady rate, over several sockets. The queried names are
names of the large list, names of both states of the small one, and other names, which the upstream
answers. The types are A, AAAA and TXT, with and without EDNS. The control comes first: the same queries
without changes, for as long as the swaps will take. Then the swaps: the small list is replaced by
renaming, and when the new state appears in an answer and the interval is over, the next swap follows.

Every answer must arrive within 2 s, be exactly the sinkhole's or the upstream's, and be correct in the
sense of expected.py. A blocked TXT query is answered with an SOA record, whose serial is the generation
of the policy. This generation must not be older than one that was received before the query was sent, and
answers of the same generation must not show both states of the small list. A silence is the time between
consecutive answers; the owed silence is the part of it in which a query waited for its answer, which
excludes the time that the sender used for itself.

With --edit-latency N, there are no swaps. Instead, the small list is edited in three ways, N times each: the
file is written in place in two halves; or it is replaced by renaming; or it is replaced by renaming and
`tapis reload` is run, after which the new state must be in force. Then one name is added to the large list,
--big-edits times, by default once. (If --big-edits is given, this is also done after swaps.) A latency runs
from the end of a change to the first answer of the new state, by the clock of the client.

Exit code 1 if an answer was lost or incorrect.
"""

import argparse
import os
import random
import sys
import threading
import time

import dns
import live
import load
import expected
import upstream
from expected import BIG, BOTH, EVEN, NEW, ODD, OTHER

SHARES = {BIG: 25, EVEN: 22, ODD: 22, BOTH: 10, OTHER: 19, NEW: 2}  # of 100 queries
TYPES = [dns.A] * 6 + [dns.AAAA] * 2 + [dns.TXT] * 2
PATIENCE = 60.0  # seconds that a change may take
SILENCE_MS, SILENCE_TO_CONTROL = 50, 1.5  # reported, not enforced: other processes cause silence, too
WARM_UP = 3.0  # seconds


class Scene:
    """The list files and their content, in every state."""

    def __init__(self, folder, options):
        self.random = random.Random(options.seed)
        self.big, self.small = (os.path.join(folder, f) for f in ("big.txt", "small.txt"))
        names = live.read_names(options.names)
        hosts = live.sample([n for n in names if len(n) < 200], 1500, options.seed)
        # Half of the small list's names are below names of the large one.
        own = [f"swap{i}.{hosts[i % len(hosts)] if i % 2 else 'swaps.example'}" for i in range(1500)]
        self.groups = {EVEN: own[:500], ODD: own[500:1000], BOTH: own[1000:]}
        self.groups[BIG] = live.sample(names, 2000, options.seed + 1)
        self.groups[OTHER] = [f"other{i}.example.org" for i in range(64)]
        self.groups[NEW] = [f"new{i}.swaps.example" for i in range(1, options.big_edits + 1)]
        live.write_names(self.big, names)
        for number in range(1, options.big_edits + 1):
            live.write_names(f"{self.big}.{number}", names + self.groups[NEW][:number])
        self.replace(self.text(0))

    def text(self, state):
        """The small list in that state, in a random order."""
        names = self.groups[ODD if state % 2 else EVEN] + self.groups[BOTH]
        return "".join(f"{name}\n" for name in self.random.sample(names, len(names)))

    def replace(self, text):
        with open(self.small + ".new", "w") as out:
            out.write(text)
        os.rename(self.small + ".new", self.small)

    def queries(self):
        """Enough queries to get the shares right, each name with several types."""
        for kind, share in SHARES.items():
            for i in range(share * 200 if self.groups[kind] else 0):
                name = self.groups[kind][i % len(self.groups[kind])]
                yield load.Query(name, self.random.choice(TYPES), kind, self.random.random() < 0.5)


class Play:
    """The changes, made under load; each method returns the time of its change."""

    def __init__(self, scene, server, sender, states):
        self.scene, self.server, self.sender, self.states = scene, server, sender, states
        self.shell = live.Shell(sender.step)

    def aside(self, act, *values):
        """Runs `act` in a thread: a file system may be slow, and the load must not wait."""
        done = []
        thread = threading.Thread(target=lambda: done.append((act(*values), time.monotonic())))
        thread.start()
        while thread.is_alive():
            self.sender.step()
        if not done:
            raise live.Failure("a file could not be changed")
        return done[0][1]

    def by_rename(self, text):
        return self.aside(self.scene.replace, text)

    def by_writing(self, text):
        def write():
            with open(self.scene.small, "w") as out:
                out.write(text[: len(text) // 2])
                out.flush()
                time.sleep(0.02)
                out.write(text[len(text) // 2 :])

        return self.aside(write)

    def by_reload(self, text):
        done = self.by_rename(text)
        self.shell.run(*self.server.command("reload"))
        if self.states.small.waiting():  # it is in force now, observed or not
            self.states.small.seen.append(time.monotonic())
        return done

    def by_growing(self, _text):
        return self.aside(os.rename, f"{self.scene.big}.{self.states.big.newest()}", self.scene.big)

    def change(self, way):
        """The seconds from the end of a change to the first answer of the new state."""
        timeline = self.states.big if way == self.by_growing else self.states.small
        text = self.scene.text(timeline.newest() + 1)
        timeline.changed.append(time.monotonic())
        done = way(text)
        while timeline.waiting():
            self.sender.step()
            if time.monotonic() > done + PATIENCE or not self.server.alive():
                raise live.Failure(f"a change is not in force after {PATIENCE} s:\n{self.server.tail()}")
        return timeline.seen[-1] - done

    def changes(self, way, count, interval):
        """`count` changes, at least `interval` apart, irregularly."""
        latencies, due = [], time.monotonic()
        for _ in range(count):
            latencies.append(self.change(way) * 1e3)
            due += interval * (0.75 + self.scene.random.random() / 2)
            self.sender.run(max(due, time.monotonic() + interval / 6))
        shares = {"median": 0.5, "p95": 0.95, "max": 1}
        spread = {word: round(live.percentile(latencies, share), 1) for word, share in shares.items()}
        return spread | {"count": count}


def phases(play, options):
    """(name, function) of the phases in their order; a function returns latencies, or nothing."""
    edits = options.edit_latency
    length = options.interval * (3 * edits if edits else options.swaps)
    yield "control", lambda: play.sender.run(time.monotonic() + length)
    if edits:
        for name, way in ("in_place", play.by_writing), ("rename", play.by_rename), ("reload", play.by_reload):
            yield name, lambda way=way: play.changes(way, edits, options.interval)
    else:
        yield "swaps", lambda: play.changes(play.by_rename, options.swaps, options.interval)
    if options.big_edits:
        yield "big", lambda: play.changes(play.by_growing, options.big_edits, 1.0)


def measure(scene, server, above, options):
    """Runs all phases; returns the result and the failures."""
    states = expected.ExpectedAnswers(scene.groups[NEW])
    sender = load.Load(server.port, list(scene.queries()), options.rate)
    sender.on_answer = states.on_answer
    play = Play(scene, server, sender, states)
    sender.run(time.monotonic() + WARM_UP)
    times, result = [], {"memory_before": server.memory()}
    for name, act in phases(play, options):
        server.forget_peak()
        begin, foreign = time.monotonic(), live.foreign_seconds(server, above)
        latencies = act()
        times.append((name, begin, time.monotonic()))
        foreign = (live.foreign_seconds(server, above) - foreign) / (times[-1][2] - begin)
        result[name] = {"memory": server.memory(), "cores_busy_with_others": round(foreign, 2)}
        result[name] |= {"in_force_ms": latencies} if latencies else {}
    sender.run(time.monotonic() + 0.5)
    sender.drain()
    play.shell.end()
    for name, begin, end in times:
        result[name] |= sender.figures(sender.between(begin, end))
    faults, result["generations_seen"] = states.faults(sender)
    lost = sender.lost(range(len(sender.sent)))
    result |= {"queries": len(sender.sent), "lost": lost, "untrue": len(faults)}
    result |= {"strays": sender.strays, "sender_slips": sender.slips, "wrong_answers": sender.wrongs}
    for name, _begin, _end in times[1:]:
        for what in ("longest_silence_ms", "longest_owed_silence_ms"):
            share = result[name][what] / result["control"][what]
            result[name][what.replace("_ms", "_to_control")] = round(share, 2)
        allowed = max(SILENCE_MS, SILENCE_TO_CONTROL * result["control"]["longest_silence_ms"])
        result[name]["silence_in_bounds"] = result[name]["longest_silence_ms"] <= allowed
    return result, ([f"{lost} queries lost"] if lost else []) + faults


def print_summary(result, names):
    for name in names:
        part = result[name]
        text = f"{name}: {part['queries']} queries, {part['lost']} lost, longest silence "
        text += f"{part['longest_silence_ms']:.1f} ms, owed {part['longest_owed_silence_ms']:.1f} ms"
        if name != "control":
            text += f" ({part['longest_owed_silence_to_control']} x control)"
        if "in_force_ms" in part:
            spread = part["in_force_ms"]
            text += f"; in force after {spread['median']} ms, p95 {spread['p95']}, max {spread['max']}"
        live.say(f"{text}; peak memory {part['memory']['peak_mb']} MB")
    live.warn_of_others(max(result[name]["cores_busy_with_others"] for name in names))
    live.say(f"{result['queries']} queries: {result['lost']} lost, {result['untrue']} incorrect answers")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--names", required=True)
    arguments.add_argument("--swaps", type=int, default=200)
    arguments.add_argument("--rate", type=int, default=2000, help="queries per second")
    arguments.add_argument("--interval", type=float, default=0.6, help="seconds between changes, at least")
    arguments.add_argument("--edit-latency", type=int, default=0, metavar="N")
    arguments.add_argument("--big-edits", type=int, default=None, metavar="N")
    arguments.add_argument("--workers", type=int, default=0, help="of the server; 0: one per core")
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()
    sys.setswitchinterval(0.0002)  # a thread must not delay the load
    if options.big_edits is None:
        options.big_edits = 1 if options.edit_latency else 0
    with live.workshop("swap") as folder, upstream.Upstream(folder) as above:
        scene = Scene(folder, options)
        lists = [{"name": n, "path": p} for n, p in (("big", scene.big), ("small", scene.small))]
        with live.Tapis(options.binary, folder, above.port, lists, options.workers) as server:
            result = {"tool": "swap", "options": vars(options), "start_seconds": round(server.wait(), 2)}
            result["rules"] = {l["name"]: l["rules"] for l in server.status()["lists"]}
            figures, failures = measure(scene, server, above, options)
    result |= figures
    print_summary(result, [name for name in result if isinstance(result[name], dict) and "queries" in result[name]])
    live.finish(result, failures)


if __name__ == "__main__":
    main()
