"""Unbound, with a local zone for each name, and with a response policy zone."""

from ixfr import Primary
from lists import NEW, OLD, blocks, overlay

from .base import Server

# Only the iterator module, as no other server here validates. Each thread has separate sockets,
# with the numbers of ports and queries that Unbound's documentation recommends for busy servers.
CONFIG = """server:
  interface: $host
  port: $port
  access-control: 127.0.0.0/8 allow
  num-threads: $workers
  so-reuseport: yes
  so-rcvbuf: 4m
  so-sndbuf: 4m
  outgoing-range: 8192
  num-queries-per-thread: 4096
  do-daemonize: no
  use-syslog: no
  logfile: ""
  pidfile: ""
  username: ""
  chroot: ""
  directory: "$folder"
  module-config: "$modules"
  do-not-query-localhost: no
  msg-cache-size: 256m
  rrset-cache-size: 512m
  minimal-responses: yes
  $include
remote-control:
  control-enable: yes
  control-interface: "$folder/control.sock"
  control-use-cert: no
forward-zone:
  name: "."
  forward-addr: $host@$upstream
"""
RPZ = """rpz:
  name: "overlay"
  zonefile: "$folder/overlay"
rpz:
  name: "rpz"
  zonefile: "$list"
  primary: $host@$primary
"""


class LocalZones(Server):
    name = "unbound"
    program, package, version_option = "unbound", "Debian's unbound", "-V"
    form = "local-zone"
    config = CONFIG
    bytes_per_name = 480
    reload_way = "unbound-control reload_keep_cache"
    ways = {"difference": "unbound-control local_zones_remove, local_zones"}
    modules, include, verb = "iterator", 'include: "{list}"', "reload_keep_cache"
    note = "`local-zone: NAME always_null`; TTL 3600 of blocked answers is fixed; buffers of 4 MB"

    def words(self):
        words = super().words()
        return words | {"modules": self.modules, "include": self.include.format(**words)}

    def arguments(self):
        return ["-d", "-c", self.config_file]

    def control(self, verb):
        return f"unbound-control -c '{self.config_file}' {verb}"

    def reload_command(self):
        return self.control(self.verb)

    def lay_change(self, _kind, change):
        self.write("gone", change.gone)
        self.write("came", (f"{name} always_null" for name in change.came))

    def change_command(self, _kind):
        verbs = ("local_zones_remove", "gone"), ("local_zones", "came")
        return " && ".join(f"{self.control(verb)} < '{self.folder}/{file}'" for verb, file in verbs)


class Rpz(LocalZones):
    name = "unbound-rpz"
    form = "rpz"
    config = CONFIG + RPZ
    bytes_per_name = 2400
    reload_way = "unbound-control auth_zone_reload"
    ways = {"overlay": "auth_zone_reload of a small zone", "difference": "IXFR, by auth_zone_transfer"}
    modules, include, verb = "respip iterator", "", "auth_zone_reload rpz"
    note = "response policy zone, two records per name; buffers of 4 MB"

    def __init__(self, field):
        self.primary = None
        super().__init__(field)

    def words(self):
        self.primary = self.primary or Primary(self.folder, "rpz", OLD)
        self.write("overlay", overlay(OLD))
        return super().words() | {"primary": self.primary.port}

    def __exit__(self, *error):
        super().__exit__(*error)
        self.primary.__exit__()

    def lay_change(self, kind, change):
        if kind == "overlay":
            self.write("overlay.new", overlay(NEW, change))
        else:
            self.primary.lay(blocks(change.gone), blocks(change.came))

    def change_command(self, kind):
        if kind == "overlay":
            old, new = (f"'{self.folder}/{file}'" for file in ("overlay.new", "overlay"))
            return f"mv {old} {new} && {self.control('auth_zone_reload overlay')}"
        return f"{self.primary.publish()} && {self.control('auth_zone_transfer rpz')}"
