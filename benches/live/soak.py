#!/usr/bin/env -S python3 -B
"""Minutes of mixed load with list swaps and attacks: are answers correct, and does memory stay bounded?

    benches/live/soak.py --binary target/release/tapis --names FILE [--minutes 10] [--swap-secs 10]

FILE contains the large list, one name per line. The small list of swap.py is used as well. Its two states are
put in place in turn. One process queries names of both lists, cached names, and new names, by UDP at --rate;
another one by TCP. Meanwhile a separate process runs the cases of cases.py in turn. A round is divided
equally among the cases. Each case is a flood (attacks.py). In two of the cases upstream fails as well: it is
silent (nsd is stopped by SIGSTOP), or it forges answers (relay.py, through which all queries pass).

Checks:

    answers    each arrives within 2 s and is correct in the sense of expected.py. SERVFAIL is correct
               only while upstream is silent or forges, or shortly after, and never for a name that is
               blocked, or has a cached answer, fresh or stale
    attacks    get the answers that they must, and the counters of each grow in `status`
    memory     the median of resident memory in the last window is at most --growth % above that in the
               first window, which begins after a warm-up of two minutes. A window is a quarter of the
               time after the warm-up, but not less than a round. At the end the cache must be full
    files      as many are open at the end as at the beginning

A round takes a minute, or a third of the time if that is less. A run of less than five minutes is only
a rehearsal, with a warm-up of one round: memory is reported, not checked. Silences are never checked,
as other processes cause them too; how long the server's threads waited for a core is reported beside
them. Exit code 1 if a check fails.
"""

import argparse
import bisect
import collections
import contextlib
import itertools
import json
import os
import statistics
import sys
import time

import clients
import cases
import dns
import attacks
import live
import load
import relay
import swap
import expected
import upstream
from clients import STRICT, Fresh, word

SERVER = f"""[server]
allow = ["127.0.0.0/16"]
tcp-connections = 256
tcp-connections-per-client = 100
tcp-idle-secs = {attacks.TCP_IDLE}
"""
TIMEOUT = 1.5  # seconds that the server waits for upstream; clients wait for 2
UPSTREAM = f"timeout-ms = {TIMEOUT * 1e3:.0f}\nwaiting = 2048\nwaiting-per-client = 512\n"
AFTERMATH = TIMEOUT + 6  # seconds for which failures are cached, with a margin
STREAM_AFTERMATH = attacks.TCP_IDLE + 1  # seconds until all stream connections are free again
SETTLING = 4.0  # seconds until the server has closed the ports of answered queries
LINES = 1  # connections to upstream that the server keeps open once it had to ask by TCP
WARM_UP = 3.0  # seconds of load before the first attack
FULL = 0.9  # of the cache's size; with at least this much it counts as full
POINTS = 60  # the number of memory readings that are reported


