#!/usr/bin/env -S python3 -B
"""What does it cost to record queries: by dnstap, in the query log, in both, with top lists too?

    benches/live/recording.py --binary target/release/tapis [--seconds 5] [--rounds 5] [--ways off,log,...]

The server has one worker; half of the queries are for 20,000 blocked names, half for 10,000 cached ones. Each round
runs all ways in turn, and each of them twice with dnsperf:

    full     as fast as dnsperf can: CPU time per answered query, of the worker (the packets' path) and of the whole
             server, as a multiple of the same with recording off
    half     at half of the throughput that this way had: how many queries are missing in the records

The receiver of dnstap is a part of this tool that only counts bytes. The log is written to --folder, by default that of
temporary files. Give the server's worker, its other threads and dnsperf cores of their own if the machine has them: the
recorder's threads run where the system puts them. CPU times are per thread, from /proc, so other processes affect them
less than they affect the throughput.

Exit code 1 if a query is missing at half of the throughput. Needs dnsperf.
"""

import argparse
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import threading
import time

import dns
import live
import upstream

BLOCKED, CACHED = 20_000, 10_000
LINES = 100_000
CONTENT = b"protobuf:dnstap.Dnstap"
LOG = '[query-log]\nfile = "{folder}/queries.jsonl"\nkeep = 1\n'
TAP = '[dnstap]\nsocket = "{folder}/tap.sock"\n'
TOP = "[top]\nenabled = true\n"
WAYS = {"off": "", "log": LOG, "dnstap": TAP, "both": LOG + TAP, "top": TOP, "all": LOG + TAP + TOP}


class Receiver:
    """Accepts streams of dnstap, and reads them. It is a process of its own, so that it does not slow this one."""

    def __init__(self, path):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.child = os.fork()
        if self.child == 0:
            live.signal.signal(live.signal.SIGTERM, live.signal.SIG_DFL)
            live.prepare(None)()
            while True:
                stream, _ = self.listener.accept()
                threading.Thread(target=self.read, args=(stream,), daemon=True).start()

    @staticmethod
    def control(kind):
        field = (1).to_bytes(4, "big") + len(CONTENT).to_bytes(4, "big") + CONTENT
        body = kind.to_bytes(4, "big") + field
        return bytes(4) + len(body).to_bytes(4, "big") + body

    def read(self, stream):
        stream.recv(4096)
        stream.sendall(self.control(1))
        room = bytearray(1 << 20)
        while stream.recv_into(room):
            pass

    def end(self):
        os.kill(self.child, 15)
        os.waitpid(self.child, 0)


def threads(pid):
    """CPU seconds of each thread, by name."""
    seconds = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/schedstat") as fields, open(f"/proc/{pid}/task/{task}/comm") as comm:
                name = comm.read().strip()
                seconds[name] = seconds.get(name, 0) + int(fields.read().split()[0]) / 1e9
        except OSError:  # it ended
            pass
    return seconds


def kinds(before, after):
    """CPU seconds of the worker, of the recorder's threads, and of all threads."""
    used = {name: after[name] - before.get(name, 0) for name in after}
    worker = sum(value for name, value in used.items() if re.match(r"tapis-(udp|worker)", name))
    recorder = sum(value for name, value in used.items() if re.match(r"tapis-(recorder|query-log)", name))
    return worker, recorder, sum(used.values())


