"""PowerDNS Recursor with a response policy zone."""

import os
import shutil

import dns
from ixfr import Primary
from lists import OLD, blocks, frees, overlay

from .base import Server

# `dont-query` forbids the upstream on loopback by default.
CONFIG = """local-address=$host
local-port=$port
allow-from=127.0.0.0/8
threads=$workers
pdns-distributes-queries=no
reuseport=yes
forward-zones-recurse=.=$host:$upstream
dont-query=
dnssec=off
max-cache-entries=16000000
max-packetcache-entries=16000000
stats-ringbuffer-entries=0
lua-config-file=$folder/policy.lua
config-dir=$folder
socket-dir=$folder
security-poll-suffix=
daemon=no
write-pid=no
disable-syslog=yes
quiet=yes
loglevel=4
"""
# A whole list is read from a file. The Recursor polls for differences every ten seconds until it has received
# one, and each second after that.
PRIMARY = 'rpzPrimary("{host}:{port}", "{zone}", {{policyName="{zone}", seedFile="{file}", refresh=1}})'
FILE = 'rpzFile("{list}", {{policyName="rpz"}})'


class PowerDns(Server):
    name, program, package, version_option = "powerdns-rpz", "pdns_recursor", "Debian's pdns-recursor", "--version"
    form = "rpz"
    config = CONFIG
    bytes_per_name = 700
    reload_way = "rec_control reload-lua-config"
    ways = {"overlay": "IXFR of a small zone, each second", "difference": "IXFR, each second"}
    note = "Recursor; response policy zone, two records per name; caches of 16,000,000 entries"

    def __init__(self, field):
        self.primaries = {}
        super().__init__(field)

    def arguments(self):
        if not self.primaries:
            self.write("overlay", overlay(OLD))
            self.primaries = {zone: Primary(self.folder, zone, OLD, blocks(["began.change.com"])) for zone in ("overlay", "rpz")}
        self.write("policy.lua", map(self.zone, self.primaries))
        shutil.copy(self.config_file, os.path.join(self.folder, "recursor.conf"))
        return [f"--config-dir={self.folder}"]

    def __exit__(self, *error):
        super().__exit__(*error)
        for primary in self.primaries.values():
            primary.__exit__()

    def zone(self, zone):
        """A line of its policy for a zone from its primary server."""
        file = os.path.join(self.folder, "overlay") if zone == "overlay" else self.list
        return PRIMARY.format(host=dns.LOOPBACK, port=self.primaries[zone].port, zone=zone, file=file)

    def control(self, verb):
        return f"rec_control --socket-dir='{self.folder}' {verb}"

    def reload_command(self):
        return self.control("reload-lua-config")

    def lay_change(self, kind, change):
        if kind == "overlay":
            self.primaries["overlay"].lay([], [*frees(change.gone), *blocks(change.came)])
        else:
            self.primaries["rpz"].lay(blocks(change.gone), blocks(change.came))

    def change_command(self, kind):
        return self.primaries["overlay" if kind == "overlay" else "rpz"].publish()

    def prepare_reload(self):
        self.write("policy.lua", [self.zone("overlay"), FILE.format(list=self.list)])
