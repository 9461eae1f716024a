#!/usr/bin/env -S python3 -B
"""The server beside Unbound and hickory-dns: queries a second, CPU a query, memory, time to load.

    benches/live/baseline.py --binary target/release/tapis --names FILE [--top FILE]
                             [--seconds 10] [--rounds 3] [--servers tapis,unbound,hickory-dns]

All get the same names to block (FILE, a name a line) and the same upstream on loopback, one thread,
and a core of their own; dnsperf and the upstream share another. Each round starts each server anew,
in turn, and asks it two mixes as fast as it answers:

    cached   5 % blocked names, drawn from all of FILE; the rest 10,000 names that are in its cache
    unknown  names that were never asked before, so each goes upstream

The names that are not blocked are of --top (a name a line, popular ones first) where FILE blocks
nothing of it, and made up without it. CPU is the server's own user and system time. Before and after
each mix the answers to some hundred names of it are compared with what they have to be, and dnsperf
has to report NOERROR alone and next to no loss: else the measurement is void and told as a failure.

Needs dnsperf; unbound and hickory-dns are left out where they are not installed. What is compared,
see peers.py. Where its core is not all busy, dnsperf or the upstream is what limits the queries a
second, and only the CPU a query compares. Prints the medians and the spread (least to most) as a
Markdown table to stderr.
"""

import argparse
import os
import random
import re
import statistics
import subprocess

import dns
import live
import peers
import upstream

MIXES = ("cached", "unknown")
FIGURES = ("qps", "cpu_us", "server_core_busy", "latency_ms")
CACHED = 10_000
BLOCKED_SHARE = 0.05
MIX_LINES = 400_000
UNKNOWN_A_SECOND = 120_000  # more than a server and an upstream on one core can do
CHECKED = 300
LOCAL = {"localhost", "test", "invalid", "onion", "arpa", "local", "internal", "example"}
MOST_LOST = 0.001


class Questions:
    """The files that dnsperf reads."""

    def __init__(self, folder, options):
        self.folder, self.random = folder, random.Random(options.seed)
        names = live.read_names(options.names)
        self.blocked = [n for n in names if n.rpartition(".")[2] not in LOCAL]
        every = set(names)
        tops = live.read_names(options.top) if options.top else [f"www{i}.site{i % 997}.org" for i in range(20_000)]
        clean = (n for n in tops if not any(n.split(".", i)[-1] in every for i in range(n.count(".") + 1)))
        self.free = [n for n in clean if n.rpartition(".")[2] not in LOCAL]
        self.cached = self.free[:CACHED]
        self.unknown = []
        share = [self.random.random() < BLOCKED_SHARE for _ in range(MIX_LINES)]
        mix = [self.random.choice(self.blocked if blocked else self.cached) for blocked in share]
        self.blocked_share = sum(share) / len(share)
        self.write("warm", self.cached)
        self.write("cached", mix)

    def path(self, mix):
        return os.path.join(self.folder, f"{mix}.queries")

    def write(self, mix, names):
        with open(self.path(mix), "w") as out:
            out.writelines(f"{name} A\n" for name in names)

    def renew(self, seconds):
        """Unknown names that no round before had."""
        count = seconds * UNKNOWN_A_SECOND
        label = self.random.getrandbits(32)
        self.unknown = [f"u{label:x}-{i:x}.{self.free[i % len(self.free)]}" for i in range(count + CHECKED)]
        self.write("unknown", self.unknown[CHECKED:])

    def check(self, port, mix):
        """What is wrong with some answers; nothing if the server does as it should."""
        cases = [(name, "blocked") for name in live.sample(self.blocked, CHECKED, self.random.random())]
        free = self.cached if mix == "cached" else self.unknown[:CHECKED]
        cases += [(name, "true") for name in live.sample(free, CHECKED, self.random.random())]
        for name, want in cases:
            reply = dns.ask(port, dns.query(name, ident=self.random.getrandbits(16)))
            got, detail = dns.classify(reply, dns.A, None) if reply else ("no answer", None)
            if got != want:
                yield f"{name} is {got} ({detail}), not {want}"


def dnsperf(port, path, options, *more):
    """What dnsperf tells of a run."""
    command = ["dnsperf", "-s", dns.LOOPBACK, "-p", str(port), "-d", path, "-T", "1", "-c", "8", "-t", "3"]
    command += ["-q", str(options.outstanding), *more]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=live.prepare(options.client_cpu))
    if done.returncode:
        raise live.Failure(f"dnsperf fails: {done.stderr}")

    def number(words):
        return float(re.search(words + r":\s+([\d.]+)", done.stdout).group(1))

    codes = re.search(r"Response codes:\s+(.*)", done.stdout)
    return {
        "sent": int(number("Queries sent")),
        "answered": int(number("Queries completed")),
        "lost": int(number("Queries lost")),
        "seconds": number(r"Run time \(s\)"),
        "qps": round(number("Queries per second")),
        "latency_ms": round(number(r"Average Latency \(s\)") * 1e3, 3),
        "rcodes": {code: int(count) for code, count in re.findall(r"(\w+) (\d+)", codes.group(1) if codes else "")},
    }