class Bench:
    def __init__(self, options, folder, above):
        self.options, self.folder, self.above = options, folder, above
        self.names = os.path.join(folder, "names")
        blocked = [f"n{number}.blocked.example" for number in range(BLOCKED)]
        live.write_names(self.names, blocked)
        queries = live.random.Random(1).choices(blocked, k=LINES // 2)
        cached = [f"www{number}.cached.example.org" for number in range(CACHED)]
        queries += live.random.Random(2).choices(cached, k=LINES // 2)
        live.random.Random(3).shuffle(queries)
        self.queries = self.write("queries", queries)
        self.warm = self.write("warm", cached)

    def write(self, name, names):
        path = os.path.join(self.folder, f"{name}.queries")
        with open(path, "w") as out:
            out.writelines(f"{name} A\n" for name in names)
        return path

    def dnsperf(self, server, path, *more):
        command = ["dnsperf", "-s", dns.LOOPBACK, "-p", server.port, "-d", path, "-T", 1, "-c", 8, "-t", 3, *more]
        command = [str(word) for word in command]
        done = subprocess.run(command, capture_output=True, text=True, preexec_fn=live.prepare(self.options.client_cpu))
        found = re.search(r"Queries completed:\s+(\d+).*Queries per second:\s+([\d.]+)", done.stdout, re.S)
        if not found:
            raise live.Failure(f"dnsperf: {done.stdout}{done.stderr}")
        return int(found[1]), float(found[2])

    def run(self, way):
        folder = os.path.join(self.options.folder or self.folder, way)
        os.makedirs(folder, exist_ok=True)
        with Receiving(folder, WAYS[way]):
            list_ = {"name": "ads", "path": self.names, "action": "nxdomain"}
            server = Recording(self.options, folder, self.above, list_, WAYS[way].format(folder=folder))
            with server:
                server.wait()
                self.dnsperf(server, self.warm, "-n", 1)
                full = self.measure(server, self.options.seconds)
                half = self.measure(server, self.options.seconds, "-Q", int(full["qps"] / 2))
        for name in os.listdir(folder):
            if name.startswith("queries.jsonl"):
                os.remove(os.path.join(folder, name))
        return {"full": full, "half": half}

    def measure(self, server, seconds, *more):
        missed = self.missing(server)
        before = threads(server.pid)
        count, qps = self.dnsperf(server, self.queries, "-l", seconds, *more)
        worker, recorder, total = kinds(before, threads(server.pid))
        time.sleep(0.5)  # the last records are passed on
        missed = {sink: now - missed.get(sink, 0) for sink, now in self.missing(server).items()}
        return {
            "qps": qps,
            "queries": count,
            "worker_us": worker * 1e6 / count,
            "recorder_us": recorder * 1e6 / count,
            "total_us": total * 1e6 / count,
            "missing": missed,
        }

    def missing(self, server):
        recording = server.status()["recording"]
        sinks = {name: sink for name, sink in recording.items() if name in ("query_log", "dnstap")}
        return {name: sink["dropped"] + sink["lost"] for name, sink in sinks.items()}


class Recording(live.Tapis):
    def __init__(self, options, folder, above, list_, section):
        self.section = section
        super().__init__(options.binary, folder, above.port, [list_], workers=1, cpu=None)

    def write_config(self, sections):
        super().write_config([*sections[:1], self.section, *sections[1:]])


class Receiving:
    """A context with a receiver, if the configuration has one."""

    def __init__(self, folder, section):
        self.path = os.path.join(folder, "tap.sock") if "[dnstap]" in section else None

    def __enter__(self):
        if self.path and os.path.exists(self.path):
            os.remove(self.path)
        self.receiver = Receiver(self.path) if self.path else None

    def __exit__(self, *_):
        if self.receiver:
            self.receiver.end()
            self.receiver.listener.close()


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--seconds", type=float, default=5)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--ways", default=",".join(WAYS), help="off is always among them")
    arguments.add_argument("--folder", help="of the log, to measure a certain disk")
    arguments.add_argument("--client-cpu", type=int, help="of dnsperf and the upstream")
    arguments.add_argument("--json", help="a file for all figures")
    options = arguments.parse_args()
    live.need("dnsperf", "dnsperf")
    ways = ["off", *(way for way in options.ways.split(",") if way != "off")]
    runs = {way: [] for way in ways}
    with live.workshop("recording") as folder, upstream.Upstream(folder, ttl=86400, cpu=options.client_cpu) as above:
        bench = Bench(options, folder, above)
        for number in range(options.rounds):
            for way in ways if number % 2 == 0 else ways[::-1]:
                runs[way].append(bench.run(way))
    if options.json:
        with open(options.json, "w") as out:
            json.dump(runs, out)
    print("way           q/s   worker µs        recorder µs   server µs        missing at full | at half")
    for way in ways:
        print(line(way, runs))
    sys.exit(any(count for way in ways for run in runs[way] for count in run["half"]["missing"].values()))


def line(way, runs):
    """The medians of a way's rounds at full speed, and the shares of its queries that are missing."""

    def median(of, key):
        return statistics.median(run["full"][key] for run in runs[of])

    def cost(key):
        return f"{median(way, key):5.2f} ({median(way, key) / median('off', key):.2f} x)"

    def missing(load):
        asked = sum(run[load]["queries"] for run in runs[way])
        sinks = runs[way][0][load]["missing"]
        counts = {sink: sum(run[load]["missing"][sink] for run in runs[way]) for sink in sinks}
        return ", ".join(f"{sink} {count / asked:.3%}" for sink, count in counts.items()) or "-"

    costs = f"{cost('worker_us')}   {median(way, 'recorder_us'):11.2f}   {cost('total_us')}"
    return f"{way:7} {median(way, 'qps'):9,.0f}   {costs}   {missing('full')} | {missing('half')}"


if __name__ == "__main__":
    main()
