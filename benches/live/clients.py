"""The queries of soak.py and its clients: one process for UDP, and one for TCP."""

import itertools
import multiprocessing
import random
import socket
import time

import cores
import dns
import attacks
import live
import load
import swap
import expected
import upstream

FRESH_SHARE = 10  # percent of queries that are for new names, in addition to swap.SHARES
SERVFAIL = 2
STREAMS, RENEWAL = 2, 51  # streams, and the number of queries after which a stream is replaced
IDENT = b"\x12\x34"
WORDS = {expected.BIG: "large list", expected.EVEN: "swapped", expected.ODD: "swapped", expected.BOTH: "small list"}
STRICT = ("large list", "small list", "cached")  # answered regardless of upstream


class Fresh(load.Query):
    """A query for a new name each time."""

    numbers = itertools.count()

    def renew(self):
        super().__init__(f"fresh{next(self.numbers):x}.example.org", self.rtype, expected.OTHER, self.packet[9] > 0)


def word(query):
    return "unknown" if isinstance(query, Fresh) else WORDS.get(query.kind, "cached")


def queries(scene):
    known = list(scene.queries())
    fresh = FRESH_SHARE * len(known) // 98  # `known` has 98 of the 100 shares of swap.py: there are no NEW names
    return known + [Fresh("", scene.random.choice(swap.TYPES), expected.OTHER, i % 2 > 0) for i in range(fresh)]


class UdpClient(load.Load):
    """The checked load by UDP. A SERVFAIL shows the same as an unfiltered answer: the policy did not block the name.
    So it is checked like an unfiltered answer, and also recorded in `failed`."""

    def __init__(self, server, asked, rate):
        super().__init__(server.port, asked, rate)
        self.server, self.failed, self.course = server, set(), []
        turns = itertools.cycle(number for number, query in enumerate(asked) if isinstance(query, Fresh))
        for at, number in enumerate(self.order):
            if isinstance(asked[number], Fresh):
                self.order[at] = next(turns)  # in turn, so that no name is replaced while its query waits

    def step(self):
        now = time.monotonic()
        if not self.course or now - self.course[-1][0] >= 1:
            self.course.append((now, *self.server.resident(), cores.waited(self.server.pid)))
        super().step()

    def send(self, now):
        query = self.queries[self.order[len(self.sent) % len(self.order)]]
        if isinstance(query, Fresh):
            query.renew()
        super().send(now)

    def settle(self, index, reply, notes):
        if index >= 0 and is_failure(reply, self.queries[self.asked[index]]):
            self.failed.add(index)
            reply = upstream.answer(reply[:2] + self.queries[self.asked[index]].packet, 60)
        super().settle(index, reply, notes)


def is_failure(reply, query):
    return reply[2] & 0x80 and reply[3] & 15 == SERVFAIL and reply[12 : 12 + len(query.echo)] == query.echo


class TcpClient:
    """The checked load by TCP: one query after the other, from a separate process."""

    def __init__(self, port, asked, options, seconds):
        self.port, self.asked, self.rate = port, asked, options.tcp_rate
        self.streams, self.random = [None] * STREAMS, random.Random(options.seed)
        self.pipe, theirs = multiprocessing.Pipe(False)
        self.process = multiprocessing.Process(target=self.run, args=(theirs, seconds), daemon=True)

    def run(self, pipe, seconds):
        live.prepare(None)()
        rows, end = [], time.monotonic() + seconds
        for turn in itertools.count():
            sent = time.monotonic()
            if sent > end:
                break
            number = self.random.randrange(len(self.asked))
            if turn % RENEWAL == 0:
                self.streams[turn % STREAMS] = None
            rows.append((number, *self.ask(self.asked[number], turn % STREAMS), sent, time.monotonic()))
            time.sleep(max(0.0, sent + 1 / self.rate - time.monotonic()))
        pipe.send(rows)

    def ask(self, query, place):
        """The kind of the answer, and the fault if it is wrong."""
        try:
            reply = self.exchange(IDENT + query.packet, place)
        except TimeoutError:
            self.streams[place] = None
            return "lost", None
        except OSError:
            self.streams[place] = None
            return "refused", None
        if is_failure(reply, query):
            return "failed", None
        if reply[:2] != IDENT or reply[12 : 12 + len(query.echo)] != query.echo:
            return "wrong", "another question"
        return dns.classify(reply, query.rtype)

    def exchange(self, packet, place):
        try:
            if self.streams[place]:
                return talk(self.streams[place], packet)
        except ConnectionError:
            pass  # the server closed an idle connection: the client has to open another one
        self.streams[place] = socket.create_connection((dns.LOOPBACK, self.port), load.TIMEOUT)
        return talk(self.streams[place], packet)

    def rows(self):
        if self.pipe.poll(10):
            return self.pipe.recv()
        raise live.Failure("the queries by TCP did not finish")


def talk(stream, packet):
    stream.sendall(attacks.framed(packet))
    data = b""
    while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
        more = stream.recv(4096)
        if not more:
            raise ConnectionResetError
        data += more
    return data[2:]
