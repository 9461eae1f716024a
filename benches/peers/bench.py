"""A whole run: which servers are there, what each of them is asked, in which order."""

import contextlib
import os
import time

import live
import measure
import upstream
from lists import Lists
from questions import Questions
from reload import Reload
from servers import ALL, Field

MEMORY_SHARE = 0.7  # of what is available, that all servers together may take
OWN_MEMORY = 100e6  # of a server without a list, at most, with a cache
PAIR_MIX = "mixed"


class Bench:
    def __init__(self, options, folder, names, tops):
        self.options, self.names = options, names
        stay_on(options.load_cpu)
        for part in ("lists", "queries", "servers"):
            os.mkdir(os.path.join(folder, part))
        lists = Lists(os.path.join(folder, "lists"), names)
        self.questions = Questions(os.path.join(folder, "queries"), lists, tops, options.seed)
        self.tools = measure.Tools(options, self.questions)
        self.above = upstream.Upstream(folder, ttl=86400)
        place = os.path.join(folder, "servers")
        self.field = Field(place, lists, self.above.port, options.server_cpu, options.workers, options.target)
        self.rates, self.growth = {}, {}
        self.loads, self.runs, self.reloads, self.left_out = {}, [], {}, {}

    def run(self):
        started = time.time()
        with self.above:
            kinds = self.present()
            self.calibrate()
            together = self.fit(kinds)
            (self.rounds_together if together else self.rounds_anew)(kinds)
            pairs = self.pairs() if self.options.latency_runs and PAIR_MIX in self.options.mixes else None
        return {
            "tool": "peers",
            "started": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(started)),
            "seconds": round(time.time() - started),
            "options": vars(self.options),
            "machine": live.machine(),
            "names": len(self.names),
            "versions": {kind.name: kind.version(self.field) for kind in kinds},
            "notes": {kind.name: kind.note for kind in kinds},
            "all_up_together": together,
            "rates": self.rates,
            "octets_of_answers_above_questions": self.growth,
            "loads": self.loads,
            "runs": self.runs,
            "pairs": pairs,
            "reloads": self.reloads,
            "left_out": self.left_out,
        }

    # What there is.

    def present(self):
        """The kinds of servers that can be measured; the others are told."""
        kinds = []
        for name in self.options.servers:
            kind = ALL[name]
            if not kind.find(self.field):
                self.leave_out(name, f"`{kind.program}` is not installed; it is in {kind.package}")
            elif self.options.workers > kind.most_workers:
                self.leave_out(name, f"has at most {kind.most_workers} worker a process")
            else:
                kinds.append(kind)
        return kinds

    def leave_out(self, name, why):
        if name in ("tapis", "echo"):
            raise live.Failure(f"{name}: {why}")
        self.left_out[name] = why
        live.say(f"{name} is left out: {why}")

    def fit(self, kinds):
        """Whether all servers can be up together, so that the rounds need no loading."""
        with open("/proc/meminfo") as info:
            available = next(int(line.split()[1]) * 1024 for line in info if line.startswith("MemAvailable"))
        need = sum(kind.octets_a_name * len(self.names) + OWN_MEMORY for kind in kinds)
        return need < MEMORY_SHARE * available

    @contextlib.contextmanager
    def started(self, kind):
        """A server that has its list and rests; None if it comes to nothing."""
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

    def calibrate(self):
        """The steady rates, and how much longer than a question an answer is."""
        seconds = self.options.calibration_seconds
        self.renew(seconds)
        with ALL["tapis"](self.field) as tapis, ALL["echo"](self.field) as echo:
            tapis.load()
            for mix in self.options.mixes:
                self.tools.warm(tapis.port, mix)
                self.growth[mix] = self.questions.growth(tapis.port, mix)
                echo.lengthen(self.growth[mix])
                pattern = tapis if mix == "unknown" else echo
                reached = self.tools.fast(pattern.port, mix, seconds)["qps"]
                self.rates[mix] = self.options.rate or max(1, round(reached / 2, -2))
        live.say("steady rates: " + ", ".join(f"{mix} {rate:,.0f}" for mix, rate in self.rates.items()))

    def renew(self, seconds):
        options = self.options
        unknown = int(seconds * measure.UNKNOWN_A_SECOND) if "unknown" in options.mixes else 0
        self.questions.renew(unknown, int(self.rates.get("unknown", 1) * options.latency_seconds) + 1)

    # Rounds.

    def rounds_together(self, kinds):
        with contextlib.ExitStack() as stack:
            up = [stack.enter_context(self.started(kind)) for kind in kinds]
            up = [server for server in up if server]
            for number in range(self.options.rounds):
                self.renew(self.options.seconds)
                for mix in self.options.mixes:
                    for server in rotated(up, number, self.options.rounds):
                        self.measure(server, mix, number)
            for server in up:
                self.reload(server)

    def rounds_anew(self, kinds):
        live.say("not enough memory for all servers together: each is started anew in each round")
        for number in range(self.options.rounds):
            self.renew(self.options.seconds)
            for kind in rotated(kinds, number, self.options.rounds):
                if kind.name in self.left_out:
                    continue
                with self.started(kind) as server:
                    for mix in self.options.mixes if server else ():
                        self.measure(server, mix, number)
                    if server and number == self.options.rounds - 1:
                        self.reload(server)

    def measure(self, server, mix, number):
        if mix not in server.mixes or server.name in self.left_out:
            return
        run = {"server": server.name, "mix": mix, "round": number}
        try:
            if server.name == "echo":
                server.lengthen(self.growth[mix])
            run |= measure.measure(server, mix, self.tools, self.above, self.rates[mix])
            steady = run["steady"]
            told = f"{run['qps']:,} q/s, {run['cpu_us']:.2f} µs CPU, p99 {steady['p99_us']} µs"
        except live.Failure as failure:
            run["void"], told = [str(failure)], str(failure)
        live.say(f"{server.name}, {mix}: {told}{', VOID: ' + run['void'][0] if run['void'] else ''}")
        self.runs.append(run)
        if not server.alive():
            self.leave_out(server.name, f"ended in round {number}:\n{server.tail()}")

    def pairs(self):
        with ALL["tapis"](self.field) as tapis, ALL["echo"](self.field) as echo:
            tapis.load()
            echo.lengthen(self.growth[PAIR_MIX])
            return measure.pairs(tapis, echo, PAIR_MIX, self.rates[PAIR_MIX], self.tools)

    def reload(self, server):
        if self.options.no_reload or server.state() != "old" or server.name in self.left_out:
            return
        try:
            told = Reload(server, self.questions, self.options).run()
            silence, lost = told["longest_silence_ms"], told["lost"]
            live.say(f"{server.name}, reload: silence {silence} ms, {lost} lost, in force {told['in_force_seconds']} s")
        except live.Failure as failure:
            told = {"void": str(failure)}
            live.say(f"{server.name}, reload: {failure}")
        self.reloads[server.name] = told


def stay_on(cpus):
    """The load is this process, too."""
    try:
        os.sched_setaffinity(0, {int(cpu) for cpu in cpus.split(",")})
    except (OSError, ValueError) as error:
        raise live.Failure(f"core {cpus} can't be had ({error}); --load-cpu and --server-cpu name others") from error


def rotated(row, number, rounds):
    """Each round begins with another one."""
    at = number * len(row) // rounds
    return row[at:] + row[:at]
