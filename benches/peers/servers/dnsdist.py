"""dnsdist with a rule for the suffixes, and its packet cache."""

import live

from .base import Server

KEY = "dGFwaXMtYmVuY2htYXJrLXBlZXJzLWtleS0wMTIzNDU="
# The new rule stands before the old one goes: no name is free in between.
CONFIG = """$locals
setSecurityPollSuffix("")
controlSocket("$host:$control")
setKey("$key")
setConsoleACL("$host/32")
newServer({address="$host:$upstream"})
getPool(""):setCache(newPacketCache(4000000, {maxTTL=86400}))
local rules = 0
function reloadNames()
  local names = newSuffixMatchNode()
  for name in io.lines("$list") do names:add(newDNSName(name)) end
  addAction(SuffixMatchNodeRule(names, true), SpoofAction({"0.0.0.0", "::"}))
  rules = rules + 1
  if rules > 1 then rmRule(0) rules = 1 end
  collectgarbage()
end
reloadNames()
"""


class Dnsdist(Server):
    name = program = "dnsdist"
    package = "Debian's dnsdist"
    version_option = "--version"
    config = CONFIG
    octets_a_name = 1100  # while it reloads
    reload_way = "a function on its console"
    note = "SuffixMatchNode with SpoofAction, packet cache; a balancer, which leaves resolving to others"

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

    def reload_command(self):
        address = f"{self.words()['host']}:{self.control}"
        return ["dnsdist", "-C", "/dev/null", "-c", address, "-k", KEY, "-e", "reloadNames()"]
