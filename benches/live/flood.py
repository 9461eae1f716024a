#!/usr/bin/env -S python3 -B
"""A flood of queries for new names: are blocked and cached names still answered at once?

    benches/live/flood.py --binary target/release/tapis --names FILE --pace PATH
                          [--flood 20000] [--rate N] [--seconds 20] [--rounds 5]

The server has one worker and a core for itself; clients and upstream share another. pace (built from
benches/peers/pace.rs) queries at --rate, by default half of dnsperf's throughput with the same
queries: half of them for names of FILE, half for 10,000 cached names. Latency counts from the moment
that the query was due. Each round runs three scenarios in turn:

    calm     nothing else happens
    beside   dnsperf queries upstream directly for --flood new names per second: the clients' core is as
             busy as with the flood, the server's is not
    flood    dnsperf sends these queries to the server, which has to ask upstream for each

The difference between `flood` and `beside` is caused by the server. Each run waits for an idle machine. It is
repeated, up to --tries times, if other processes used a part of a core: on a core that the server has to
share, queries are late and lost, whatever the server does.

Exit code 1 if with the flood a measured query is lost or not answered with NOERROR, if the median of
the rounds' p99 is above --bar, if the flood was weaker than configured, or if other processes never
left the cores free.
Needs dnsperf.
"""

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import time

import cores
import dns
import live
import upstream

CACHED = 10_000
LINES = 200_000  # measured queries, which are repeated in this order
CHECKED = 200  # names of each kind that are checked, before and after
SOURCE = "127.0.0.9"  # the flood's client address: the limit of waiting queries per client applies to it separately
OUTSTANDING = 10_000  # more than the flood ever has in flight
LEAD = 1.0  # seconds that the flood begins before the measured queries
LEAST_FLOOD = 0.9  # of the configured rate
QUIET = 0.1  # of a core that other processes may use during a run
PATIENCE = 60  # seconds to wait until other processes use less than QUIET
CALM, BESIDE, FLOOD = WAYS = "calm", "beside", "flood"
FIGURES = ("p50_us", "p99_us", "p999_us", "max_us", "late_p99_us", "lost", "server_core_busy")


