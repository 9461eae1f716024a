"""A primary server of a policy zone that sends changes by IXFR (RFC 1995), and no complete zones: clients already have
the first version, or a later one.

With the port of a server, it also measures when changes are in force: after it has sent them, it asks that server for
the last name that was added, until this name is blocked.
"""

import os
import socket
import socketserver
import struct
import sys
import threading
import time

import dns
import live

CNAME, IXFR, NXDOMAIN, TTL = 5, 251, 3, 60
MESSAGE = 16_000  # approximate bytes of records in a message


class Primary(live.Child):
    """This file in another process. Changes are lists of (owner, record); `first` is one that precedes all others."""

    def __init__(self, folder, zone, serial=1, first=None, server=0):
        self.port, self.prefix = live.free_port(), os.path.join(folder, f"change-of-{zone}.")
        self.serial = serial
        if first:
            self.lay([], first)
            os.rename(*self.move())
        command = [sys.executable, "-B", os.path.abspath(__file__), self.port, zone, serial, self.prefix, server]
        super().__init__([*map(str, command)], os.path.join(folder, f"primary-of-{zone}.log"))
        probe = dns.query(zone, dns.SOA)
        self.wait_for(lambda: dns.ask(self.port, probe, 0.1), 20)

    def lay(self, gone, came):
        self.serial += 1
        with open(self.move()[0], "w") as out:
            out.writelines(f"- {owner} {record}\n" for owner, record in gone)
            out.writelines(f"+ {owner} {record}\n" for owner, record in came)

    def move(self):
        """The two names of a change's file. Renaming the file from the first to the second makes the change
        visible."""
        path = f"{self.prefix}{self.serial}"
        return path + ".new", path

    def publish(self):
        """The shell command after which the change is in force."""
        return "mv '{}' '{}'".format(*self.move())

    def delays(self):
        """For each transfer of changes, the milliseconds from its last byte until the changes were in force."""
        with open(self.log) as log:
            return [float(line) for line in log]


def wire_record(name, rtype, rdata):
    return dns.wire_name(name) + struct.pack(">HHIH", rtype, 1, TTL, len(rdata)) + rdata


class Zone:
    def __init__(self, name, base, prefix):
        self.name, self.base, self.prefix = name, base, prefix
        self.added = None  # the last name that a change added, of those that were sent

    def path(self, serial):
        return f"{self.prefix}{serial}"

    def serial(self):
        serial = self.base
        while os.path.exists(self.path(serial + 1)):
            serial += 1
        return serial

    def answer(self, packet):
        """The records that answer a query: all changes since the client's zone, or the SOA."""
        end = dns.skip_name(packet, 12)
        rtype, newest = struct.unpack_from(">H", packet, end)[0], self.serial()
        since = client_serial(packet, end + 4) if rtype == IXFR else newest
        records = [self.soa(newest)]
        for serial in range(since, newest):
            records += self.change(serial)
        return records + ([self.soa(newest)] if since < newest else [])

    def change(self, serial):
        """The difference from that serial to the next one."""
        gone, came = [], []
        with open(self.path(serial + 1)) as lines:
            for sign, owner, rtype, value in map(str.split, lines):
                rtype, rdata = (dns.A, socket.inet_aton(value)) if rtype == "A" else (CNAME, dns.wire_name(value))
                (gone if sign == "-" else came).append(wire_record(f"{owner}.{self.name}", rtype, rdata))
                self.added = owner.removeprefix("*.")
        return [self.soa(serial), *gone, self.soa(serial + 1), *came]

    def soa(self, serial):
        names = dns.wire_name("localhost") + dns.wire_name("root.localhost")
        return wire_record(self.name, dns.SOA, names + struct.pack(">5I", serial, 3600, 600, 86400, TTL))


def client_serial(packet, at):
    """The serial of the SOA in the authority section of an IXFR query."""
    at = dns.skip_name(packet, at) + 10
    at = dns.skip_name(packet, dns.skip_name(packet, at))
    return struct.unpack_from(">I", packet, at)[0]


def messages(packet, records):
    """The answer, split into as many messages as needed."""
    question, at = packet[12 : dns.skip_name(packet, 12) + 4], 0
    while at < len(records):
        first, size = at, 0
        while at < len(records) and size < MESSAGE:
            size += len(records[at])
            at += 1
        yield packet[:2] + struct.pack(">5H", 0x8400, 1, at - first, 0, 0) + question + b"".join(records[first:at])


def until_blocked(server, name):
    """Milliseconds until a server answers NXDOMAIN for a name."""
    start, query, client = time.monotonic(), dns.query(name, dns.A), dns.udp_socket()
    while True:
        reply = dns.ask(server, query, 1.0, client)
        if reply and dns.read(reply)[0] == NXDOMAIN:
            return (time.monotonic() - start) * 1e3
        time.sleep(0.0005)


def main():
    port, server = int(sys.argv[1]), int(sys.argv[5])
    zone = Zone(sys.argv[2], int(sys.argv[3]), sys.argv[4])

    class Datagram(socketserver.BaseRequestHandler):
        def handle(self):
            packet, client = self.request
            if len(packet) > 16:
                # An IXFR query by UDP gets only the SOA: the client retries by TCP.
                client.sendto(next(messages(packet, [zone.soa(zone.serial())])), self.client_address)

    class Stream(socketserver.StreamRequestHandler):
        def handle(self):
            while length := self.rfile.read(2):
                packet = self.rfile.read(int.from_bytes(length, "big"))
                records = zone.answer(packet)
                self.wfile.write(b"".join(struct.pack(">H", len(m)) + m for m in messages(packet, records)))
                if server and len(records) > 1:
                    print(round(until_blocked(server, zone.added), 2), flush=True)

    class Listener(socketserver.ThreadingTCPServer):
        allow_reuse_address = daemon_threads = True

    stream = Listener((dns.LOOPBACK, port), Stream)
    threading.Thread(target=stream.serve_forever, daemon=True).start()
    with socketserver.UDPServer((dns.LOOPBACK, port), Datagram) as datagrams:
        datagrams.serve_forever()


if __name__ == "__main__":
    main()
