#!/usr/bin/env -S python3 -B
"""Minutes of mixed load while lists are swapped and foes come in turn: what becomes of answers and memory?

    benches/live/soak.py --binary target/release/tapis --names FILE [--minutes 10] [--swap-secs 10]

FILE holds the big list, a name a line; beside it stands swap.py's small list, whose two states are
put in place in turn. One process asks for names of both lists, for names that are in the cache, and
for names that nobody asked before, by UDP at --rate; another one by TCP. Meanwhile come the cases of
cases.py: floods (attacks.py), each for its part of a round, in a process of its own; and twice upstream
fails, too: it goes dumb (nsd is stopped by SIGSTOP), or lies (relay.py, which all questions pass).

What is checked:

    answers    each comes within 2 s and is true in the sense of expected.py. SERVFAIL is right only
               while upstream is dumb or lies, or shortly after, and never for a name that is
               blocked, or whose answer is known, if an old one
    foes       get what they have to, and in `status` each one's counters grow
    memory     after the warm-up of two minutes the median of resident memory in the last window is at
               most --growth % above that in the first; a window is a quarter of the time, but not
               less than a round. The cache is full by then
    files      as many are open at the end as at the beginning

A round takes a minute, or a third of the time if that is less. Below five minutes a run is only a
rehearsal, with a warm-up of one round: memory is told, not judged. Silences are never judged: other
processes cause them, too; beside them stands how long the server's threads waited for a core.
Exit code 1 if a check fails.
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
AFTERMATH = TIMEOUT + 6  # seconds for which failures are remembered, and then some
STREAM_AFTERMATH = attacks.TCP_IDLE + 1  # seconds until all places for streams are free again
SETTLING = 4.0  # seconds until the server has closed the ports of questions that were answered
LINES = 1  # connections to upstream that the server keeps, once it had to ask by TCP
WARM_UP = 3.0  # seconds of load before the first foe
FULL = 0.9  # of its size the cache holds, when it counts as full
POINTS = 60  # of the memory's course that are told


class Server(live.Tapis):
    """The server with bounds that the floods reach."""

    def __init__(self, options, folder, upstream_port, lists):
        self.cache_mib = options.cache_mib
        super().__init__(options.binary, folder, upstream_port, lists)

    def write_config(self, sections):
        first = sections[0].replace("[server]\n", SERVER) + UPSTREAM
        super().write_config([first, *sections[1:], f"[cache]\nsize-mib = {self.cache_mib}\n"])

    def files(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def resident(self):
        """Resident memory, and its part that is no file's, in kB."""
        with open(f"/proc/{self.pid}/status") as status:
            fields = dict(line.split(":", 1) for line in status)
        return tuple(int(fields[word].split()[0]) for word in ("VmRSS", "RssAnon"))