class Server(live.Tapis):
    """The server with limits that the floods reach."""

    def __init__(self, options, folder, upstream_port, lists):
        self.cache_mib = options.cache_mib
        super().__init__(options.binary, folder, upstream_port, lists)

    def write_config(self, sections):
        first = sections[0].replace("[server]\n", SERVER) + UPSTREAM
        super().write_config([first, *sections[1:], f"[cache]\nsize-mib = {self.cache_mib}\n"])

    def files(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def resident(self):
        """Resident memory, and its anonymous part, in kB."""
        with open(f"/proc/{self.pid}/status") as status:
            fields = dict(line.split(":", 1) for line in status)
        return tuple(int(fields[word].split()[0]) for word in ("VmRSS", "RssAnon"))


class Evaluation:
    """Checks all answers after the run."""

    def __init__(self, sender, states, rows, options, begin):
        self.sender, self.states, self.rows, self.options, self.begin = sender, states, rows, options, begin
        self.upstream_failures, self.connection_floods = [], []
        upstreams = {case.name: case.upstream for case in cases.CASES}
        streams = {case.name for case in cases.CASES if case.opens_streams()}
        for row in rows:
            if upstreams[row["case"]] != cases.NORMAL:
                self.upstream_failures.append((row["begin"], row["end"] + AFTERMATH))
            if row["case"] in streams:
                self.connection_floods.append((row["begin"], row["end"] + STREAM_AFTERMATH))

    def may_fail(self, query, sent):
        return word(query) not in STRICT and any(begin <= sent < end for begin, end in self.upstream_failures)

    def by_udp(self):
        """Answers by kind, and faults."""
        sender, table = self.sender, collections.defaultdict(collections.Counter)
        faults, _generations = self.states.faults(sender)
        for index, verdict in enumerate(sender.verdict):
            query = sender.queries[sender.asked[index]]
            outcome = "failed" if index in sender.failed else load.WORDS[verdict]
            table[word(query)][outcome] += 1
            report = f"{query.name} type {query.rtype} ({word(query)}), asked at {sender.sent[index]:.3f}"
            if outcome == "failed" and not self.may_fail(query, sender.sent[index]):
                faults.append(f"{report}: SERVFAIL")
            elif verdict == load.LOST or sender.arrived[index] - sender.sent[index] > load.TIMEOUT:
                waited = self.waited(sender.sent[index], sender.sent[index] + load.TIMEOUT)
                faults.append(f"{report}: lost; the server's threads waited {waited:.1f} s for cores meanwhile")
        return table, faults

    def by_tcp(self, asked, answers):
        table, faults = collections.defaultdict(collections.Counter), []
        for number, outcome, detail, sent, taken in answers:
            query, fault = asked[number], None
            table[word(query)][outcome] += 1
            if outcome == "refused":
                fault = not any(begin <= sent < end for begin, end in self.connection_floods)
            elif outcome == "failed":
                fault = not self.may_fail(query, sent)
            elif outcome in ("lost", "wrong"):
                fault = True
            else:
                fault = not self.states.explained(query, load.VERDICTS[outcome], sent, taken)
            if fault:
                faults.append(f"{query.name} type {query.rtype} by TCP, asked at {sent:.3f}: {outcome} {detail}")
        return table, faults

    def silences(self):
        """The worst silences of each case over all rounds, for queries that need no upstream."""
        sender, worst = self.sender, {}
        strict = [word(query) in STRICT for query in sender.queries]
        for row in self.rows:
            numbers = [i for i in sender.between(row["begin"], row["end"]) if strict[sender.asked[i]]]
            figures = sender.figures(numbers)
            report = {what: figures[what] for what in ("longest_silence_ms", "longest_owed_silence_ms")}
            report |= {f"{share}_ms": figures["answer_ms"][share] for share in ("p50", "p99", "max")}
            report["server_waited_for_cores_ms"] = round(self.waited(row["begin"], row["end"]) * 1e3)
            known = worst.setdefault(row["case"], report)
            worst[row["case"]] = {what: max(known[what], report[what]) for what in report}
        return worst

    def waited(self, begin, end):
        """Seconds that the server's threads waited for a core. Silences in this time are caused by the machine, not by
        the server."""
        course = self.sender.course
        first, last = (bisect.bisect(course, at, key=lambda point: point[0]) for at in (begin, end))
        return course[min(last, len(course) - 1)][-1] - course[max(0, first - 1)][-1]

    def memory(self):
        """Resident memory after the warm-up, and whether it grew."""
        seconds = self.options.round_seconds
        warm = self.begin + self.options.warm_rounds * seconds
        course = [point for point in self.sender.course if point[0] >= warm]
        first, last = course[0][0], course[-1][0]
        window = max((last - first) / 4, min(seconds, (last - first) / 2))
        early = [rss for at, rss, *_ in course if at <= first + window]
        late = [rss for at, rss, *_ in course if at >= last - window]
        early, late = statistics.median(early), statistics.median(late)
        minutes = (last - first - window) / 60
        percent = (late / early - 1) * 100
        report = {"first_mb": early / 1e3, "last_mb": late / 1e3, "growth_percent": percent}
        report["growth_mb_a_minute"] = (late - early) / 1e3 / minutes
        report = {what: round(value, 2) for what, value in report.items()}
        report["course_minute_rss_mb_anonymous_mb"] = [
            (round((at - self.begin) / 60, 2), round(rss / 1e3, 1), round(anon / 1e3, 1))
            for at, rss, anon, _waited in self.sender.course[:: max(1, len(self.sender.course) // POINTS)]
        ]
        bound = self.options.growth
        exceeded = not self.options.rehearsal and percent > bound
        grew = [f"memory grew by {percent:.1f} %, more than {bound} %"] if exceeded else []
        return report, grew


def swap_lists(play, options, end):
    """Milliseconds until each new state was in force."""
    waits = []
    while (now := time.monotonic()) < end:
        waits.append(play.change(play.by_rename) * 1e3)
        play.sender.run(min(end, now + options.swap_secs))
    return {"count": len(waits), "median_ms": round(statistics.median(waits), 1), "max_ms": round(max(waits), 1)}


def close_files(server, before):
    """The number of open files once those of the attacks are closed."""
    end = time.monotonic() + SETTLING + 10
    while (now := server.files()) > before + LINES and time.monotonic() < end:
        time.sleep(0.2)
    return now, [f"{now} files are open, {before} were before"] if now > before + LINES else []


def play_all(scene, server, director, options):
    """The whole run: the load, the states that could be in force, the results of the cases and of the swaps."""
    states, asked = expected.ExpectedAnswers([]), clients.queries(scene)
    known = [query for query in asked if not isinstance(query, Fresh)]
    seconds, begin = options.minutes * 60, time.monotonic() + WARM_UP
    by_tcp = clients.TcpClient(server.port, known, options, WARM_UP + seconds)
    with director.playing(begin):
        by_tcp.process.start()
        sender = clients.UdpClient(server, asked, options.rate)
        sender.on_answer = states.on_answer
        play = swap.Play(scene, server, sender, states)
        sender.run(begin)
        swaps = swap_lists(play, options, begin + seconds)
        sender.drain()
        rows = director.report()
    return Evaluation(sender, states, rows, options, begin), by_tcp.rows(), known, swaps


def run(scene, server, above, relay_process, options):
    """The result, and the failures."""
    for name, rtype in itertools.product(scene.groups[expected.OTHER], sorted(set(swap.TYPES))):
        dns.ask(server.port, dns.query(name, rtype))  # fills the cache before upstream is silent for the first time
    time.sleep(SETTLING)
    files = server.files()
    director = cases.Director(server, above, relay_process, options)
    evaluation, answers, known, swaps = play_all(scene, server, director, options)
    status, memory = server.status(), server.memory()
    files_now, failures = close_files(server, files)
    udp, udp_faults = evaluation.by_udp()
    tcp, tcp_faults = evaluation.by_tcp(known, answers)
    course, grew = evaluation.memory()
    failures += grew + udp_faults + tcp_faults + list(cases.faults(evaluation.rows, options.cases))
    if status["cache_octets"] < FULL * options.cache_mib * 2**20 * 15 / 16:  # the rest is for failures
        failures.append(f"the cache holds {status['cache_octets']} bytes and was never full: its growth is unknown")
    sender = evaluation.sender
    result = {"answers_by_udp": udp, "answers_by_tcp": tcp, "wrong_answers": sender.wrongs, "swaps": swaps}
    result |= {"cases": summary(evaluation.rows, evaluation.silences()), "memory": memory | course}
    result |= {"files_before": files, "files_after": files_now, "sender_slips": sender.slips, "strays": sender.strays}
    result |= {"cache_entries": status["cache_entries"], "cache_octets": status["cache_octets"]}
    return result | {"counters": status["counters"]}, failures


def summary(rows, silences):
    """By case: the counts of all rounds together, and the worst silences."""
    report = {}
    for row in rows:
        part = report.setdefault(row["case"], {"flood": collections.Counter(), "server": collections.Counter()})
        part["flood"].update(row["flood"])
        part["server"].update(row["server"])
    return {name: part | {"strict": silences[name]} for name, part in report.items()}


def print_summary(result):
    for name, part in result["cases"].items():
        strict = part["strict"]
        text = f"{name}: {part['flood'].get('sent') or part['flood'].get('opened')} sent; blocked and cached names: "
        text += f"p99 {strict['p99_ms']:.1f} ms, longest silence {strict['longest_silence_ms']:.1f} ms"
        live.say(f"{text}, owed {strict['longest_owed_silence_ms']:.1f} ms")
    for transport in ("udp", "tcp"):
        kinds = result[f"answers_by_{transport}"].items()
        live.say(f"{transport}: " + "; ".join(f"{kind} {dict(outcome)}" for kind, outcome in kinds))
    memory = result["memory"]
    live.say(
        f"memory {memory['first_mb']} MB, then {memory['last_mb']} MB ({memory['growth_percent']} %, "
        f"{memory['growth_mb_a_minute']} MB a minute); files {result['files_before']}, then {result['files_after']}"
    )


@contextlib.contextmanager
def forging_upstream(folder, above):
    """The relay before upstream, and its port."""
    port = live.free_port()
    command = [sys.executable, "-B", relay.__file__, "--upstream", str(above.port), "--port", str(port)]
    with live.Child(command, os.path.join(folder, "relay.log")) as relay_process:
        relay_process.wait_for(lambda: dns.ask(port, dns.query("probe.example"), 0.1), 20)
        yield relay_process, port


def lists(folder, scene):
    """The server's lists: those of the scene, and the one name that attacks query."""
    blocked = os.path.join(folder, "attacks.txt")
    live.write_names(blocked, [attacks.BLOCKED])
    paths = {"big": scene.big, "small": scene.small, "attacks": blocked}
    return [{"name": name, "path": path} for name, path in paths.items()]


def plan(options):
    """The number of rounds, and their length."""
    seconds = options.minutes * 60
    if seconds < 120:
        raise live.Failure("below two minutes the cases are too short to have an effect")
    options.rounds = max(3, round(seconds / 60))
    options.round_seconds = seconds / options.rounds
    options.rehearsal = seconds < 300
    options.warm_rounds = 1 if options.rehearsal else 2
    options.cases = cases.choose(options.cases)
    options.big_edits = 0


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--names", required=True)
    arguments.add_argument("--minutes", type=float, default=10)
    arguments.add_argument("--swap-secs", type=float, default=10, help="between two states of the small list")
    arguments.add_argument("--rate", type=int, default=2000, help="checked queries per second by UDP")
    arguments.add_argument("--tcp-rate", type=int, default=50, help="and by TCP, at most")
    arguments.add_argument("--cache-mib", type=int, default=16)
    arguments.add_argument("--growth", type=float, default=5.0, help="maximum growth of memory in percent")
    arguments.add_argument("--cases", nargs="*", default=[], help="only these, in this order")
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()
    report = vars(options).copy()
    sys.setswitchinterval(0.0002)  # a thread must not delay the load
    with live.workshop("soak") as folder, upstream.Upstream(folder) as above:
        plan(options)
        scene = swap.Scene(folder, options)
        with forging_upstream(folder, above) as (relay_process, port):
            with Server(options, folder, port, lists(folder, scene)) as server:
                result = {"tool": "soak", "options": report, "start_seconds": round(server.wait(), 2)}
                figures, failures = run(scene, server, above, relay_process, options)
        with open(relay_process.log) as log:
            figures["relay"] = json.loads(log.readlines()[-1])
    print_summary(figures)
    live.finish(result | figures, failures)


if __name__ == "__main__":
    main()
