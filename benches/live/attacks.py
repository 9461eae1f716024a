"""Bounded floods from separate addresses. Each checks the answers that it receives.

Each flood is a Python function. Its parameters include the server's port, the rate (in packets per second;
floods of streams define their own unit), and the duration in seconds. It returns its counts. Answers that must
not occur are counted as `fault: ...`.
"""

import collections
import itertools
import select
import socket
import struct
import time

import dns
import mutants

SOCKETS = 4  # per source address, so that each of the server's workers gets a part
TICK = 0.004  # seconds between small bursts
BEHIND = 0.1  # seconds; a flood that is later than this skips what it missed
LINGER = 0.3  # seconds to wait for late answers
BLOCKED = "t.me"  # blocked by the lists that the tools of this folder use
FORMERR, REFUSED = 1, 5
TCP_IDLE = 1  # seconds without data after which the server is configured to close a stream
TCP_LATE = 2  # seconds after TCP_IDLE within which the server must have closed the stream
AT_ONCE = 0.5  # seconds; a stream that is closed sooner was not accepted
UNREAD = 5  # streams


class Packets:
    """Sends packets by UDP, from one address or from several in turn, and receives the answers."""

    def __init__(self, port, sources):
        self.counts, self.replies = collections.Counter(), select.epoll()
        if isinstance(sources, str):
            self.turns = [self.open(port, sources) for _ in range(SOCKETS)]
        else:
            sockets = {source: self.open(port, source) for source in sources}
            self.turns = [sockets[source] for source in sources]
        self.sockets = {udp.fileno(): udp for udp in self.turns}

    def open(self, port, source):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind((source, 0))
        udp.connect((dns.LOOPBACK, port))
        udp.setblocking(False)
        self.replies.register(udp, select.EPOLLIN)
        return udp

    def send(self, packet):
        udp = self.turns[self.counts["sent"] % len(self.turns)]
        self.counts["sent"] += 1
        try:
            udp.send(packet)
        except OSError:
            self.counts["not sent"] += 1

    def take(self):
        for file, _events in self.replies.poll(0):
            while True:
                try:
                    reply = self.sockets[file].recv(4096)
                except OSError:
                    break
                self.counts[f"rcode {reply[3] & 15}" if len(reply) > 11 else "fault: cut answer"] += 1

    def run(self, packets, rate, seconds):
        for due in beats(rate, seconds):
            for _ in range(due):
                self.send(next(packets))
            self.take()
        time.sleep(LINGER)
        self.take()
        return self.counts

    def only(self, *rcodes):
        """Counts all other answers as faults."""
        for word in [w for w in self.counts if w.startswith("rcode") and int(w[6:]) not in rcodes]:
            self.counts[f"fault: answers with {word}"] = self.counts.pop(word)
        return self.counts


def beats(rate, seconds):
    """Yields the number of packets due, in small portions, until the time is over."""
    due = time.monotonic()
    end = due + seconds
    while (now := time.monotonic()) < end:
        due = max(due, now - BEHIND)
        count = int((now - due) * rate)
        yield count
        due += count / rate
        time.sleep(TICK)


def many_clients(chance):
    """Source addresses, one for each packet in turn, of clients that together exceed the limits. One client sends
    far too much, five send much, and 240 send so little that they get the share that is reserved for such clients."""
    turns = ["127.0.0.20"] * 200 + [f"127.0.0.{21 + i % 5}" for i in range(460)]
    turns += [f"127.0.1.{1 + i}" for i in range(240)]
    chance.shuffle(turns)
    return turns


def repeat(make):
    return (make() for _ in itertools.count())


def query(name, chance, rtype=dns.A, **more):
    return dns.query(name, rtype, ident=chance.getrandbits(16), **more)


# By UDP.


def random_names(port, rate, seconds, chance, sources="127.0.0.9"):
    """New names below one domain: none is in a cache."""
    packets = repeat(lambda: query(f"{chance.getrandbits(64):x}.victim.example.net", chance))
    return Packets(port, sources).run(packets, rate, seconds)


def random_names_of_many(port, rate, seconds, chance):
    """The same from many clients."""
    return random_names(port, rate, seconds, chance, many_clients(chance))


def one_name(port, rate, seconds, chance):
    """The same name repeatedly; another one in the next run."""
    name = f"{chance.getrandbits(64):x}.popular.example.net"
    return Packets(port, "127.0.0.10").run(repeat(lambda: query(name, chance)), rate, seconds)


def oversized(port, rate, seconds, chance):
    """Queries followed by more bytes than any query needs."""
    packet = lambda: query("big.example.net", chance) + bytes(chance.randrange(1300, 9000))
    flood = Packets(port, "127.0.0.11")
    flood.run(repeat(packet), rate, seconds)
    return flood.only(FORMERR)


def malformed(port, rate, seconds, chance):
    """Queries with one mutation each; many are still valid."""
    breeder = mutants.Breeder(chance.getrandbits(32))
    return Packets(port, "127.0.0.12").run(repeat(breeder.mutant), rate, seconds)


