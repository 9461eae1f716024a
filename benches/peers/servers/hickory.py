"""hickory-dns with a blocklist store before its forwarder."""

from .base import Server

CONFIG = """listen_addrs_ipv4 = ["$host"]
listen_port = $port
directory = "$folder"
drop_privileges = false

[[zones]]
zone = "."
zone_type = "External"

[[zones.stores]]
type = "blocklist"
wildcard_match = false
lists = ["$list"]
ttl = 60
log_clients = false

[[zones.stores]]
type = "forward"

[zones.stores.options]
cache_size = 4000000
max_active_requests = 1024

[[zones.stores.name_servers]]
ip = "$host"
connections = [{ port = $upstream, protocol = { type = "udp" } }]
"""


class Hickory(Server):
    name, program, version_option = "hickory-dns", "hickory-dns", "--version"
    package = "the crate hickory-dns (cargo install hickory-dns --features blocklist)"
    config = CONFIG
    bytes_per_name = 150
    note = "blocklist store; compares whole names only; all others also block the names below"

    def arguments(self):
        return ["-q", "-c", self.config_file, "-z", self.folder, "--workers", str(self.field.workers)]
