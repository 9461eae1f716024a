"""Unbound, with a local zone for each name, and with a response policy zone."""

from .base import Server

# The iterator alone: nobody else here validates, either. Each thread has sockets of its own.
CONFIG = """server:
  interface: $host
  port: $port
  access-control: 127.0.0.0/8 allow
  num-threads: $workers
  so-reuseport: yes
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
  name: "rpz"
  zonefile: "$list"
"""


class LocalZones(Server):
    name = "unbound"
    program, package, version_option = "unbound", "Debian's unbound", "-V"
    form = "local-zone"
    config = CONFIG
    octets_a_name = 480
    reload_way = "unbound-control reload"
    modules, include, verb = "iterator", 'include: "{list}"', ["reload"]
    note = "`local-zone: NAME always_null`; TTL 3600 of blocked answers is fixed"

    def words(self):
        words = super().words()
        return words | {"modules": self.modules, "include": self.include.format(**words)}

    def arguments(self):
        return ["-d", "-c", self.config_file]

    def reload_command(self):
        return ["unbound-control", "-c", self.config_file, *self.verb]


class Rpz(LocalZones):
    name = "unbound-rpz"
    form = "rpz"
    config = CONFIG + RPZ
    octets_a_name = 2400
    reload_way = "unbound-control auth_zone_reload"
    modules, include, verb = "respip iterator", "", ["auth_zone_reload", "rpz"]
    note = "response policy zone, two records a name"