class Judge:
    """Says what was wrong, once all is over."""

    def __init__(self, asker, states, rows, options, begin):
        self.asker, self.states, self.rows, self.options, self.begin = asker, states, rows, options, begin
        self.troubled, self.crowded = [], []
        upstreams = {case.name: case.upstream for case in cases.CASES}
        streams = {case.name for case in cases.CASES if case.opens_streams()}
        for row in rows:
            if upstreams[row["case"]] != cases.HONEST:
                self.troubled.append((row["begin"], row["end"] + AFTERMATH))
            if row["case"] in streams:
                self.crowded.append((row["begin"], row["end"] + STREAM_AFTERMATH))

    def may_fail(self, question, sent):
        return word(question) not in STRICT and any(begin <= sent < end for begin, end in self.troubled)

    def by_udp(self):
        """Answers by kind, and faults."""
        asker, table = self.asker, collections.defaultdict(collections.Counter)
        faults, _generations = self.states.faults(asker)
        for index, verdict in enumerate(asker.verdict):
            question = asker.questions[asker.asked[index]]
            said = "failed" if index in asker.failed else load.WORDS[verdict]
            table[word(question)][said] += 1
            told = f"{question.name} type {question.rtype} ({word(question)}), asked at {asker.sent[index]:.3f}"
            if said == "failed" and not self.may_fail(question, asker.sent[index]):
                faults.append(f"{told}: SERVFAIL")
            elif verdict == load.LOST or asker.arrived[index] - asker.sent[index] > load.TIMEOUT:
                waited = self.waited(asker.sent[index], asker.sent[index] + load.TIMEOUT)
                faults.append(f"{told}: lost; the server's threads waited {waited:.1f} s for cores meanwhile")
        return table, faults

    def by_tcp(self, asked, answers):
        table, faults = collections.defaultdict(collections.Counter), []
        for number, said, detail, sent, taken in answers:
            question, fault = asked[number], None
            table[word(question)][said] += 1
            if said == "refused":
                fault = not any(begin <= sent < end for begin, end in self.crowded)
            elif said == "failed":
                fault = not self.may_fail(question, sent)
            elif said in ("lost", "wrong"):
                fault = True
            else:
                fault = not self.states.explained(question, load.VERDICTS[said], sent, taken)
            if fault:
                faults.append(f"{question.name} type {question.rtype} by TCP, asked at {sent:.3f}: {said} {detail}")
        return table, faults

    def silences(self):
        """Of each case the worst of all rounds, among questions that are answered whatever upstream does."""
        asker, worst = self.asker, {}
        strict = [word(question) in STRICT for question in asker.questions]
        for row in self.rows:
            numbers = [i for i in asker.between(row["begin"], row["end"]) if strict[asker.asked[i]]]
            figures = asker.figures(numbers)
            told = {what: figures[what] for what in ("longest_silence_ms", "longest_owed_silence_ms")}
            told |= {f"{share}_ms": figures["answer_ms"][share] for share in ("p50", "p99", "max")}
            told["server_waited_for_cores_ms"] = round(self.waited(row["begin"], row["end"]) * 1e3)
            known = worst.setdefault(row["case"], told)
            worst[row["case"]] = {what: max(known[what], told[what]) for what in told}
        return worst

    def waited(self, begin, end):
        """Seconds that the server's threads had no core to run on: such silences are the machine's."""
        course = self.asker.course
        first, last = (bisect.bisect(course, at, key=lambda point: point[0]) for at in (begin, end))
        return course[min(last, len(course) - 1)][-1] - course[max(0, first - 1)][-1]

    def memory(self):
        """How resident memory went on after the warm-up, and whether it grew."""
        seconds = self.options.round_seconds
        warm = self.begin + self.options.warm_rounds * seconds
        course = [point for point in self.asker.course if point[0] >= warm]
        first, last = course[0][0], course[-1][0]
        window = max((last - first) / 4, min(seconds, (last - first) / 2))
        early = [rss for at, rss, *_ in course if at <= first + window]
        late = [rss for at, rss, *_ in course if at >= last - window]
        early, late = statistics.median(early), statistics.median(late)
        minutes = (last - first - window) / 60
        percent = (late / early - 1) * 100
        told = {"first_mb": early / 1e3, "last_mb": late / 1e3, "growth_percent": percent}
        told["growth_mb_a_minute"] = (late - early) / 1e3 / minutes
        told = {what: round(value, 2) for what, value in told.items()}
        told["course_minute_rss_mb_anonymous_mb"] = [
            (round((at - self.begin) / 60, 2), round(rss / 1e3, 1), round(anon / 1e3, 1))
            for at, rss, anon, _waited in self.asker.course[:: max(1, len(self.asker.course) // POINTS)]
        ]
        bound = self.options.growth
        judged = not self.options.rehearsal and percent > bound
        grew = [f"memory grew by {percent:.1f} %, more than {bound} %"] if judged else []
        return told, grew


def swap_lists(play, options, end):
    """Milliseconds until each new state was in force."""
    waits = []
    while (now := time.monotonic()) < end:
        waits.append(play.change(play.by_rename) * 1e3)
        play.asker.run(min(end, now + options.swap_secs))
    return {"count": len(waits), "median_ms": round(statistics.median(waits), 1), "max_ms": round(max(waits), 1)}


def close_files(server, before):
    """How many files are open, once those of the foes are closed."""
    end = time.monotonic() + SETTLING + 10
    while (now := server.files()) > before + LINES and time.monotonic() < end:
        time.sleep(0.2)
    return now, [f"{now} files are open, {before} were before"] if now > before + LINES else []


def play_all(scene, server, director, options):
    """The whole play: who asked, what could be in force, what came of the cases, and of the swaps."""
    states, asked = expected.Truth([]), clients.questions(scene)
    known = [question for question in asked if not isinstance(question, Fresh)]
    seconds, begin = options.minutes * 60, time.monotonic() + WARM_UP
    by_tcp = clients.StreamAsker(server.port, known, options, WARM_UP + seconds)
    with director.playing(begin):
        by_tcp.process.start()
        asker = clients.Asker(server, asked, options.rate)
        asker.on_answer = states.on_answer
        play = swap.Play(scene, server, asker, states)
        asker.run(begin)
        swaps = swap_lists(play, options, begin + seconds)
        asker.drain()
        rows = director.told()
    return Judge(asker, states, rows, options, begin), by_tcp.rows(), known, swaps


def run(scene, server, above, liar, options):
    """The result, and what failed."""
    for name, rtype in itertools.product(scene.groups[expected.OTHER], sorted(set(swap.TYPES))):
        dns.ask(server.port, dns.query(name, rtype))  # in the cache before upstream first goes dumb
    time.sleep(SETTLING)
    files = server.files()
    judge, answers, known, swaps = play_all(scene, server, cases.Director(server, above, liar, options), options)
    status, memory = server.status(), server.memory()
    files_now, failures = close_files(server, files)
    udp, udp_faults = judge.by_udp()
    tcp, tcp_faults = judge.by_tcp(known, answers)
    course, grew = judge.memory()
    failures += grew + udp_faults + tcp_faults + list(cases.faults(judge.rows, options.cases))
    if status["cache_octets"] < FULL * options.cache_mib * 2**20 * 15 / 16:  # the rest is for failures
        failures.append(f"the cache holds {status['cache_octets']} octets and never was full: what grows is unknown")
    asker = judge.asker
    result = {"answers_by_udp": udp, "answers_by_tcp": tcp, "wrong_answers": asker.wrongs, "swaps": swaps}
    result |= {"cases": summary(judge.rows, judge.silences()), "memory": memory | course}
    result |= {"files_before": files, "files_after": files_now, "sender_slips": asker.slips, "strays": asker.strays}
    result |= {"cache_entries": status["cache_entries"], "cache_octets": status["cache_octets"]}
    return result | {"counters": status["counters"]}, failures


def summary(rows, silences):
    """By case: what all rounds together counted, and the worst silences."""
    told = {}
    for row in rows:
        part = told.setdefault(row["case"], {"flood": collections.Counter(), "server": collections.Counter()})
        part["flood"].update(row["flood"])
        part["server"].update(row["server"])
    return {name: part | {"strict": silences[name]} for name, part in told.items()}


def tell(result):
    for name, part in result["cases"].items():
        strict = part["strict"]
        text = f"{name}: {part['flood'].get('sent') or part['flood'].get('opened')} sent; blocked and cached names: "
        text += f"p99 {strict['p99_ms']:.1f} ms, longest silence {strict['longest_silence_ms']:.1f} ms"
        live.say(f"{text}, owed {strict['longest_owed_silence_ms']:.1f} ms")
    for transport in ("udp", "tcp"):
        kinds = result[f"answers_by_{transport}"].items()
        live.say(f"{transport}: " + "; ".join(f"{kind} {dict(said)}" for kind, said in kinds))
    memory = result["memory"]
    live.say(
        f"memory {memory['first_mb']} MB, then {memory['last_mb']} MB ({memory['growth_percent']} %, "
        f"{memory['growth_mb_a_minute']} MB a minute); files {result['files_before']}, then {result['files_after']}"
    )


@contextlib.contextmanager
def lying_upstream(folder, above):
    """The relay before upstream, and its port."""
    port = live.free_port()
    command = [sys.executable, "-B", relay.__file__, "--upstream", str(above.port), "--port", str(port)]
    with live.Child(command, os.path.join(folder, "relay.log")) as liar:
        liar.wait_for(lambda: dns.ask(port, dns.query("probe.example"), 0.1), 20)
        yield liar, port


def lists(folder, scene):
    """What the server reads: the scene's lists, and the one name that foes ask for."""
    blocked = os.path.join(folder, "attacks.txt")
    live.write_names(blocked, [attacks.BLOCKED])
    paths = {"big": scene.big, "small": scene.small, "foes": blocked}
    return [{"name": name, "path": path} for name, path in paths.items()]


def plan(options):
    """How many rounds, and how long one is."""
    seconds = options.minutes * 60
    if seconds < 120:
        raise live.Failure("below two minutes the cases are too short for what they have to show")
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
    arguments.add_argument("--rate", type=int, default=2000, help="judged questions a second by UDP")
    arguments.add_argument("--tcp-rate", type=int, default=50, help="and by TCP, at most")
    arguments.add_argument("--cache-mib", type=int, default=16)
    arguments.add_argument("--growth", type=float, default=5.0, help="percent that memory may grow by")
    arguments.add_argument("--cases", nargs="*", default=[], help="only these, in this order")
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()
    told = vars(options).copy()
    sys.setswitchinterval(0.0002)  # a thread must not hold up the load
    with live.workshop("soak") as folder, upstream.Upstream(folder) as above:
        plan(options)
        scene = swap.Scene(folder, options)
        with lying_upstream(folder, above) as (liar, port):
            with Server(options, folder, port, lists(folder, scene)) as server:
                result = {"tool": "soak", "options": told, "start_seconds": round(server.wait(), 2)}
                figures, failures = run(scene, server, above, liar, options)
        with open(liar.log) as log:
            figures["relay"] = json.loads(log.readlines()[-1])
    tell(figures)
    live.finish(result | figures, failures)


if __name__ == "__main__":
    main()
