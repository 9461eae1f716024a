#!/usr/bin/env -S python3 -B
"""A relay in front of an upstream. On request, the relay forges a share of the answers.

    benches/live/relay.py --upstream PORT [--port PORT] [--forged-share 0.3]

Passes queries by UDP and TCP to an upstream on 127.0.0.1, and its answers back. After SIGUSR1 it
treats a share of the answers by UDP in the ways of `Relay.FORGERIES`, until SIGUSR2. The forged records
have an address or text that no correct answer has. Answers by TCP are never forged. At its end the
relay prints as JSON how often it did each of these things.
"""

import argparse
import collections
import heapq
import json
import random
import select
import signal
import socket
import socketserver
import sys
import threading
import time

import dns

POISON = {
    dns.TRUE_RDATA[dns.A]: socket.inet_aton("203.0.113.66"),
    dns.TRUE_RDATA[dns.AAAA]: socket.inet_pton(socket.AF_INET6, "2001:db8::666"),
    dns.TRUE_RDATA[dns.TXT]: b"\x08poisoned",
}
LATE = 0.25, 1.2  # seconds; the server's timeout lies in between
SECOND_WORD = 0.002  # seconds between a forged answer and the correct one


def poison(reply):
    """The same answer with forged records."""
    for true, false in POISON.items():
        reply = reply.replace(true, false)
    return reply


def with_name(reply, change):
    """The same answer about a name whose letter case is changed."""
    end = dns.skip_name(reply, 12)
    return reply[:12] + change(reply[12:end]) + reply[end:]


def bound(port):
    """The socket that the server queries."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    udp.bind((dns.LOOPBACK, port))
    return udp


class Relay:
    """Relays queries and answers; delayed answers wait in `held`."""

    def __init__(self, upstream, port, share):
        self.front, self.back, self.elsewhere = bound(port), dns.udp_socket(), dns.udp_socket()
        self.back.connect((dns.LOOPBACK, upstream))
        for udp in (self.front, self.back, self.elsewhere):
            udp.setblocking(False)
        self.waiting, self.next = [None] * 65536, 0
        self.held, self.share, self.forging = [], share, False
        self.counts = collections.Counter()
        self.random = random.Random(1)

    def run(self):
        while True:
            self.release()
            patience = max(0.0, self.held[0][0] - time.monotonic()) if self.held else 1.0
            for udp in select.select([self.front, self.back], (), (), patience)[0]:
                (self.ask if udp is self.front else self.answer)()

    def ask(self):
        """Passes queries on with sequential IDs: the IDs of the server are random and can collide."""
        for _ in range(64):
            try:
                packet, client = self.front.recvfrom(4096)
                self.waiting[self.next] = client, packet[:2]
                self.back.send(self.next.to_bytes(2, "big") + packet[2:])
            except OSError:
                return
            self.next = (self.next + 1) % 65536
            self.counts["questions"] += 1

    def answer(self):
        for _ in range(64):
            try:
                reply = self.back.recv(65535)
            except OSError:
                return
            number = int.from_bytes(reply[:2], "big")
            waiting, self.waiting[number] = self.waiting[number], None
            if waiting:
                client, ident = waiting
                named = reply[12:13] > b"\0"  # the root has no letters to change
                forged = self.forging and named and self.random.random() < self.share
                way = self.random.choice(self.FORGERIES) if forged else Relay.honest
                self.counts[way.__name__] += 1
                way(self, ident + reply[2:], client)

    def send(self, packet, client, udp=None):
        try:
            (udp or self.front).sendto(packet, client)
        except OSError:
            self.counts["not sent"] += 1

    def delay(self, packet, client, seconds):
        heapq.heappush(self.held, (time.monotonic() + seconds, self.next, packet, client))

    def release(self):
        while self.held and self.held[0][0] <= time.monotonic():
            _due, _number, packet, client = heapq.heappop(self.held)
            self.send(packet, client)

    def before_correct(self, forged, true, client, udp=None):
        self.send(forged, client, udp)
        self.delay(true, client, SECOND_WORD)

    def honest(self, true, client):
        self.send(true, client)

    def late(self, true, client):
        self.delay(true, client, self.random.uniform(*LATE))

    def silent(self, true, client):
        pass

    def twice(self, true, client):
        self.send(true, client)
        self.send(true, client)

    def wrong_id(self, true, client):
        ident = bytes([true[0] ^ self.random.randrange(1, 256), true[1]])
        self.before_correct(ident + poison(true)[2:], true, client)

    def wrong_question(self, true, client):
        forged = with_name(poison(true), lambda name: name[:1] + bytes([name[1] ^ 1]) + name[2:])
        self.before_correct(forged, true, client)

    def other_letters(self, true, client):
        self.send(with_name(poison(true), bytes.swapcase), client)

    def noise(self, true, client):
        self.before_correct(self.random.randbytes(self.random.randrange(1, 300)), true, client)

    def garbage(self, true, client):
        """The question is right, and the records are truncated: it cannot be distinguished from upstream's answer."""
        self.send(poison(true)[:-3], client)

    def from_elsewhere(self, true, client):
        self.before_correct(poison(true), true, client, self.elsewhere)

    FORGERIES = [late, silent, twice, wrong_id, wrong_question, other_letters, noise, garbage, from_elsewhere]


def pass_streams(port, upstream):
    """Relays TCP in threads: there are few connections, and no answer is forged."""

    class Stream(socketserver.StreamRequestHandler):
        def handle(self):
            with socket.create_connection((dns.LOOPBACK, upstream)) as above, above.makefile("rb") as replies:
                while len(length := self.rfile.read(2)) == 2:
                    above.sendall(length + self.rfile.read(int.from_bytes(length, "big")))
                    length = replies.read(2)
                    self.wfile.write(length + replies.read(int.from_bytes(length, "big")))

    class Listener(socketserver.ThreadingTCPServer):
        allow_reuse_address = daemon_threads = True

        def handle_error(self, *_):
            """Ends of connections are expected."""

    threading.Thread(target=Listener((dns.LOOPBACK, port), Stream).serve_forever, daemon=True).start()


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--upstream", type=int, required=True, help="its port")
    arguments.add_argument("--port", type=int, default=0, help="default: a free one")
    arguments.add_argument("--forged-share", type=float, default=0.3, help="share of the answers that are forged")
    options = arguments.parse_args()
    relay = Relay(options.upstream, options.port, options.forged_share)
    port = relay.front.getsockname()[1]
    pass_streams(port, options.upstream)
    signal.signal(signal.SIGUSR1, lambda *_: setattr(relay, "forging", True))
    signal.signal(signal.SIGUSR2, lambda *_: setattr(relay, "forging", False))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"{dns.LOOPBACK}:{port}", flush=True)
    try:
        relay.run()
    except KeyboardInterrupt:
        pass
    finally:
        print(json.dumps(relay.counts), flush=True)


if __name__ == "__main__":
    main()
