"""dnsdist with its packet cache, and the names in its memory or in a constant database (CDB)."""

import shutil

import live

from .base import PATH, Server

KEY = "dGFwaXMtYmVuY2htYXJrLXBlZXJzLWtleS0wMTIzNDU="
CONFIG = """setUDPMultipleMessagesVectorSize(64)
setUDPSocketBufferSizes($buffer, $buffer)
$locals
setSecurityPollSuffix("")
controlSocket("$host:$control")
setKey("$key")
setConsoleACL("$host/32")
newServer({address="$host:$upstream"})
getPool(""):setCache(newPacketCache(4000000, {maxTTL=86400}))
local function node(path)
  local names = newSuffixMatchNode()
  for name in io.lines(path) do names:add(newDNSName(name)) end
  return SuffixMatchNodeRule(names, true)
end
local sink = SpoofAction({"0.0.0.0", "::"})
function addDifference()
  addAction(node("$folder/came"), sink)
  mvRuleToTop()
  addAction(node("$folder/gone"), AllowAction())
  mvRuleToTop()
end
"""
# The new rule is added before the old one is removed: no name is unblocked in between.
NODE = """local rules = 0
function reloadNames()
  rules = rules + 1
  addAction(node("$list"), sink, {name="names" .. rules})
  if rules > 1 then rmRule("names" .. (rules - 1)) end
  collectgarbage()
end
reloadNames()
"""
# No name of the list has fewer than two labels.
STORE = """local store = newCDBKVStore("$list", 0)
addAction(KeyValueStoreLookupRule(store, KeyValueLookupKeySuffix(2)), sink)
function reloadStore() store:reload() end
"""


class Dnsdist(Server):
    name = program = "dnsdist"
    package = "Debian's dnsdist"
    version_option = "--version"
    config = CONFIG + NODE
    bytes_per_name = 600
    reload_way = "a function on its console"
    ways = {"overlay": "rules, on its console"}
    reload_function = "reloadNames()"
    note = "SuffixMatchNode with SpoofAction, packet cache, 64 packets per system call; a load balancer, not a resolver"

    def __init__(self, field):
        self.control = live.free_port()
        super().__init__(field)

    def words(self):
        words = super().words()
        local = 'Local("{host}:{port}", {{reusePort=true}})'.format(**words)
        locals_ = "\n".join(("add" if number else "set") + local for number in range(self.field.workers))
        return words | {"control": self.control, "key": KEY, "locals": locals_}

    def arguments(self):
        return ["--supervised", "--disable-syslog", "-C", self.config_file]

    def console(self, call):
        address = f"{self.words()['host']}:{self.control}"
        return f"dnsdist -C /dev/null -c {address} -k {KEY} -e '{call}'"

    def reload_command(self):
        return self.console(self.reload_function)

    def lay_change(self, _kind, change):
        self.write("came", change.came)
        self.write("gone", change.gone)

    def change_command(self, _kind):
        return self.console("addDifference()")


class Cdb(Dnsdist):
    name = "dnsdist-cdb"
    package = "Debian's dnsdist and tinycdb"
    form = "cdb"
    config = CONFIG + STORE
    bytes_per_name = 100
    reload_way = "`reload()` of the store, on its console"
    reload_function = "reloadStore()"
    note = "as dnsdist, but with KeyValueStoreLookupRule for the suffixes of a name, in a file that tinycdb makes"

    @classmethod
    def find(cls, field):
        return shutil.which("cdb", path=PATH) and super().find(field)