class Bench:
    """The programs on the clients' core, and their input files."""

    def __init__(self, folder, options, server, above):
        self.folder, self.options, self.server, self.above = folder, options, server, above
        self.random, self.runs = random.Random(options.seed), 0
        names = live.read_names(options.names)
        self.names = {
            "blocked": [self.random.choice(names) for _ in range(LINES // 2)],
            "true": [f"www{number}.cached.example.org" for number in range(CACHED)],
        }
        measured = self.names["blocked"] + self.random.choices(self.names["true"], k=LINES // 2)
        self.random.shuffle(measured)
        self.measured = self.write("measured", measured)
        self.cached = self.write("cached", self.names["true"])

    def write(self, name, names):
        path = os.path.join(self.folder, f"{name}.queries")
        with open(path, "w") as out:
            out.writelines(f"{name} A\n" for name in names)
        return path

    def start(self, *command):
        command = [str(word) for word in command]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, preexec_fn=live.prepare(self.options.client_cpu), **pipes)

    def dnsperf(self, port, path, *more):
        return self.start("dnsperf", "-s", dns.LOOPBACK, "-p", port, "-d", path, "-T", 1, "-t", 3, *more)

    def warm(self):
        finish(self.dnsperf(self.server.port, self.cached, "-n", 1))

    def most(self):
        """The queries per second of dnsperf with the measured queries."""
        report = finish(self.dnsperf(self.server.port, self.measured, "-c", 8, "-l", 5))
        return number(report, "Queries per second")

    def flood(self, way):
        """Starts the flood; None in the scenario `calm`."""
        if way == CALM:
            return None
        options, self.runs = self.options, self.runs + 1
        seconds = options.seconds + 2 * LEAD
        label = f"{self.random.getrandbits(32):x}-{self.runs}"
        fresh = [f"u{i:x}.{label}.flood.example.net" for i in range(int(options.flood * seconds))]
        port = self.server.port if way == FLOOD else self.above.port
        more = ["-a", SOURCE, "-c", 8, "-q", OUTSTANDING, "-Q", options.flood, "-l", seconds, "-n", 1]
        return self.dnsperf(port, self.write("flood", fresh), *more)

    def measure(self):
        options = self.options
        measured = self.start(
            *(options.pace, "--server", f"{dns.LOOPBACK}:{self.server.port}", "--queries", self.measured),
            *("--rate", options.rate, "--seconds", options.seconds, "--sockets", 8),
        )
        return json.loads(finish(measured))

    def run(self, way):
        """One run of a scenario, and its figures."""
        self.warm()
        foreign, start = live.foreign_seconds(self.server, self.above), time.monotonic()
        flood = self.flood(way)
        time.sleep(LEAD)
        before = self.readings()
        report = self.measure()
        seconds, cpu, busy, waited = (now - then for now, then in zip(self.readings(), before))
        report |= {"way": way, "server_core_busy": round(cpu / seconds, 2)}
        report["server_core_busy_with_others"] = round((busy - cpu) / seconds, 2)
        report["server_waited"] = round(waited / seconds, 2)
        if flood:
            report["flood"] = read_flood(finish(flood), self.options)
        # The CPU time of dnsperf counts as this tool's only after dnsperf has ended.
        foreign = live.foreign_seconds(self.server, self.above) - foreign
        return report | {"cores_busy_with_others": round(foreign / (time.monotonic() - start), 2)}

    def readings(self):
        """The time, the server's CPU time, that of its core, and how long it waited for the core."""
        core = cores.busy(self.options.server_cpu)
        return time.monotonic(), self.server.cpu_seconds(), core, cores.waited(self.server.pid)

    def run_in_quiet(self, way):
        """The run with the least load of other processes among some tries."""
        tried = []
        while len(tried) < self.options.tries and not (tried and noise(tried[-1]) <= QUIET):
            self.wait_for_quiet()
            tried.append(self.run(way))
        return min(tried, key=noise) | {"tries": len(tried)}

    def wait_for_quiet(self):
        end, busy = time.monotonic() + PATIENCE, 1.0
        while busy > QUIET and (begin := time.monotonic()) < end:
            before = live.foreign_seconds(self.server, self.above)
            time.sleep(0.5)
            busy = (live.foreign_seconds(self.server, self.above) - before) / (time.monotonic() - begin)

    def faults(self):
        """Wrong answers among a sample."""
        for want, names in self.names.items():
            for name in self.random.sample(names, CHECKED):
                reply = dns.ask(self.server.port, dns.query(name, ident=self.random.getrandbits(16)))
                got, detail = dns.classify(reply, dns.A) if reply else ("not answered", None)
                if got != want:
                    yield f"{name} is {got} ({detail}), not {want}"


def noise(run):
    """The part of a core that other processes used, or the part of the time that the server waited for a core."""
    return max(run[word] for word in ("cores_busy_with_others", "server_core_busy_with_others", "server_waited"))


def finish(process):
    out, error = process.communicate()
    if process.returncode:
        raise live.Failure(f"{os.path.basename(process.args[0])} fails: {error or out}")
    return out


def number(report, words):
    return float(re.search(words + r":\s+([\d.]+)", report).group(1))


def read_flood(report, options):
    codes = re.search(r"Response codes:\s+(.*)", report)
    rate = number(report, "Queries sent") / (options.seconds + 2 * LEAD)
    return {
        "sent": int(number(report, "Queries sent")),
        "lost": int(number(report, "Queries lost")),
        "share_of_asked": round(rate / options.flood, 3),
        "rcodes": {code: int(count) for code, count in re.findall(r"(\w+) (\d+)", codes.group(1) if codes else "")},
    }


def summarize(runs):
    """By scenario: the median, minimum and maximum of each figure."""
    summary = {}
    for way in WAYS:
        own = [run for run in runs if run["way"] == way]
        values = {what: [run[what] for run in own] for what in FIGURES}
        summary[way] = {
            what: {"median": statistics.median(of), "least": min(of), "most": max(of)} for what, of in values.items()
        }
    return summary


def failures(runs, summary, options):
    for run in runs:
        if noise(run) > QUIET:
            yield f"{run['way']}: other processes used {noise(run)} of a core, so it is void"
        if set(run["rcodes"]) != {"NOERROR"}:
            yield f"{run['way']}: measured queries got {run['rcodes']}"
        if run["way"] == FLOOD and run["lost"]:
            yield f"with the flood {run['lost']} of {run['sent']} measured queries were lost"
        if run["way"] != CALM and run["flood"]["share_of_asked"] < LEAST_FLOOD:
            yield f"{run['way']}: the flood had only {run['flood']['share_of_asked']} of its rate"
    p99 = summary[FLOOD]["p99_us"]["median"] / 1e3
    if p99 > options.bar:
        yield f"with the flood p99 is {p99:.2f} ms, more than {options.bar} ms"


def print_summary(summary, runs):
    for way, part in summary.items():
        spread = (f"{what[:-3]} {part[what]['median'] / 1e3:.2f} ms" for what in FIGURES if what.endswith("_us"))
        text = f"{way}: {', '.join(spread)} (medians); p99 at most {part['p99_us']['most'] / 1e3:.2f} ms"
        lost = sum(run["lost"] for run in runs if run["way"] == way)
        live.say(f"{text}; {lost} lost; the server's core busy {part['server_core_busy']['median']:.0%}")
    live.warn_of_others(max(map(noise, runs)))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--names", required=True)
    arguments.add_argument("--pace", required=True, help="the program that sends queries at a steady rate")
    arguments.add_argument("--flood", type=int, default=20_000, help="new names per second")
    arguments.add_argument("--rate", type=int, help="measured queries per second; default: half of dnsperf's")
    arguments.add_argument("--seconds", type=int, default=20, help="of each scenario")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--tries", type=int, default=3, help="most tries of a run, until other processes leave its cores free")
    arguments.add_argument("--bar", type=float, default=5.0, help="maximum p99 with the flood in milliseconds")
    arguments.add_argument("--server-cpu", type=int, default=0)
    arguments.add_argument("--client-cpu", type=int, default=1, help="of pace, dnsperf and the upstream")
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()
    with live.workshop("flood") as folder, upstream.Upstream(folder, ttl=86400, cpu=options.client_cpu) as above:
        live.need("dnsperf", "dnsperf")
        lists = [{"name": "names", "path": os.path.abspath(options.names)}]
        with live.Tapis(options.binary, folder, above.port, lists, workers=1, cpu=options.server_cpu) as server:
            server.wait()
            bench = Bench(folder, options, server, above)
            bench.warm()
            found = list(bench.faults())
            options.rate = options.rate or int(bench.most() / 2)
            live.say(f"{options.rate} measured queries per second")
            runs = []
            for turn in range(options.rounds):
                at = turn % len(WAYS)
                runs += [bench.run_in_quiet(way) | {"round": turn} for way in WAYS[at:] + WAYS[:at]]
            found += bench.faults()
            counters, memory = server.status()["counters"], server.memory()
    summary = summarize(runs)
    print_summary(summary, runs)
    result = {"tool": "flood", "options": vars(options), "summary": summary, "runs": runs}
    counters = {name: count for name, count in counters.items() if count}
    live.finish(result | {"counters": counters, "memory": memory}, found + list(failures(runs, summary, options)))


if __name__ == "__main__":
    main()
