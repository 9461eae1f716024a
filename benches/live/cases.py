"""The cases of soak.py, which run in turn. A case consists of a flood, the behaviour of upstream during it, and
the counters of the server that must grow.

They run in a separate process, so that the load is never delayed.
"""

import contextlib
import multiprocessing
import os
import random
import signal
import time

import attacks
import live

NORMAL, SILENT, FORGING = "normal", "silent", "forging"
SILENT_SHARE = 0.6  # of the duration of the case; after that, upstream answers the pending queries
PAUSE = 1.0  # seconds between two cases
PATIENCE = 30  # seconds for a flood to end
MALFORMED = "short response opcode question_count question records edns edns_version".split()


class Case:
    """A flood and its rate; the server's `counters` must grow meanwhile."""

    def __init__(self, flood, rate, counters, upstream=NORMAL):
        self.flood, self.rate, self.upstream = flood, rate, upstream
        self.name = flood.__name__ if upstream == NORMAL else f"upstream_{upstream}"
        self.counters = counters.split()

    def opens_streams(self):
        return self.flood in (attacks.connections, attacks.slow, attacks.unread)


CASES = [
    Case(attacks.random_names, 3000, "resolved upstream_queries"),
    Case(attacks.one_name, 5000, "cache_hits"),
    Case(attacks.oversized, 1000, "malformed_oversized"),
    Case(attacks.malformed, 2000, " ".join(f"malformed_{what}" for what in MALFORMED)),
    Case(attacks.responses, 3000, "malformed_response"),
    Case(attacks.without_permission, 3000, "refused_client malformed_from_refused_client"),
    Case(attacks.connections, 500, "tcp_connections tcp_connections_refused tcp_connections_refused_client"),
    Case(attacks.slow, 80, "tcp_connections tcp_connections_idle"),
    Case(attacks.unread, 4000, "tcp_queries tcp_connections_unread"),
    Case(
        attacks.random_names_of_many,
        3000,
        "upstream_slow upstream_failures upstream_client_full upstream_queue_full failed overloaded",
        SILENT,
    ),
    Case(
        attacks.random_names,
        1000,
        "upstream_stray upstream_foreign_question upstream_garbage upstream_letter_case upstream_slow "
        "upstream_tcp_queries failed",
        FORGING,
    ),
]


class Director:
    """Runs all rounds of all cases; `report` returns their results."""

    def __init__(self, server, above, relay_process, options):
        self.server, self.above, self.relay_process = server, above, relay_process
        self.cases = options.cases
        self.random = random.Random(options.seed)
        self.rounds, self.seconds = options.rounds, options.round_seconds

    @contextlib.contextmanager
    def playing(self, begin):
        """Starts the cases at `begin`. Terminates them at the end of the block, also after an exception."""
        self.pipe, theirs = multiprocessing.Pipe(False)
        process = multiprocessing.Process(target=self.direct, args=(theirs, begin))
        process.start()
        theirs.close()
        try:
            yield
        finally:
            process.terminate()
            process.join()

    def direct(self, pipe, due):
        live.prepare(None)()
        time.sleep(due - time.monotonic())
        rows = []
        for number in range(self.rounds):
            for case in self.cases:
                due += self.seconds / len(self.cases)
                rows.append({"case": case.name, "round": number} | self.act(case, due - PAUSE))
                time.sleep(max(0.0, due - time.monotonic()))
        pipe.send(rows)

    def report(self):
        with contextlib.suppress(EOFError):
            if self.pipe.poll(2 * PATIENCE):
                return self.pipe.recv()
        raise live.Failure("the cases did not finish")

    def act(self, case, end):
        """Runs one case until `end`. Returns when it began and ended, the counts of the flood, and the changes of the
        server's counters."""
        before, begin = self.server.status()["counters"], time.monotonic()
        counts = self.flood(case, max(0.0, end - begin))
        row = {"begin": begin, "end": time.monotonic(), "flood": counts}
        after = self.server.status()["counters"]
        return row | {"server": {name: after[name] - before[name] for name in after if after[name] != before[name]}}

    def flood(self, case, seconds):
        pipe, theirs = multiprocessing.Pipe(False)
        chance = random.Random(self.random.getrandbits(64))

        def run():
            live.prepare(None)()
            theirs.send(dict(case.flood(self.server.port, case.rate, seconds, chance)))

        process = multiprocessing.Process(target=run, daemon=True)
        process.start()
        theirs.close()
        with {NORMAL: contextlib.nullcontext, SILENT: self.stopped, FORGING: self.forging}[case.upstream]():
            time.sleep(seconds * (SILENT_SHARE if case.upstream == SILENT else 1))
        try:
            return pipe.recv() if pipe.poll(seconds + PATIENCE) else {"fault: it did not end": 1}
        except EOFError:
            return {"fault: it failed": 1}
        finally:
            process.terminate()
            process.join()

    @contextlib.contextmanager
    def stopped(self):
        """Stops the processes of this run's nsd, and lets them continue at the end of the block."""
        pids = list(live.family(self.above.pid))
        try:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    @contextlib.contextmanager
    def forging(self):
        os.kill(self.relay_process.pid, signal.SIGUSR1)
        try:
            yield
        finally:
            os.kill(self.relay_process.pid, signal.SIGUSR2)


def choose(names):
    """The cases with these names; all without any."""
    known = {case.name: case for case in CASES}
    for name in names:
        if name not in known:
            raise live.Failure(f"`{name}` is not a case; the cases are {', '.join(known)}")
    return [known[name] for name in names] or CASES


def faults(rows, played):
    """Faults that a flood counted, and counters that did not grow."""
    for row in rows:
        for word, count in row["flood"].items():
            if word.startswith("fault"):
                yield f"{row['case']}, round {row['round']}: {count} x {word}"
    for case in played:
        for counter in case.counters:
            if not any(row["server"].get(counter) for row in rows if row["case"] == case.name):
                yield f"{case.name}: the server's {counter} did not grow"
