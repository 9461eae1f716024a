"""Servers with the same list and the same upstream, one thread each: what each needs to be told.

All answer a blocked A question with 0.0.0.0. Unbound's local zones block all beneath a name, too;
so does Tapis here (scope "subtree"). hickory-dns compares whole names, the least work of the three.
Caches are large enough for all that is asked.
"""

import os
import shutil

import dns
import live

UNBOUND = """server:
  interface: {host}
  port: {port}
  access-control: 127.0.0.0/8 allow
  num-threads: 1
  do-daemonize: no
  use-syslog: no
  logfile: ""
  pidfile: ""
  username: ""
  chroot: ""
  directory: "{folder}"
  module-config: "iterator"
  do-not-query-localhost: no
  msg-cache-size: 128m
  rrset-cache-size: 256m
  minimal-responses: yes
  include: "{folder}/local-zones.conf"
remote-control:
  control-enable: no
forward-zone:
  name: "."
  forward-addr: {host}@{upstream}
"""
HICKORY = """listen_addrs_ipv4 = ["{host}"]
listen_port = {port}
directory = "{folder}"
drop_privileges = false

[[zones]]
zone = "."
zone_type = "External"

[[zones.stores]]
type = "blocklist"
wildcard_match = false
lists = ["{names}"]
ttl = 60
log_clients = false

[[zones.stores]]
type = "forward"

[zones.stores.options]
cache_size = 4000000
max_active_requests = 1024

[[zones.stores.name_servers]]
ip = "{host}"
connections = [{{ port = {upstream}, protocol = {{ type = "udp" }} }}]
"""


class Peer(live.Child):
    """A server that a configuration file tells everything. `port` is where it answers."""

    def __init__(self, command, template, folder, upstream, names, cpu):
        self.port = live.free_port()
        words = {"host": dns.LOOPBACK, "port": self.port, "folder": folder, "names": names}
        config = os.path.join(folder, "peer.conf")
        with open(config, "w") as out:
            out.write(template.format(upstream=upstream, **words))
        command = [part.format(config=config, folder=folder) for part in command]
        super().__init__(command, os.path.join(folder, "peer.log"), cpu)


class Field:
    """The servers that are there to be measured, by name."""

    def __init__(self, folder, options):
        self.folder, self.names, self.cpu = folder, options.names, options.server_cpu
        self.binary, self.scope = options.binary, options.scope
        path = os.environ.get("PATH", "") + ":/usr/sbin:" + os.path.expanduser("~/.cargo/bin")
        found = {"unbound": shutil.which("unbound", path=path), "hickory-dns": shutil.which("hickory-dns", path=path)}
        self.programs = {"tapis": options.binary} | {n: p for n, p in found.items() if p}
        self.programs = {n: p for n, p in self.programs.items() if n in options.servers.split(",")}
        self.names = os.path.abspath(options.names)
        if "unbound" in self.programs:
            with open(os.path.join(folder, "local-zones.conf"), "w") as out:
                out.writelines(f'local-zone: "{n}" always_null\n' for n in live.read_names(self.names))

    def start(self, name, upstream):
        program = self.programs[name]
        if name == "tapis":
            lists = [{"name": "names", "path": self.names, "scope": self.scope}]
            return live.Tapis(program, self.folder, upstream, lists, workers=1, cpu=self.cpu)
        if name == "unbound":
            command, template = [program, "-d", "-c", "{config}"], UNBOUND
        else:
            command, template = [program, "-q", "-c", "{config}", "-z", "{folder}", "--workers", "1"], HICKORY
        return Peer(command, template, self.folder, upstream, self.names, self.cpu)
