#!/usr/bin/env -S python3 -B
"""Mutated queries through the socket: does the server survive, and still answer?

    benches/live/mutants.py --binary target/release/tapis [--count 1000000] [--seed 1]

Valid queries for all kinds of types, classes, opcodes, names (blocked, forwarded, local) and EDNS
options are mutated: bits flipped, bytes set, inserted, removed, parts doubled or swapped with those of
other queries, counts changed, names turned into loops. Most are sent by UDP, some by TCP, also in
frames of a wrong length and in connections that break off. Only 127.0.0.1 is ever addressed.

Mutants are sent in packs of 100 from one socket. After each pack, the same socket sends a health query, which
passes through the same queue. It must be answered correctly within 2 s. This shows that the server keeps up, and
that it has read every mutant before the next pack is sent. Packets that the kernel dropped nevertheless are
reported. At the end the server must be the same process, answer correctly, and have counted every packet in
`status`. Answers to mutants are counted by rcode, and checked for properties of all answers: QR is set, and they
have at most 1232 bytes by UDP.

The same --seed repeats a run. If the server dies, the last packs are kept in a file.
Exit code 1 if a check fails.
"""

import argparse
import collections
import os
import random
import socket
import struct
import time

import dns
import live
import upstream

PACK = 100
TCP_SHARE = 0.02  # of the packs
CLIENTS = 16
LARGEST_UDP = 1232
BLOCKED = ["t.me", "web.telegram.org", "flora-1.web.telegram.org"]
NAMES = BLOCKED + """example.org www.example.org a.b.c.d.e.f.example.net localhost onion x.onion
10.in-addr.arpa 1.0.0.127.in-addr.arpa home.arpa resolver.arpa use-application-dns.net version.bind
xn--bcher-kva.example _443._tcp.example.com api.telegram.org""".split()
NAMES += [".", ".".join(["a" * 63] * 3 + ["b" * 61]), ".".join("x" * 127)]
TYPES = [1, 2, 5, 6, 10, 12, 13, 15, 16, 24, 25, 28, 33, 35, 39, 41, 43, 46, 47, 48, 50, 52, 64, 65]
TYPES += [99, 108, 128, 249, 250, 251, 252, 253, 254, 255, 256, 257, 0, 32768, 65280, 65535]
OPTIONS = [3, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16, 20, 26946, 65001, 65535]
EDGES = b"\x00\x01\x3f\x40\x41\x7f\x80\xbf\xc0\xc1\xfe\xff"


