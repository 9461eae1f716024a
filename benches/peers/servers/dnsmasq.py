"""dnsmasq with an address for each name."""

from .base import Server

# Its cache is searched longer the larger it is: large enough for what the mixes have cached. It never gives up the
# memory of a forwarded query, and goes through all of it for each one: an overload makes it slower for good.
CONFIG = """port=$port
listen-address=$host
bind-interfaces
no-resolv
no-hosts
server=$host#$upstream
cache-size=20000
dns-forward-max=10000
local-ttl=60
user=root
pid-file=$folder/pid
conf-file=$list
"""


class Dnsmasq(Server):
    name = program = "dnsmasq"
    package = "Debian's dnsmasq"
    version_option = "--version"
    form = "dnsmasq"
    config = CONFIG
    most_workers = 1
    octets_a_name = 90
    note = "`address=/NAME/#`, which it reads at its start alone; a cache of 20,000 records"

    def arguments(self):
        return ["--keep-in-foreground", "--log-facility=-", f"--conf-file={self.config_file}"]
