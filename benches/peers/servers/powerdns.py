"""PowerDNS Recursor with a response policy zone."""

import os
import shutil

from primary import Primary

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
# A whole list comes as a file. It asks for differences each second once it got one; before that, each ten seconds.
PRIMARY = 'rpzPrimary("{host}:{primary}", "rpz", {{policyName="names", seedFile="{list}", refresh=1}})'
FILE = 'rpzFile("{list}", {{policyName="names"}})'


class PowerDns(Server):
    name, program, package, version_option = "powerdns-rpz", "pdns_recursor", "Debian's pdns-recursor", "--version"
    form = "rpz"
    config = CONFIG
    octets_a_name = 1300  # and as much again while it reloads
    reload_way = "rec_control reload-lua-config"
    difference_way = "IXFR, asked for each second"
    note = "Recursor; response policy zone, two records a name; caches of 16,000,000 entries"

    def __init__(self, field):
        self.primary = None
        super().__init__(field)

    def arguments(self):
        self.primary = self.primary or Primary(self.folder, began=True)
        self.write("policy.lua", [PRIMARY.format(primary=self.primary.port, **self.words())])
        shutil.copy(self.config_file, os.path.join(self.folder, "recursor.conf"))
        return [f"--config-dir={self.folder}"]

    def __exit__(self, *error):
        super().__exit__(*error)
        self.primary.__exit__()

    def control(self, verb):
        return f"rec_control --socket-dir='{self.folder}' {verb}"

    def reload_command(self):
        return self.control("reload-lua-config")

    def lay_difference(self, change):
        self.primary.lay(change.gone, change.came)

    def difference_command(self):
        return self.primary.publish()

    def prepare_reload(self):
        self.write("policy.lua", [FILE.format(**self.words())])