class Breeder:
    """Makes mutants; the same ones for the same seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.queries = [self.query() for _ in range(4000)]

    def query(self):
        """A well-formed query, often an unusual one."""
        chance, pick = self.random.random, self.random.choice
        name, rtype = pick(NAMES), pick(TYPES)
        rclass = 1 if chance() < 0.85 else pick([0, 2, 3, 4, 254, 255])
        opcode = 0 if chance() < 0.9 else pick([1, 2, 4, 5, 6, 15])
        flags = opcode << 11 | (0x0100 if chance() < 0.9 else 0) | pick([0, 0, 0x10, 0x20, 0x30])
        question = dns.wire_name(name) + struct.pack(">HH", rtype, rclass)
        authority = additional = b""
        if rtype == 251:  # IXFR carries a SOA
            soa = b"\0\0" + struct.pack(">5I", 1, 2, 3, 4, 5)
            authority = b"\xc0\x0c" + struct.pack(">HHIH", 6, 1, 0, len(soa)) + soa
        if chance() < 0.7:
            options = b"".join(self.option() for _ in range(self.random.randrange(4)))
            size, ttl = pick([0, 512, 1232, 4096, 65535]), pick([0, 0, 0x8000, 0x10000, 0xFF000000])
            additional = struct.pack(">BHHIH", 0, 41, size, ttl, len(options)) + options
        counts = (1, 0, 1 if authority else 0, 1 if additional else 0)
        return struct.pack(">6H", 0, flags, *counts) + question + authority + additional

    def option(self):
        length = self.random.choice([0, 1, 4, 8, 16, 24, 40, 200])
        return struct.pack(">HH", self.random.choice(OPTIONS), length) + self.random.randbytes(length)

    def mutant(self):
        """A query with one to three mutations."""
        packet = bytearray(self.random.choice(self.queries))
        packet[:2] = self.random.randbytes(2)
        for _ in range(self.random.choice((1, 1, 1, 2, 2, 3))):
            self.random.choice(WAYS)(self, packet)
        return bytes(packet[:65507])

    def place(self, packet):
        return self.random.randrange(len(packet)) if packet else 0

    def flip(self, packet):
        for _ in range(self.random.randrange(1, 9) if packet else 0):
            packet[self.place(packet)] ^= 1 << self.random.randrange(8)

    def edge(self, packet):
        for _ in range(self.random.randrange(1, 4) if packet else 0):
            packet[self.place(packet)] = self.random.choice(EDGES)

    def cut(self, packet):
        del packet[self.place(packet) :]

    def remove(self, packet):
        at = self.place(packet)
        del packet[at : at + self.random.randrange(1, 20)]

    def insert(self, packet):
        at = self.place(packet)
        length = self.random.choice((1, 2, 3, 10, 64, 300, 1500, 9000))
        packet[at:at] = self.random.randbytes(self.random.randrange(length) + 1)

    def double(self, packet):
        start, at = self.place(packet), self.place(packet)
        packet[at:at] = packet[start : start + self.random.randrange(1, 80)] * self.random.randrange(1, 4)

    def splice(self, packet):
        other = self.random.choice(self.queries)
        packet[self.place(packet) :] = other[self.random.randrange(len(other)) :]

    def count(self, packet):
        if len(packet) >= 12:
            value = self.random.choice((0, 1, 2, 3, 255, 65535))
            struct.pack_into(">H", packet, self.random.choice((4, 6, 8, 10)), value)

    def insert_loop(self, packet):
        if len(packet) > 14:
            at = self.random.randrange(12, len(packet) - 1)
            struct.pack_into(">H", packet, at, 0xC000 | self.random.choice((0, 12, at, at + 1, 0x3FFF)))


WAYS = [Breeder.flip, Breeder.flip, Breeder.edge, Breeder.cut, Breeder.remove, Breeder.insert]
WAYS += [Breeder.double, Breeder.splice, Breeder.count, Breeder.insert_loop]


class Hunt:
    """Sends the packs and counts the answers."""

    def __init__(self, port, breeder):
        self.port, self.breeder = port, breeder
        self.clients = [dns.udp_socket() for _ in range(CLIENTS)]
        self.sent, self.answers = collections.Counter(), collections.Counter()
        self.faults, self.slowest, self.last = [], 0.0, collections.deque(maxlen=20)

    def note(self, reply, transport):
        if len(reply) < 12 or not reply[2] & 0x80 or transport == "udp" and len(reply) > LARGEST_UDP:
            self.faults.append(f"an answer by {transport} that is invalid: {reply[:40].hex()} ({len(reply)})")
        self.answers[f"{transport} rcode {reply[3] & 15}"] += 1

    def health(self, client, number):
        """Sends a health query after the pack, and receives the answers to the pack meanwhile."""
        blocked = number % 2 == 0
        packet = dns.query(BLOCKED[0] if blocked else "health.example.org", ident=number & 0xFFFF)
        start = time.monotonic()
        client.sendto(packet, (dns.LOOPBACK, self.port))
        self.sent["health"] += 1
        while True:
            client.settimeout(max(0.001, start + 2 - time.monotonic()))
            try:
                reply = client.recv(65535)
            except (TimeoutError, ConnectionRefusedError) as error:
                raise live.Failure(f"no answer to health query {number} within 2 s ({error})") from error
            # A mutant may have the same ID; the question distinguishes them.
            if reply[:2] == packet[:2] and reply[12 : len(packet)] == packet[12:]:
                break
            self.note(reply, "udp")
        self.slowest = max(self.slowest, time.monotonic() - start)
        if dns.classify(reply, dns.A)[0] != ("blocked" if blocked else "true"):
            self.faults.append(f"health query {number} is answered {reply.hex()}")

    def by_udp(self, pack, number):
        client = self.clients[number % CLIENTS]
        for packet in pack:
            client.sendto(packet, (dns.LOOPBACK, self.port))
        self.sent["udp"] += len(pack)
        self.health(client, number)

    def by_tcp(self, pack, number):
        chance = self.breeder.random.random
        for start in range(0, len(pack), 10):
            stream = b""
            for packet in pack[start : start + 10]:
                wrong = chance() < 0.1
                length = int(chance() * 65536) if wrong else len(packet)
                stream += struct.pack(">H", length) + packet
            self.sent["tcp"] += len(pack[start : start + 10])
            try:
                with socket.create_connection((dns.LOOPBACK, self.port), timeout=5) as client:
                    client.sendall(stream)
                    if chance() < 0.1:  # the connection breaks off
                        continue
                    client.shutdown(socket.SHUT_WR)
                    self.frames(client)
            except TimeoutError:
                self.faults.append(f"TCP connection of pack {number} stays open for 5 s")
            except OSError:
                self.answers["tcp reset"] += 1
        self.health(self.clients[number % CLIENTS], number)

    def frames(self, client):
        with client.makefile("rb") as stream:
            while len(length := stream.read(2)) == 2:
                self.note(stream.read(int.from_bytes(length, "big")), "tcp")

    def run(self, count):
        for number in range(count // PACK):
            pack = [self.breeder.mutant() for _ in range(PACK)]
            self.last.append(pack)
            by_tcp = self.breeder.random.random() < TCP_SHARE
            (self.by_tcp if by_tcp else self.by_udp)(pack, number)
            if number and number % 1000 == 0:
                live.say(f"{number * PACK} mutants")


def kernel_drops(port):
    """Packets that the kernel dropped before the server could read them."""
    with open("/proc/net/udp") as sockets:
        lines = [line.split() for line in sockets.readlines()[1:]]
    return sum(int(fields[-1]) for fields in lines if fields[1].endswith(f":{port:04X}"))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--count", type=int, default=1_000_000)
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()
    with live.workshop("mutants") as folder, upstream.Upstream(folder) as above:
        names = os.path.join(folder, "names.txt")
        live.write_names(names, BLOCKED)
        lists = [{"name": "some", "path": names}]
        with live.Tapis(options.binary, folder, above.port, lists) as server:
            server.wait()
            hunt, begin = Hunt(server.port, Breeder(options.seed)), time.monotonic()
            before, memory = server.status()["counters"], server.memory()
            try:
                hunt.run(options.count)
            except live.Failure as failure:
                kept = os.path.join(folder, "last-mutants.hex")
                live.write_names(kept, [packet.hex() for pack in hunt.last for packet in pack])
                state = "lives" if server.alive() else "is dead"
                raise live.Failure(f"{failure}; the server {state}\n{server.tail()}") from failure
            seconds, drops = time.monotonic() - begin, kernel_drops(server.port)
            after = server.status()["counters"]
            counted = {name: after[name] - before[name] for name in after if after[name] != before[name]}
            result = {"tool": "mutants", "options": vars(options), "sent": hunt.sent}
            result |= {"seconds": round(seconds, 1), "answers": dict(sorted(hunt.answers.items()))}
            result |= {"kernel_drops": drops, "counted": counted, "pid": server.pid}
            result |= {"slowest_health_ms": round(hunt.slowest * 1e3, 2)}
            result |= {"memory_before": memory, "memory_after": server.memory()}
            if not server.alive():
                hunt.faults.append(f"the server ended:\n{server.tail()}")
    arrived = hunt.sent["udp"] + hunt.sent["health"] - drops
    if counted.get("udp_queries") != arrived:
        hunt.faults.append(f"{arrived} packets by UDP, but `status` counts {counted.get('udp_queries')}")
    live.say(
        f"{hunt.sent['udp']} mutants by UDP and {hunt.sent['tcp']} by TCP in {seconds:.0f} s: the server survived, "
        f"slowest of {hunt.sent['health']} health queries {hunt.slowest * 1e3:.1f} ms, {drops} dropped by the kernel"
    )
    live.finish(result, hunt.faults)


if __name__ == "__main__":
    main()
