"""A whole run: the servers, and their measurements in sequence."""

import contextlib
import os
import statistics
import time

import live
import measure
import upstream
from lists import Lists
from queries import Queries
from reload import Reload
from servers import ALL, Field
from summary import KINDS

MEMORY_SHARE = 0.75  # of the available memory that all servers together may use
OWN_MEMORY = 100e6  # the maximum of a server without a list, with a cache
PAIR_MIX = "mixed"


def portable(value):
    """A value of an option, with a path as others can read it: below the repository, or the file's name."""
    if not isinstance(value, str) or not os.path.isabs(value):
        return value
    repository = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    below = os.path.relpath(value, repository)
    return os.path.basename(value) if below.startswith("..") else below


class Bench:
    def __init__(self, options, folder, names, popular):
        self.options, self.names = options, names
        stay_on(options.load_cpu)
        for part in ("lists", "queries", "servers"):
            os.mkdir(os.path.join(folder, part))
        lists = Lists(os.path.join(folder, "lists"), names)
        self.queries = Queries(os.path.join(folder, "queries"), lists, popular, options.seed)
        self.tools = measure.Tools(options, self.queries)
        self.above = upstream.Upstream(folder, ttl=86400)
        place = os.path.join(folder, "servers")
        self.field = Field(place, lists, self.above.port, options.server_cpu, options.workers, options.target)
        self.rates, self.growth = {kind: {} for kind in KINDS}, {}
        self.loads, self.runs, self.steady, self.reloads, self.left_out = {}, [], [], {}, {}
        self.together = True

    def run(self):
        started = time.time()
        with self.above:
            kinds = self.present()
            self.grow()
            self.rounds(kinds)
            pairs = self.pairs() if self.options.latency_runs and PAIR_MIX in self.options.mixes else None
        change = self.field.lists.changes["whole"]
        return {
            "tool": "peers",
            "started": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(started)),
            "seconds": round(time.time() - started),
            "options": {name: portable(value) for name, value in vars(self.options).items()},
            "machine": live.machine() | {"receive_buffer": receive_buffer()},
            "names": len(self.names),
            "versions": {kind.name: kind.version(self.field) for kind in kinds},
            "notes": {kind.name: kind.note for kind in kinds},
            "all_up_together": self.together,
            "rates": self.rates,
            "bytes_of_answers_above_queries": self.growth,
            "change": {"gone": len(change.gone), "came": len(change.came)},
            "cdb_seconds": self.field.lists.cdb_seconds,
            "loads": self.loads,
            "runs": self.runs,
            "steady": self.steady,
            "pairs": pairs,
            "reloads": self.reloads,
            "left_out": self.left_out,
        }

    # What there is.

    def present(self):
        """The kinds of servers that can be measured; others are reported."""
        kinds = []
        for name in self.options.servers:
            kind = ALL[name]
            if not kind.find(self.field):
                self.leave_out(name, f"`{kind.program}` is not installed; it is in {kind.package}")
            elif self.options.workers > kind.most_workers:
                self.leave_out(name, f"has at most {kind.most_workers} worker per process")
            else:
                kinds.append(kind)
        return kinds

    def leave_out(self, name, why):
        if name in ("tapis", "echo"):
            raise live.Failure(f"{name}: {why}")
        self.left_out[name] = why
        live.say(f"{name} is left out: {why}")

    def fit(self, kinds):
        """Whether all servers can run at once, so that rounds need no loading."""
        with open("/proc/meminfo") as info:
            available = next(int(line.split()[1]) * 1024 for line in info if line.startswith("MemAvailable"))
        sizes = [kind.bytes_per_name for kind in kinds]
        # A reload, of one server at a time, may need twice as much.
        need = (sum(sizes) + max(sizes)) * len(self.names) + OWN_MEMORY * len(kinds)
        return need < MEMORY_SHARE * available

    @contextlib.contextmanager
    def started(self, kind):
        """A server that has loaded its list and is idle; None if that fails."""
        with contextlib.ExitStack() as stack:
            try:
                server = stack.enter_context(kind(self.field))
                loaded = server.load() | server.memory()
            except live.Failure as failure:
                self.leave_out(kind.name, str(failure))
                yield None
                return
            self.loads.setdefault(kind.name, []).append(loaded)
            live.say(f"{kind.name}: loaded after {loaded['load_seconds']:.2f} s, {loaded['rss_mb']:.1f} MB")
            yield server

    def grow(self):
        """The difference in length between an answer and its query."""
        self.renew()
        with ALL["tapis"](self.field) as tapis:
            tapis.load()
            for mix in self.options.mixes:
                self.tools.warm(tapis.port, mix)
                self.growth[mix] = self.queries.growth(tapis.port, mix)

    def renew(self):
        """New queries: for dnsperf until the rates are known, then for pace."""
        own = self.rates["own"]
        fast = 0 if own or "unknown" not in self.options.mixes else self.options.seconds * measure.UNKNOWN_A_SECOND
        paced = {}
        for kind in KINDS:
            rate = max((rates.get("unknown", 0) for rates in self.rates[kind].values()), default=0)
            paced[kind] = int(rate * self.options.latency_seconds) + 1
        self.queries.renew(int(fast), paced)

    # Rounds: throughput of all servers first, then latencies at rates that follow from it.

    def rounds(self, kinds):
        self.together = self.fit(kinds)
        if not self.together:
            live.say("not enough memory for all servers together: each is restarted in each round")
            self.rounds_with_restarts(kinds, self.measure_fast)
            self.find_rates()
            self.rounds_with_restarts(kinds, self.measure_steady, self.reload)
            return
        with contextlib.ExitStack() as stack:
            up = [stack.enter_context(self.started(kind)) for kind in kinds]
            up = [server for server in up if server]
            self.rounds_together(up, self.measure_fast)
            self.find_rates()
            self.rounds_together(up, self.measure_steady)
            for server in up:
                self.reload(server)

    def rounds_together(self, up, measured):
        for number in range(self.options.rounds):
            self.renew()
            for mix in self.options.mixes:
                for server in rotated(up, number, self.options.rounds):
                    self.measure(server, mix, number, measured)

    def rounds_with_restarts(self, kinds, measured, last=lambda server: None):
        for number in range(self.options.rounds):
            self.renew()
            for kind in rotated(kinds, number, self.options.rounds):
                if kind.name in self.left_out:
                    continue
                with self.started(kind) as server:
                    for mix in self.options.mixes if server else ():
                        self.measure(server, mix, number, measured)
                    if server and number == self.options.rounds - 1:
                        last(server)

    def measure(self, server, mix, number, measured):
        if mix not in server.mixes or server.name in self.left_out:
            return
        if server.name == "echo":
            server.lengthen(self.growth[mix])
        server.drain()
        measured(server, mix, {"server": server.name, "mix": mix, "round": number})
        if not server.alive():
            self.leave_out(server.name, f"ended in round {number}:\n{server.tail()}")

    def measure_fast(self, server, mix, run):
        try:
            run |= measure.fast(server, mix, self.tools, self.above)
            report = f"{run['qps']:,} q/s, {run['cpu_us']:.2f} µs CPU"
        except live.Failure as failure:
            run["void"], report = [str(failure)], str(failure)
        live.say(f"{server.name}, {mix}: {report}{', VOID: ' + run['void'][0] if run['void'] else ''}")
        self.runs.append(run)

    def find_rates(self):
        """Half of the throughput of each server, and half of that of the slowest."""
        reached = {}
        for run in self.runs:
            if not run["void"]:
                reached.setdefault(run["server"], {}).setdefault(run["mix"], []).append(run["qps"])
        own = {server: {mix: half(qps) for mix, qps in mixes.items()} for server, mixes in reached.items()}
        every = {mix: [rates[mix] for rates in own.values() if mix in rates] for mix in self.options.mixes}
        common = {mix: self.options.rate or min(rates) for mix, rates in every.items() if rates}
        self.rates = {"own": own, "common": {server: common for server in own}}
        live.say("common rates: " + ", ".join(f"{mix} {rate:,}" for mix, rate in common.items()))

    def measure_steady(self, server, mix, run):
        for kind in KINDS:
            rate = self.rates[kind].get(server.name, {}).get(mix)
            if rate is None or mix not in self.rates["own"][server.name]:
                continue
            try:
                report = self.tools.steady(server.port, mix, kind, rate)
            except live.Failure as failure:
                live.say(f"{server.name}, {mix}: {failure}")
                continue
            live.say(f"{server.name}, {mix}, {rate:,} per second: p99 {report['p99_us']} µs, {report['lost']} lost")
            self.steady.append(run | {"kind": kind, "waits": report})
            server.drain()

    def pairs(self):
        rate = min(self.rates["own"].get(server, {}).get(PAIR_MIX, 0) for server in ("tapis", "echo"))
        if not rate:
            return None
        with ALL["tapis"](self.field) as tapis, ALL["echo"](self.field) as echo:
            tapis.load()
            echo.lengthen(self.growth[PAIR_MIX])
            return measure.pairs(tapis, echo, PAIR_MIX, rate, self.tools)

    def reload(self, server):
        if self.options.no_reload or server.state() != "old":
            return
        for kind in [*server.ways, "whole"]:
            if server.name not in self.left_out:
                self.reloads.setdefault(server.name, {})[kind] = self.change(server, kind)

    def change(self, server, kind):
        try:
            report = Reload(server, self.queries, self.options, kind).run()
        except live.Failure as failure:
            live.say(f"{server.name}, {kind}: {failure}")
            return {"void": str(failure)}
        silence, lost = report["longest_silence_ms"], report["lost"]
        live.say(f"{server.name}, {kind}: silence {silence} ms, {lost} lost, in force {report['in_force_seconds']} s")
        return report


def half(qps):
    rate = statistics.median(qps) / 2
    return max(1, int(round(rate, -1 if rate < 10_000 else -2)))


def receive_buffer():
    """The bytes of a socket's receive buffer by default."""
    with open("/proc/sys/net/core/rmem_default") as default:
        return int(default.read())


def stay_on(cpus):
    """Pins this process, which is part of the load."""
    try:
        os.sched_setaffinity(0, {int(cpu) for cpu in cpus.split(",")})
    except (OSError, ValueError) as error:
        raise live.Failure(f"core {cpus} is unavailable ({error}); --load-cpu and --server-cpu name others") from error


def rotated(items, number, rounds):
    """Each round begins with another element."""
    at = number * len(items) // rounds
    return items[at:] + items[:at]
