"""A steady load of DNS queries that records every answer, and the silences between answers.

One thread sends on a schedule and receives the answers in between. So it is certain whether a query was sent
before or after an answer was received. Silences are measured by the kernel's time stamps of the answers: the
CPU time of this process does not lengthen them.
"""

import gc
import random
import select
import socket
import struct
import time
from array import array

import dns
import live

SO_TIMESTAMPNS = 35
BEHIND = 0.1  # seconds; a sender that is later than this skips what it missed
TIMEOUT = 2.0  # seconds
LOST, WRONG, TRUE, BLOCKED = range(4)
WORDS = ("lost", "wrong", "true", "blocked")
VERDICTS = {word: verdict for verdict, word in enumerate(WORDS)}
ANSWER_SPACE = socket.CMSG_SPACE(16)


class Query:
    """A query that is sent repeatedly. `kind` is the caller's label for it."""

    def __init__(self, name, rtype, kind, edns):
        self.name, self.rtype, self.kind = name, rtype, kind
        self.packet = dns.query(name, rtype, edns=edns)[2:]
        self.echo = self.packet[10 : 10 + len(dns.wire_name(name)) + 4]


class Load:
    """`on_answer(query, verdict, sent, taken)` is called for each answer. `classify` is `dns.classify`, or another function
    like it."""

    def __init__(self, port, queries, rate, sockets=8, seed=1):
        self.queries = queries
        self.interval = 1 / rate
        # A fixed random order, long enough to have no rhythm. Each kind has the same share as in `queries`.
        order = random.Random(seed)
        self.order = array("I", (order.randrange(len(queries)) for _ in range(1 << 17)))
        self.sockets = [dns.udp_socket() for _ in range(sockets)]
        for client in self.sockets:
            client.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            client.setblocking(False)
            client.connect((dns.LOOPBACK, port))
        self.indices = [array("i", [-1]) * 65536 for _ in self.sockets]
        self.number = {client: number for number, client in enumerate(self.sockets)}
        self.asked, self.sent = array("I"), array("d")
        self.taken, self.arrived = array("d"), array("d")
        self.verdict, self.generation = array("b"), array("q")
        self.wrongs, self.strays, self.slips = [], 0, 0
        self.on_answer, self.classify = lambda *_: None, dns.classify
        before = time.monotonic()
        self.clock = time.time() - (before + time.monotonic()) / 2
        self.due = time.monotonic()
        gc.collect()
        gc.freeze()
        gc.disable()

    def step(self):
        """Sends the queries that are due and receives answers; waits until the next query is due."""
        now = time.monotonic()
        if now - self.due > BEHIND:
            self.slips += 1
            self.due = now
        while self.due <= now:
            self.send(now)
            self.due += self.interval
            now = time.monotonic()
        self.take(max(0, self.due - now))

    def run(self, until):
        while time.monotonic() < until:
            self.step()

    def drain(self):
        """Waits for answers in flight, without sending more."""
        end = time.monotonic() + TIMEOUT
        while (now := time.monotonic()) < end and LOST in self.verdict:
            self.take(min(0.05, end - now))
        gc.enable()

    def send(self, now):
        index = len(self.sent)
        number, ident = index % len(self.sockets), index // len(self.sockets) & 0xFFFF
        asked = self.order[index % len(self.order)]
        self.indices[number][ident] = index
        self.asked.append(asked)
        self.taken.append(0)
        self.arrived.append(0)
        self.verdict.append(LOST)
        self.generation.append(-1)
        self.sent.append(now)
        try:
            self.sockets[number].send(ident.to_bytes(2, "big") + self.queries[asked].packet)
        except OSError:
            self.strays += 1

    def take(self, patience):
        ready = select.select(self.sockets, (), (), patience)[0]
        for client in ready:
            indices = self.indices[self.number[client]]
            for _ in range(64):
                try:
                    reply, notes, _flags, _address = client.recvmsg(2048, ANSWER_SPACE)
                except (BlockingIOError, ConnectionRefusedError):
                    break
                self.settle(indices[int.from_bytes(reply[:2], "big")], reply, notes)

    def settle(self, index, reply, notes):
        if index < 0 or self.verdict[index] != LOST:
            self.strays += 1
            return
        taken = time.monotonic()
        seconds, nanos = struct.unpack("qq", notes[0][2])
        query = self.queries[self.asked[index]]
        if reply[12 : 12 + len(query.echo)] == query.echo:
            word, detail = self.classify(reply, query.rtype)
        else:
            word, detail = "wrong", "another question"
        verdict = VERDICTS[word]
        self.taken[index] = taken
        self.arrived[index] = seconds - self.clock + nanos / 1e9
        self.verdict[index] = verdict
        if verdict == BLOCKED and detail is not None:
            self.generation[index] = detail
        if verdict == WRONG and len(self.wrongs) < live.SHOWN:
            self.wrongs.append(f"{query.name} type {query.rtype}: {detail}")
        self.on_answer(query, verdict, self.sent[index], taken)

    def between(self, start, end):
        """The queries sent in that time, as a range of their numbers."""
        numbers = [i for i, sent in enumerate(self.sent) if start <= sent < end]
        return range(numbers[0], numbers[-1] + 1) if numbers else range(0)

    def lost(self, numbers):
        late = TIMEOUT
        return sum(self.verdict[i] == LOST or self.arrived[i] - self.sent[i] > late for i in numbers)

    def figures(self, numbers):
        """Losses, latencies and silences of those queries, in milliseconds."""
        answered = [i for i in numbers if self.verdict[i] != LOST]
        waits = sorted((self.arrived[i] - self.sent[i]) * 1e3 for i in answered)
        slow = sorted(answered, key=lambda i: self.sent[i] - self.arrived[i])
        gaps, owed = self.silences(numbers, answered)
        sends = [(self.sent[i] - self.sent[i - 1]) * 1e3 for i in numbers[1:]]
        shares = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "max": 1}
        return {
            "queries": len(numbers),
            "lost": self.lost(numbers),
            "seconds": round(self.sent[numbers[-1]] - self.sent[numbers[0]], 3),
            "longest_silence_ms": round(max(gaps), 3),
            "longest_owed_silence_ms": round(max(owed), 3),
            "longest_pause_of_the_sender_ms": round(max(sends), 3),
            "silences_over_5_ms": sum(gap > 5 for gap in gaps),
            "slowest": [self.report(i) for i in slow[: live.SHOWN // 2]],
            "answer_ms": {k: round(live.percentile(waits, s), 3) for k, s in shares.items()},
        }

    def report(self, index):
        query, word = self.queries[self.asked[index]], WORDS[self.verdict[index]]
        wait = (self.arrived[index] - self.sent[index]) * 1e3
        return f"{wait:.3f} ms: {query.name} type {query.rtype} {word}, at {self.sent[index]:.6f}"

    def silences(self, numbers, answered):
        """Times between consecutive answers, and the part of each in which an answer was outstanding."""
        events = [(self.sent[i], 1) for i in numbers] + [(self.arrived[i], -1) for i in answered]
        events.sort()
        gaps, owed, waiting, last, since = [], [], 0, None, None
        for at, change in events:
            if change > 0:
                since = at if not waiting else since
            else:
                gaps.append((at - last) * 1e3 if last else 0)
                owed.append((at - since) * 1e3 if since else 0)
                last = since = at
            waiting += change
        return gaps, owed
