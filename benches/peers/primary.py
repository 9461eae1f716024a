"""A primary server of the policy zone, for servers that take differences by IXFR (RFC 1995).

It knows no whole zone: who asks has the one of the list's file, whose serial is 1, or later ones.
"""

import os
import socketserver
import struct
import sys
import threading

sys.path.insert(1, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "live"))

import dns
import live
from lists import TTL

IXFR = 251
FIRST = 1  # serial
MESSAGE = 16_000  # bytes of records in a message, about
ZONE = dns.wire_name("rpz")


class Primary(live.Child):
    """This file in another process. `began` puts a change of one name into force, before any other."""

    def __init__(self, folder, began=False):
        self.port, self.folder = live.free_port(), folder
        self.serial = FIRST
        if began:
            self.lay([], ["began.change.com"])
            os.rename(*self.move())
        command = [sys.executable, "-B", os.path.abspath(__file__), str(self.port), folder]
        super().__init__(command, os.path.join(folder, "primary.log"))
        probe = dns.query("rpz", dns.SOA)
        self.wait_for(lambda: dns.ask(self.port, probe, 0.1), 20)

    def lay(self, gone, came):
        self.serial += 1
        with open(self.move()[0], "w") as out:
            out.writelines(f"-{name}\n" for name in gone)
            out.writelines(f"+{name}\n" for name in came)

    def move(self):
        """The names of the file between which a change comes into force."""
        path = os.path.join(self.folder, f"change.{self.serial}")
        return path + ".new", path

    def publish(self):
        """The shell command after which the change is in force."""
        return "mv '{}' '{}'".format(*self.move())


def record(name, rtype, rdata):
    return name + struct.pack(">HHIH", rtype, 1, TTL, len(rdata)) + rdata


def soa(serial):
    names = dns.wire_name("localhost") + dns.wire_name("root.localhost")
    return record(ZONE, dns.SOA, names + struct.pack(">5I", serial, 3600, 600, 86400, TTL))


def blocks(names):
    """Both records of each name, as the zone's file has them."""
    for name in names:
        for owner in (name, f"*.{name}"):
            yield record(dns.wire_name(f"{owner}.rpz"), dns.A, dns.SINK_RDATA[dns.A])


class Zone:
    def __init__(self, folder):
        self.folder = folder

    def path(self, serial):
        return os.path.join(self.folder, f"change.{serial}")

    def serial(self):
        serial = FIRST
        while os.path.exists(self.path(serial + 1)):
            serial += 1
        return serial

    def answer(self, packet):
        """The records that answer a query: all changes since the client's zone, or the SOA."""
        end = dns.skip_name(packet, 12)
        rtype, newest = struct.unpack_from(">H", packet, end)[0], self.serial()
        since = client_serial(packet, end + 4) if rtype == IXFR else newest
        records = [soa(newest)]
        for serial in range(since, newest):
            records += self.change(serial)
        return records + ([soa(newest)] if since < newest else [])

    def change(self, serial):
        with open(self.path(serial + 1)) as lines:
            lines = lines.read().split()
        gone = blocks(line[1:] for line in lines if line[0] == "-")
        came = blocks(line[1:] for line in lines if line[0] == "+")
        return [soa(serial), *gone, soa(serial + 1), *came]


def client_serial(packet, at):
    """That of the SOA in the authority section of an IXFR query."""
    at = dns.skip_name(packet, at) + 10
    at = dns.skip_name(packet, dns.skip_name(packet, at))
    return struct.unpack_from(">I", packet, at)[0]


def messages(packet, records):
    """The answer in as many messages as it takes."""
    question = packet[12 : dns.skip_name(packet, 12) + 4]
    while records:
        lot, size = [], 0
        while records and size < MESSAGE:
            lot.append(records.pop(0))
            size += len(lot[-1])
        yield packet[:2] + struct.pack(">5H", 0x8400, 1, len(lot), 0, 0) + question + b"".join(lot)


def main():
    port, folder = int(sys.argv[1]), sys.argv[2]
    zone = Zone(folder)

    class Datagram(socketserver.BaseRequestHandler):
        def handle(self):
            packet, client = self.request
            if len(packet) > 16:
                # An IXFR query by UDP gets the SOA alone: the client comes back by TCP.
                client.sendto(next(messages(packet, [soa(zone.serial())])), self.client_address)

    class Stream(socketserver.StreamRequestHandler):
        def handle(self):
            while length := self.rfile.read(2):
                packet = self.rfile.read(int.from_bytes(length, "big"))
                for message in messages(packet, zone.answer(packet)):
                    self.wfile.write(struct.pack(">H", len(message)) + message)

    class Listener(socketserver.ThreadingTCPServer):
        allow_reuse_address = daemon_threads = True

    stream = Listener((dns.LOOPBACK, port), Stream)
    threading.Thread(target=stream.serve_forever, daemon=True).start()
    with socketserver.UDPServer((dns.LOOPBACK, port), Datagram) as datagrams:
        datagrams.serve_forever()


if __name__ == "__main__":
    main()
