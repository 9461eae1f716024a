#!/usr/bin/env -S python3 -B
"""An upstream that answers every name.

    benches/live/upstream.py [--port PORT] [--ttl SECONDS] [--python]

Starts nsd on a free port of 127.0.0.1 with one zone, the root, in which a wildcard answers A with
192.0.2.1, AAAA with 2001:db8::1 and TXT with "upstream" for every name. Where nsd is not installed,
or with --python, a small server in this process does the same, more slowly. Prints the address and
serves until it is interrupted. The other tools of this directory start it themselves.
"""

import argparse
import os
import shutil
import socket
import socketserver
import struct
import sys
import time

import dns
import live

SERIAL = 4_000_000_000  # never a generation of the server under test
ZONE = f"""$ORIGIN .
$TTL {{ttl}}
. SOA ns.upstream.invalid. hostmaster.upstream.invalid. {SERIAL} 3600 900 86400 {{ttl}}
. NS ns.upstream.invalid.
ns.upstream.invalid. A 127.0.0.1
* A {dns.TRUE_A}
* AAAA {dns.TRUE_AAAA}
* TXT "{dns.TRUE_TXT}"
"""
CONFIG = """server:
  ip-address: {host}@{port}
  zonesdir: "{folder}"
  database: ""
  zonelistfile: "{folder}/zone.list"
  xfrdfile: "{folder}/xfrd.state"
  xfrdir: "{folder}"
  pidfile: ""
  username: ""
  server-count: 1
  verbosity: 0
  rrl-ratelimit: 0
  minimal-responses: yes
  tcp-count: 512
remote-control:
  control-enable: no
zone:
  name: "."
  zonefile: "root.zone"
"""


class Upstream(live.Child):
    """nsd, or this file in another process. `port` is where it answers."""

    def __init__(self, folder, port=0, ttl=60, cpu=None, python=False):
        self.port = port or live.free_port()
        log = os.path.join(folder, "upstream.log")
        nsd = shutil.which("nsd", path=os.environ.get("PATH", "") + ":/usr/sbin")
        if nsd and not python:
            with open(os.path.join(folder, "root.zone"), "w") as zone:
                zone.write(ZONE.format(ttl=ttl))
            config = os.path.join(folder, "nsd.conf")
            with open(config, "w") as out:
                out.write(CONFIG.format(host=dns.LOOPBACK, port=self.port, folder=folder))
            command = [nsd, "-d", "-c", config]
        else:
            options = ["--port", str(self.port), "--ttl", str(ttl), "--serve"]
            command = [sys.executable, os.path.abspath(__file__), *options]
        super().__init__(command, log, cpu)
        probe = dns.query("probe.example")
        try:
            self.wait_for(lambda: dns.ask(self.port, probe, 0.1), 20)
        except BaseException:
            self.__exit__()
            raise


def answer(packet, ttl):
    """The zone's answer, built by hand; None for a packet that is not a query."""
    if len(packet) < 17 or packet[2] & 0xF8:
        return None
    end = dns.skip_name(packet, 12) + 4
    rtype = struct.unpack_from(">H", packet, end - 4)[0]
    rdata = dns.TRUE_RDATA.get(rtype)
    header = packet[:2] + bytes([0x84 | packet[2] & 1, 0]) + b"\0\1"
    if rdata:
        record = struct.pack(">HHHIH", 0xC00C, rtype, 1, ttl, len(rdata)) + rdata
        return header + b"\0\1\0\0\0\0" + packet[12:end] + record
    soa = b"\0\0" + struct.pack(">5I", SERIAL, 3600, 900, 86400, ttl)
    record = struct.pack(">BHHIH", 0, dns.SOA, 1, ttl, len(soa)) + soa
    return header + b"\0\0\0\1\0\0" + packet[12:end] + record


def serve(port, ttl):
    class Stream(socketserver.StreamRequestHandler):
        def handle(self):
            while length := self.rfile.read(2):
                reply = answer(self.rfile.read(int.from_bytes(length, "big")), ttl)
                if reply:
                    self.wfile.write(struct.pack(">H", len(reply)) + reply)

    class Listener(socketserver.ThreadingTCPServer):
        allow_reuse_address = daemon_threads = True

    import threading

    threading.Thread(target=Listener((dns.LOOPBACK, port), Stream).serve_forever, daemon=True).start()
    udp = socket.socket(type=socket.SOCK_DGRAM)
    udp.bind((dns.LOOPBACK, port))
    while True:
        packet, client = udp.recvfrom(4096)
        try:
            if reply := answer(packet, ttl):
                udp.sendto(reply, client)
        except (IndexError, struct.error):
            continue


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--port", type=int, default=0, help="default: a free one")
    arguments.add_argument("--ttl", type=int, default=60, help="of the answers, in seconds")
    arguments.add_argument("--python", action="store_true", help="do not use nsd")
    arguments.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.serve:
        serve(options.port, options.ttl)
    with live.workshop("upstream") as folder:
        with Upstream(folder, options.port, options.ttl, python=options.python) as upstream:
            print(f"{dns.LOOPBACK}:{upstream.port}", flush=True)
            try:
                while upstream.alive():
                    time.sleep(0.5)
            except KeyboardInterrupt:
                return
            raise live.Failure(f"{upstream.name} ended:\n{upstream.tail()}")


if __name__ == "__main__":
    main()