def run_mix(server, mix, questions, above, options):
    """One measurement; `void` tells why it doesn't count."""
    if mix == "cached":
        dnsperf(server.port, questions.path("warm"), options, "-n", "1")
    void = list(questions.check(server.port, mix))
    cpu, foreign = server.cpu_seconds(), live.foreign_seconds(server, above)
    limits = ["-l", str(options.seconds)] + (["-n", "1"] if mix == "unknown" else [])
    told = dnsperf(server.port, questions.path(mix), options, *limits)
    spent = server.cpu_seconds() - cpu
    foreign = live.foreign_seconds(server, above) - foreign
    void += questions.check(server.port, mix)
    if set(told["rcodes"]) != {"NOERROR"}:
        void.append(f"rcodes {told['rcodes']}")
    if told["lost"] > MOST_LOST * told["sent"]:
        void.append(f"{told['lost']} of {told['sent']} lost")
    told["cpu_us"] = round(spent / max(1, told["answered"]) * 1e6, 2)
    told["server_core_busy"] = round(spent / told["seconds"], 2)
    told["cores_busy_with_others"] = round(foreign / told["seconds"], 2)
    return told | {"memory": server.memory(), "void": void[: live.SHOWN]}


def first_answer(server, questions):
    """Seconds from the start to the first right answer about a blocked name."""
    packet = dns.query(questions.blocked[-1])

    def ready():
        reply = dns.ask(server.port, packet, 0.2)
        return reply and dns.classify(reply, dns.A, None)[0] == "blocked"

    return server.wait_for(ready)


def measure(field, name, questions, above, options):
    with field.start(name, above.port) as server:
        result = {"server": name, "load_seconds": round(first_answer(server, questions), 2)}
        result["memory"] = server.memory()
        for mix in MIXES:
            result[mix] = run_mix(server, mix, questions, above, options)
            live.say(f"{name}, {mix}: {result[mix]['qps']} q/s, {result[mix]['cpu_us']} µs a query")
    return result


def spread(values):
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def table(summary, names):
    """Markdown: the medians, and in brackets the spread."""

    def cell(part, digits=1, unit=""):
        low, high = (f"{part[word]:,.{digits}f}" for word in ("least", "most"))
        return f"{part['median']:,.{digits}f}{unit} ({low} to {high})"

    lines = ["| server | load s | MB after load | bytes a name | mix | q/s | its core busy | CPU µs a query | MB after |"]
    lines.append("|" + "---|" * 9)
    for name, part in summary.items():
        for mix in MIXES:
            row = [name, cell(part["load_seconds"], 2), cell(part["mb"]), f"{part['mb']['median'] * 1e6 / names:.0f}"]
            row = row if mix == "cached" else [""] * 4
            busy = f"{part[mix]['server_core_busy']['median']:.0%}"
            row += [mix, cell(part[mix]["qps"], 0), busy, cell(part[mix]["cpu_us"], 2), cell(part[mix]["mb"])]
            lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def summarize(runs):
    summary = {}
    for name in dict.fromkeys(run["server"] for run in runs):
        own = [run for run in runs if run["server"] == name]
        part = {"load_seconds": spread([run["load_seconds"] for run in own])}
        part["mb"] = spread([run["memory"]["rss_mb"] for run in own])
        for mix in MIXES:
            part[mix] = {what: spread([run[mix][what] for run in own]) for what in FIGURES}
            part[mix]["mb"] = spread([run[mix]["memory"]["rss_mb"] for run in own])
        summary[name] = part
    return summary


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--names", required=True)
    arguments.add_argument("--top")
    arguments.add_argument("--seconds", type=int, default=10, help="of each mix")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--servers", default="tapis,unbound,hickory-dns")
    arguments.add_argument("--scope", default="subtree", help="of Tapis' list: exact or subtree")
    arguments.add_argument("--outstanding", type=int, default=100, help="queries that dnsperf has on their way")
    arguments.add_argument("--server-cpu", type=int, default=0)
    arguments.add_argument("--client-cpu", type=int, default=1, help="of dnsperf and the upstream")
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()
    runs = []
    with live.workshop("baseline") as folder:
        live.need("dnsperf", "dnsperf")
        questions, field = Questions(folder, options), peers.Field(folder, options)
        with upstream.Upstream(folder, ttl=86400, cpu=options.client_cpu) as above:
            for number in range(options.rounds):
                questions.renew(options.seconds)
                names = list(field.programs)
                for name in names[number % len(names) :] + names[: number % len(names)]:
                    runs.append(measure(field, name, questions, above, options) | {"round": number})
    summary, count = summarize(runs), len(live.read_names(options.names))
    live.say("\n" + table(summary, count) + "\n")
    result = {"tool": "baseline", "options": vars(options), "names": count, "summary": summary, "runs": runs}
    mixes = [(run, mix) for run in runs for mix in MIXES]
    live.warn_of_others(max(run[mix]["cores_busy_with_others"] for run, mix in mixes))
    voids = [f"{r['server']}, {mix}, round {r['round']}: {why}" for r, mix in mixes for why in r[mix]["void"]]
    live.finish(result | {"blocked_share": round(questions.blocked_share, 4)}, voids)


if __name__ == "__main__":
    main()
