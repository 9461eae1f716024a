#!/usr/bin/env -S python3 -B
"""Compares Tapis with other DNS servers: the cost of a query, its latency, the memory of the list.

    benches/peers/run.py [--names FILE] [--top FILE] [--rounds 3] [--seconds 2] [--out DIR]
                         [--servers a,b] [--mixes a,b] [--quick] [--docs]

Measures each installed server of servers/, with one worker thread. All servers have the same upstream on
loopback, and block the same names: those of the file --names, one per line, or generated names if there is no
such option. The server has one core; dnsperf, pace and the upstream share another. Every round sends each mix
to each server, in turn:

    blocked  names of the list, in random order
    cached   10,000 popular names, which are in the server's cache
    mixed    5 % blocked, the rest cached
    unknown  new names, so each query needs upstream

All rounds at full throughput (dnsperf) come first. The rounds at two steady rates (pace) follow: half of the
server's own throughput, and half of that of the slowest server. The echo is a program that sends each query
back: its figures are the kernel's share of all figures. TAPIS_BEFORE=PATH measures another build of Tapis as
well. Finally the list of each server is changed, in each way that the server supports, under a load of 2,000
queries per second.

A server that sets no receive buffer for its sockets gets the system's default, which is small. Operators of
such a server enlarge that default: sysctl -w net.core.rmem_default=4194304.

Before and after each measurement answers are compared with the expected ones, and dnsperf must report
only NOERROR and almost no loss: else the measurement is void. Writes table.md, chart.svg and
result.json to --out; --docs puts them into docs/. Needs dnsperf, nsd, and Debian's packages of the
servers; a server that is missing, or fails, is reported and left out. Exit code 1 if a measurement of
Tapis or of the echo is void.
"""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
REPOSITORY = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(1, os.path.join(REPOSITORY, "benches", "live"))

import live
import lists
import servers
from bench import Bench
from report import Report

QUICK = {"rounds": 1, "seconds": 0.4, "latency_seconds": 0.15, "latency_runs": 3, "pair_seconds": 0.2}
QUICK |= {"reload_control": 0.6, "made_up": 20_000}
TOOLS = {"dnsperf": "dnsperf", "nsd": "nsd", "taskset": "util-linux"}
BUILD = ["cargo", "build", "--profile", "dist", "--bins", "--examples"]
BUILT = ("tapis", os.path.join("examples", "echo"), os.path.join("examples", "pace"))


def read_options():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = arguments.add_argument
    usual = [name for name, kind in servers.ALL.items() if kind.usual]
    add("--names", help="the list, one name per line")
    add("--top", help="popular names, one per line")
    add("--made-up", type=int, default=1_000_000, help="number of names generated without --names")
    add("--rounds", type=int, default=3)
    add("--seconds", type=float, default=2, help="of dnsperf, each mix")
    add("--latency-seconds", type=float, default=1.25, help="of pace, each mix and rate")
    add("--latency-runs", type=int, default=11, help="pairs of Tapis and echo; 0: none")
    add("--pair-seconds", type=float, default=1, help="of each of those")
    add("--rate", type=int, help="the common rate in all mixes; default: half of the throughput of the slowest server")
    add("--servers", default=",".join(usual), help="default: %(default)s; Tapis and the echo always run")
    add("--mixes", default=",".join(servers.MIXES))
    add("--workers", type=int, default=1, help="threads of each server")
    add("--clients", type=int, default=8, help="sockets of the load")
    add("--outstanding", type=int, default=100, help="queries that dnsperf has in flight")
    add("--server-cpu", default="0", help="core of the servers, or several: 0,1")
    add("--load-cpu", default="1", help="core of the load and the upstream")
    add("--no-reload", action="store_true")
    add("--reload-rate", type=int, default=2000)
    add("--reload-control", type=float, default=3, help="seconds of load before the reload")
    add("--seed", type=int, default=1)
    add("--quick", action="store_true", help="a small list and short runs: does it all work?")
    add("--out", default=os.path.join(REPOSITORY, "target", "peers"))
    add("--docs", action="store_true", help="put the result into docs/, too")
    add("--target", default=os.path.join(REPOSITORY, "target", "dist"), help="where tapis and examples/ are")
    options = arguments.parse_args()
    if options.quick:
        vars(options).update(QUICK)
    for what, known in (("servers", servers.ALL), ("mixes", servers.MIXES)):
        given = vars(options)[what].split(",")
        if unknown := [word for word in given if word not in known]:
            arguments.error(f"--{what}: {', '.join(unknown)}: not among {', '.join(known)}")
        vars(options)[what] = [word for word in known if word in given or word in ("tapis", "echo")]
    return options


def need():
    missing = [tool for tool in TOOLS if not shutil.which(tool, path=servers.PATH)]
    if missing:
        packages = " ".join(TOOLS[tool] for tool in missing)
        raise live.Failure(f"not installed: {', '.join(missing)}; on Debian: apt-get install {packages}")


def build(options):
    """Builds only what is missing, so that one command is enough."""
    missing = [file for file in BUILT if not os.path.exists(os.path.join(options.target, file))]
    if missing:
        live.say(f"{', '.join(missing)}: not in {options.target}: {' '.join(BUILD)}")
        with contextlib.suppress(OSError):
            subprocess.run(BUILD, cwd=REPOSITORY)
        if missing := [file for file in BUILT if not os.path.exists(os.path.join(options.target, file))]:
            raise live.Failure(f"not in {options.target} after building: {', '.join(missing)}")


def read_names(options):
    names = lists.read(options.names) if options.names else lists.generated(options.made_up, options.seed)
    popular = lists.read(options.top) if options.top else [f"www{i}.site{i % 997}.org" for i in range(20_000)]
    return names, popular


def main():
    options = read_options()
    with live.workshop("peers") as folder:
        need()
        build(options)
        result = Bench(options, folder, *read_names(options)).run()
        report = Report(result)
        report.write(options.out)
        if options.docs and not report.own_failures():
            report.write_docs(os.path.join(REPOSITORY, "docs"))
        print(report.text())
        for failure in report.failures():
            live.say(f"FAILED: {failure}")
        live.say(f"table.md, chart.svg and result.json are in {options.out}")
        if report.own_failures():
            raise live.Failure("measurements of Tapis or the echo are void: nothing can be compared with them")


if __name__ == "__main__":
    main()
