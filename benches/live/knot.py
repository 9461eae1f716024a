"""Knot DNS as the primary of a policy zone."""

import os
import subprocess

import dns
import live

CONFIG = """server:
  listen: {host}@{port}
  rundir: {folder}
  background-workers: 1
  udp-workers: 1
  tcp-workers: 1
database:
  storage: {folder}
acl:
  - id: transfer
    address: {host}
    action: transfer
zone:
  - domain: {zone}
    file: {folder}/zone
    zonefile-load: {load}
    zonefile-sync: -1
    journal-max-usage: 4G
    journal-max-depth: 10000
    semantic-checks: off
    acl: transfer
"""
HEAD = "$ORIGIN {zone}.\n$TTL 60\n@ SOA localhost. admin.localhost. {serial} 900 60 86400 60\n@ NS localhost.\n"


class Knot(live.Child):
    """A server of one zone, which is read from the file `zone` of its folder. `write` writes it; `load` is Knot's setting
    zonefile-load: whether changes of the file are stored as differences."""

    def __init__(self, folder, zone, load):
        live.need("knotd", "knot")
        self.folder, self.zone, self.port = folder, zone, live.free_port()
        self.config = os.path.join(folder, "knot.conf")
        with open(self.config, "w") as config:
            config.write(CONFIG.format(host=dns.LOOPBACK, port=self.port, folder=folder, zone=zone, load=load))
        super().__init__(["knotd", "-c", self.config], os.path.join(folder, "knot.log"))

    def serial(self):
        reply = dns.ask(self.port, dns.query(self.zone, dns.SOA), 1.0)
        found = [record[3] for record in dns.read(reply)[1] if record[1] == dns.SOA] if reply else []
        return int.from_bytes(found[0][-20:-16], "big") if found else None

    def control(self, *verb):
        done = subprocess.run(["knotc", "-c", self.config, *verb], capture_output=True, text=True)
        if done.returncode:
            raise live.Failure(f"knotc {' '.join(verb)}: {done.stdout}{done.stderr}")


def write(folder, zone, serial, lines):
    """Writes a version of the zone. The lines have owners that are relative to it."""
    path = os.path.join(folder, "zone")
    with open(path + ".new", "w") as out:
        out.write(HEAD.format(zone=zone, serial=serial))
        out.writelines(lines)
    os.rename(path + ".new", path)
