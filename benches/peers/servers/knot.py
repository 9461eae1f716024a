"""Knot Resolver with a response policy zone."""

import shutil
import sys
import tempfile

from .base import Server

TMPFS = "/dev/shm"
# Everything that queries the root or validates is off. Knot Resolver watches the zone's file (by lua-cqueues).
CONFIG = """net.listen('$host', $port, { kind = 'dns' })
net.listen('$folder/control', nil, { kind = 'control' })
modules.unload('ta_update')
modules.unload('ta_signal_query')
modules.unload('ta_sentinel')
modules.unload('priming')
modules.unload('detect_time_skew')
trust_anchors.remove('.')
cache.open(1024 * MB, 'lmdb://$cache')
policy.add(policy.rpz(policy.DENY, '$list'))
policy.add(policy.all(policy.STUB('$host@$upstream')))
local function first(rule)
  policy.add(rule)
  table.insert(policy.rules, 1, table.remove(policy.rules))
end
function add_difference(came, gone)
  local sink = policy.ANSWER({ [kres.type.A] = { rdata = kres.str2ip('0.0.0.0'), ttl = 60 } })
  first(policy.suffix(policy.STUB('$host@$upstream'), policy.todnames(gone)))
  first(policy.suffix(sink, policy.todnames(came)))
end
"""
# Sends a line to the control socket, and waits for the answer.
ASK = """import socket, sys
with socket.socket(socket.AF_UNIX) as client:
    client.connect(sys.argv[1])
    client.recv(100)
    client.sendall(sys.argv[2].encode() + b"\\n")
    print(client.recv(1000))
"""


class Knot(Server):
    name, program, package, version_option = "knot-rpz", "kresd", "Debian's knot-resolver and lua-cqueues", "--version"
    form = "rpz"
    config = CONFIG
    most_workers = 1  # more workers are more processes, each with a separate list
    bytes_per_name = 1400
    reload_way = "the file is replaced"
    ways = {"overlay": "rules, on its control socket"}
    note = "Knot Resolver; response policy zone, two records per name; its cache is on tmpfs"

    def __init__(self, field):
        self.cache = tempfile.mkdtemp(prefix="tapis-knot-", dir=TMPFS)
        super().__init__(field)

    def __exit__(self, *error):
        super().__exit__(*error)
        shutil.rmtree(self.cache, ignore_errors=True)

    def words(self):
        return super().words() | {"cache": self.cache}

    def arguments(self):
        return ["-n", "-c", self.config_file, self.folder]

    def reload_command(self):
        return "true"

    def lay_change(self, _kind, change):
        tables = ("{" + ",".join(f"'{name}'" for name in names) + "}" for names in (change.came, change.gone))
        self.write("difference.lua", [f"add_difference({','.join(tables)})"])
        self.write("ask.py", [ASK])

    def change_command(self, _kind):
        call = f"dofile([[{self.folder}/difference.lua]])"
        return f"{sys.executable} '{self.folder}/ask.py' '{self.folder}/control' '{call}'"