def responses(port, rate, seconds, chance):
    """Responses. A server that answered responses could loop with another server."""

    def packet():
        header = struct.pack(">6H", chance.getrandbits(16), 0x8180 | chance.choice((0, 0, 1, 3, 5)), 1, 0, 0, 0)
        return header + query(chance.choice((BLOCKED, "other.example.net")), chance)[12:]

    flood = Packets(port, "127.0.0.14")
    flood.run(repeat(packet), rate, seconds)
    return flood.only()


def without_permission(port, rate, seconds, chance):
    """Clients without permission: REFUSED for a query, no answer to a malformed packet."""
    breeder = mutants.Breeder(chance.getrandbits(32))

    def packet():
        if chance.random() < 0.3:
            return breeder.mutant()
        return query(chance.choice((BLOCKED, "other.example.net")), chance, edns=chance.random() < 0.5)

    flood = Packets(port, "127.1.0.1")
    flood.run(repeat(packet), rate, seconds)
    return flood.only(REFUSED)


# By TCP.


class Streams:
    """Open connections by file descriptor, each with the time of its opening."""

    def __init__(self, port, sources, events=select.POLLIN, room=None):
        self.port, self.sources, self.events, self.room = port, sources, events, room
        self.open, self.counts, self.poll = {}, collections.Counter(), select.poll()

    def add(self):
        stream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if self.room:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.room)
            # The send buffer of the peer is a multiple of the segment size, so small segments keep it small.
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, self.room)
        stream.bind((self.sources[self.counts["opened"] % len(self.sources)], 0))
        stream.setblocking(False)
        stream.connect_ex((dns.LOOPBACK, self.port))
        self.open[stream.fileno()] = stream, time.monotonic()
        self.poll.register(stream, self.events)
        self.counts["opened"] += 1

    def fill(self, count):
        """Opens connections until there are `count`, a few at each call."""
        for _ in range(min(10, count - len(self.open))):
            self.add()

    def close(self, file):
        """Returns how long it was open."""
        self.poll.unregister(file)
        stream, born = self.open.pop(file)
        stream.close()
        return time.monotonic() - born

    def ended(self):
        """For each connection that the server closed since the last call: how long it was open."""
        for file, events in self.poll.poll(0):
            try:
                over = events & ~select.POLLIN or not self.open[file][0].recv(4096)
            except OSError:
                over = True
            if over:
                yield self.close(file)

    def note_ended(self):
        for lived in self.ended():
            self.counts["closed at once" if lived < AT_ONCE else "closed for silence"] += 1
            self.note_duration(lived)

    def note_duration(self, lived):
        if lived > TCP_IDLE + TCP_LATE:
            self.counts["fault: open for too long"] += 1

    def finish(self):
        for file in list(self.open):
            self.note_duration(self.close(file))
        return self.counts


def connections(port, rate, seconds, chance):
    """Opens `rate` connections per second from many addresses, and sends nothing on them."""
    streams = Streams(port, many_clients(chance))
    for due in beats(rate, seconds):
        for _ in range(due):
            streams.add()
        streams.note_ended()
    return streams.finish()


def slow(port, rate, seconds, chance):
    """Keeps `rate` connections open, each of which sends one byte of a query per second."""
    streams, sent = Streams(port, ["127.0.0.17"]), collections.Counter()
    data = framed(query(BLOCKED, chance))
    for due in beats(rate, seconds):
        streams.fill(rate)
        streams.note_ended()
        for file in list(streams.open)[:due]:
            # Round robin: each connection that gets a byte moves to the end of the dictionary.
            stream, born = streams.open.pop(file)
            streams.open[file] = stream, born
            at = int((time.monotonic() - born) % len(data))
            sent[file] += write(stream, data[at : at + 1])
    streams.counts["bytes"] = sent.total()
    return streams.finish()


def unread(port, rate, seconds, chance):
    """Sends `rate` queries per second on a few connections whose answers are never read."""
    streams, place = Streams(port, ["127.0.0.16"], events=0, room=536), collections.Counter()
    frame = framed(query(BLOCKED, chance, dns.TXT, edns=True))
    for due in beats(rate, seconds):
        while len(streams.open) < UNREAD:
            streams.add()
        for file, (stream, _born) in streams.open.items():
            data = frame * max(1, due // UNREAD)
            sent = write(stream, data[place[stream] :])
            place[stream] = (place[stream] + sent) % len(frame)
            streams.counts["bytes"] += sent
        streams.counts["closed unread"] += sum(1 for _ in streams.ended())
    for file in list(streams.open):
        streams.close(file)
    return streams.counts


def framed(packet):
    return struct.pack(">H", len(packet)) + packet


def write(stream, data):
    try:
        return stream.send(data)
    except OSError:  # not open yet, full, or closed, which `ended` reports
        return 0
