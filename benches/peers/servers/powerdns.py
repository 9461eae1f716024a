"""PowerDNS Recursor with a response policy zone."""

import os
import shutil

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
max-cache-entries=4000000
max-packetcache-entries=4000000
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
POLICY = 'rpzFile("{list}", {{policyName="names"}})\n'


class PowerDns(Server):
    name, program, package, version_option = "powerdns-rpz", "pdns_recursor", "Debian's pdns-recursor", "--version"
    form = "rpz"
    config = CONFIG
    octets_a_name = 1300  # and as much again while it reloads
    reload_way = "rec_control reload-lua-config"
    note = "Recursor; response policy zone, two records a name"

    def arguments(self):
        with open(os.path.join(self.folder, "policy.lua"), "w") as out:
            out.write(POLICY.format(list=self.list))
        shutil.copy(self.config_file, os.path.join(self.folder, "recursor.conf"))
        return [f"--config-dir={self.folder}"]

    def reload_command(self):
        return ["rec_control", f"--socket-dir={self.folder}", "reload-lua-config"]
