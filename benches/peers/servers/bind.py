"""BIND with a response policy zone."""

import os
import string

import live

from .base import Server

# Nothing that would make an answer longer or wait: the SOA in the additional section, recursion before the
# policy, a line of log for each blocked question, a minute's pause between updates.
CONFIG = """key "rndc" { algorithm hmac-sha256; secret "dGFwaXMtYmVuY2htYXJrLXBlZXJzLWtleS0wMTIzNDU="; };
controls { inet $host port $control allow { $host; } keys { "rndc"; }; };
options {
  directory "$folder";
  pid-file none;
  session-keyfile none;
  listen-on port $port { $host; };
  listen-on-v6 { none; };
  allow-query { $host; };
  allow-recursion { $host; };
  recursion yes;
  forward only;
  forwarders { $host port $upstream; };
  dnssec-validation no;
  minimal-responses yes;
  max-cache-size 1g;
  recursive-clients 10000;
  empty-zones-enable no;
  querylog no;
  response-policy { zone "rpz" log no add-soa no min-update-interval 0; }
    qname-wait-recurse no nsip-enable no nsdname-enable no break-dnssec yes recursive-only yes;
};
logging { category default { null; }; category general { default_stderr; }; category config { default_stderr; }; };
zone "rpz" { type primary; file "$list"; check-names ignore; notify no; allow-transfer { none; }; };
"""
RNDC = """key "rndc" { algorithm hmac-sha256; secret "dGFwaXMtYmVuY2htYXJrLXBlZXJzLWtleS0wMTIzNDU="; };
options { default-key "rndc"; default-server $host; default-port $control; };
"""


class Bind(Server):
    name, program, package, version_option = "bind-rpz", "named", "Debian's bind9", "-v"
    form = "rpz"
    config = CONFIG
    octets_a_name = 1600
    reload_way = "rndc reload"
    note = "response policy zone, two records a name"

    def __init__(self, field):
        self.control = live.free_port()
        super().__init__(field)

    def words(self):
        return super().words() | {"control": self.control}

    def arguments(self):
        with open(self.rndc_file(), "w") as out:
            out.write(string.Template(RNDC).substitute(self.words()))
        return ["-f", "-n", str(self.field.workers), "-c", self.config_file]

    def rndc_file(self):
        return os.path.join(self.folder, "rndc.conf")

    def reload_command(self):
        return ["rndc", "-c", self.rndc_file(), "reload", "rpz"]
