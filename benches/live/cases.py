"""The cases that soak.py goes through in turn: a flood each, what upstream does meanwhile, and what
the server has to count.

They are directed from a process of its own, so that the load is never held up.
"""

import contextlib
import multiprocessing
import os
import random
import signal
import time

import attacks
import live

HONEST, DUMB, LIES = "honest", "dumb", "lies"
DUMB_SHARE = 0.6  # of its case; then what has piled up is answered
PAUSE = 1.0  # seconds between two cases
PATIENCE = 30  # seconds for a flood to end
MALFORMED = "short response opcode question_count question records edns edns_version".split()


class Case:
    """A flood and its rate; `counters` of the server have to grow meanwhile."""

    def __init__(self, flood, rate, counters, upstream=HONEST):
        self.flood, self.rate, self.upstream = flood, rate, upstream
        self.name = flood.__name__ if upstream == HONEST else f"upstream_{upstream}"
        self.counters = counters.split()

    def opens_streams(self):
        return self.flood in (attacks.connections, attacks.slow, attacks.unread)


CASES = [
    Case(attacks.random_names, 3000, "resolved upstream_queries"),
    Case(attacks.one_name, 5000, "cache_hits"),
    Case(attacks.oversized, 1000, "malformed_oversized"),
    Case(attacks.malformed, 2000, " ".join(f"malformed_{what}" for what in MALFORMED)),
    Case(attacks.responses, 3000, "malformed_response"),
    Case(attacks.strangers, 3000, "refused_client malformed_from_refused_client"),
    Case(attacks.connections, 500, "tcp_connections tcp_connections_refused tcp_connections_refused_client"),
    Case(attacks.slow, 80, "tcp_connections tcp_connections_idle"),
    Case(attacks.unread, 4000, "tcp_queries tcp_connections_unread"),
    Case(
        attacks.random_names_of_many,
        3000,
        "upstream_slow upstream_failures upstream_client_full upstream_queue_full failed overloaded",
        DUMB,
    ),
    Case(
        attacks.random_names,
        1000,
        "upstream_stray upstream_foreign_question upstream_garbage upstream_letter_case upstream_slow "
        "upstream_tcp_queries failed",
        LIES,
    ),
]


class Director:
    """Runs all rounds of all cases; `told` gives what came of each."""

    def __init__(self, server, above, liar, options):
        self.server, self.above, self.liar = server, above, liar
        self.cases = options.cases
        self.random = random.Random(options.seed)
        self.rounds, self.seconds = options.rounds, options.round_seconds

    @contextlib.contextmanager
    def playing(self, begin):
        """Lets the cases begin then; ends them when something else failed."""
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

    def told(self):
        with contextlib.suppress(EOFError):
            if self.pipe.poll(2 * PATIENCE):
                return self.pipe.recv()
        raise live.Failure("the cases did not come to their end")

    def act(self, case, end):
        """One case until that time: when it was, what the flood counted, and what the server."""
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
        with {HONEST: contextlib.nullcontext, DUMB: self.stopped, LIES: self.lying}[case.upstream]():
            time.sleep(seconds * (DUMB_SHARE if case.upstream == DUMB else 1))
        try:
            return pipe.recv() if pipe.poll(seconds + PATIENCE) else {"fault: it did not end": 1}
        except EOFError:
            return {"fault: it failed": 1}
        finally:
            process.terminate()
            process.join()

    @contextlib.contextmanager
    def stopped(self):
        """All of nsd's processes, and only those: they are ours."""
        pids = list(live.family(self.above.pid))
        try:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    @contextlib.contextmanager
    def lying(self):
        os.kill(self.liar.pid, signal.SIGUSR1)
        try:
            yield
        finally:
            os.kill(self.liar.pid, signal.SIGUSR2)


def choose(names):
    """The cases of those names; all without any."""
    known = {case.name: case for case in CASES}
    for name in names:
        if name not in known:
            raise live.Failure(f"`{name}` is no case; they are {', '.join(known)}")
    return [known[name] for name in names] or CASES


def faults(rows, played):
    """What a flood got and should not have; and which counters it should have moved."""
    for row in rows:
        for word, count in row["flood"].items():
            if word.startswith("fault"):
                yield f"{row['case']}, round {row['round']}: {count} x {word}"
    for case in played:
        for counter in case.counters:
            if not any(row["server"].get(counter) for row in rows if row["case"] == case.name):
                yield f"{case.name}: the server's {counter} did not grow"
