"""A primary server of a policy zone, for servers that load differences by IXFR (RFC 1995).

It sends no complete zones: clients already have the zone of the list's file, with serial 1, or a later zone.
"""

import os
import socket
import socketserver
import struct
import sys
import threading

sys.path.insert(1, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "live"))

import dns
import live
from lists import OLD, TTL, blocks

CNAME, IXFR = 5, 251
MESSAGE = 16_000  # approximate bytes of records in a message


class Primary(live.Child):
    """This file in another process. With `began`, a change of one name precedes all others."""

    def __init__(self, folder, zone, began=False):
        self.port, self.prefix = live.free_port(), os.path.join(folder, f"change-of-{zone}.")
        self.serial = OLD
        if began:
            self.lay([], blocks(["began.change.com"]))
            os.rename(*self.move())
        command = [sys.executable, "-B", os.path.abspath(__file__), str(self.port), zone, self.prefix]
        super().__init__(command, os.path.join(folder, f"primary-of-{zone}.log"))
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


def wire_record(name, rtype, rdata):
    return dns.wire_name(name) + struct.pack(">HHIH", rtype, 1, TTL, len(rdata)) + rdata


class Zone:
    def __init__(self, name, prefix):
        self.name, self.prefix = name, prefix

    def path(self, serial):
        return f"{self.prefix}{serial}"

    def serial(self):
        serial = OLD
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
    question = packet[12 : dns.skip_name(packet, 12) + 4]
    while records:
        lot, size = [], 0
        while records and size < MESSAGE:
            lot.append(records.pop(0))
            size += len(lot[-1])
        yield packet[:2] + struct.pack(">5H", 0x8400, 1, len(lot), 0, 0) + question + b"".join(lot)


def main():
    port, zone = int(sys.argv[1]), Zone(*sys.argv[2:])

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
