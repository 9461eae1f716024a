"""One measurement of a server: its throughput, or latencies at a steady rate."""

import json
import os
import re
import subprocess

import dns
import live

MOST_LOST = 0.001
UNKNOWN_A_SECOND = 120_000  # more than a server and an upstream on one core can answer
TICKS_OFF = 0.05  # seconds by which the sums of ticks and of nanoseconds may differ


class Tools:
    """dnsperf and pace, on the core that they share with the upstream."""

    def __init__(self, options, queries):
        self.options, self.queries = options, queries
        self.pace_program = os.path.join(options.target, "examples", "pace")

    def run(self, command):
        done = subprocess.run(["taskset", "-c", self.options.load_cpu, *command], capture_output=True, text=True)
        if done.returncode:
            raise live.Failure(f"{os.path.basename(command[0])} fails: {done.stderr or done.stdout}")
        return done.stdout

    def dnsperf(self, port, path, *more):
        options = self.options
        command = ["dnsperf", "-s", dns.LOOPBACK, "-p", str(port), "-d", path, "-T", "1", "-t", "3"]
        command += ["-c", str(options.clients), "-q", str(options.outstanding), *more]
        return read_dnsperf(self.run(command))

    def fast(self, port, mix, seconds):
        once = ["-n", "1"] if mix == "unknown" else []
        report = self.dnsperf(port, self.queries.path(mix), "-l", str(seconds), *once)
        # Waiting for an answer that never arrives is not part of the query time.
        asking = min(report["seconds"], seconds) or seconds
        return report | {"asking_seconds": asking, "qps": round(report["answered"] / asking)}

    def warm(self, port, mix):
        if mix in ("cached", "mixed"):
            self.dnsperf(port, self.queries.path("warm"), "-n", "1")

    def steady(self, port, mix, kind, rate, seconds=None):
        self.warm(port, mix)
        command = [self.pace_program, "--server", f"{dns.LOOPBACK}:{port}", "--rate", str(rate)]
        command += ["--queries", self.queries.paced(mix, kind)]
        command += ["--seconds", str(seconds or self.options.latency_seconds)]
        return json.loads(self.run([*command, "--sockets", str(self.options.clients)]))


def read_dnsperf(text):
    def number(words):
        found = re.search(words + r":\s+([\d.]+)", text)
        return float(found.group(1)) if found else 0.0

    codes = re.search(r"Response codes:\s+(.*)", text)
    return {
        "sent": int(number("Queries sent")),
        "answered": int(number("Queries completed")),
        "lost": int(number("Queries lost")),
        "seconds": number(r"Run time \(s\)"),
        "bytes": [int(size) for size in re.findall(r"(?:request|response) (\d+)", text)],
        "rcodes": {code: int(count) for code, count in re.findall(r"(\w+) (\d+)", codes.group(1) if codes else "")},
    }


def spent(server, nanos, ticks):
    """CPU seconds since those readings. Nanoseconds of ended threads are lost, their ticks are not."""
    now = server.cpu_nanos()
    exact = sum(value - nanos.get(task, 0) for task, value in now.items()) / 1e9
    coarse = server.cpu_seconds() - ticks
    return exact if abs(exact - coarse) < TICKS_OFF else coarse


def fast(server, mix, tools, above):
    """The throughput; `void` has the reasons for which it does not count."""
    options, queries = tools.options, tools.queries
    tools.warm(server.port, mix)
    checks = server.name != "echo"
    void = list(queries.check(server.port, mix)) if checks else []
    foreign = live.foreign_seconds(server, above)
    nanos, ticks = server.cpu_nanos(), server.cpu_seconds()
    report = tools.fast(server.port, mix, options.seconds)
    cpu = spent(server, nanos, ticks)
    foreign = live.foreign_seconds(server, above) - foreign
    void += unexpected(report)
    void += queries.check(server.port, mix) if checks else []
    report["cpu_us"] = round(cpu / max(1, report["answered"]) * 1e6, 3)
    report["busy"] = round(cpu / report["asking_seconds"], 3)
    report["cores_busy_with_others"] = round(foreign / report["asking_seconds"], 2)
    return report | {"memory": server.memory(), "void": void[: live.SHOWN]}


def unexpected(report):
    """Results of dnsperf that make a measurement void."""
    if set(report["rcodes"]) != {"NOERROR"}:
        yield f"rcodes {report['rcodes']}"
    if report["lost"] > MOST_LOST * report["sent"]:
        yield f"{report['lost']} of {report['sent']} lost"


def pairs(one, other, mix, rate, tools):
    """Steady runs of two servers in turn, one second each, so that both see the same conditions."""
    runs = {one.name: [], other.name: []}
    for number in range(tools.options.latency_runs):
        for server in (one, other) if number % 2 else (other, one):
            runs[server.name].append(tools.steady(server.port, mix, "own", rate, tools.options.pair_seconds))
    return {"mix": mix, "rate": rate, "runs": runs}
