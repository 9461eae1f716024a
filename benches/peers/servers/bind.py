"""BIND with a response policy zone."""

import os
import string

import live
from lists import OLD, blocks, frees, overlay

from .base import Server

SECRET = "dGFwaXMtYmVuY2htYXJrLXBlZXJzLWtleS0wMTIzNDU="
STEPS_A_MESSAGE = 600
# These features, which lengthen answers or cause delays, are off: the SOA in the additional section, recursion
# before the policy, a log line for each blocked query, a minute's pause between updates.
CONFIG = """key "rndc" { algorithm hmac-sha256; secret "$secret"; };
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
  udp-receive-buffer $buffer;
  udp-send-buffer $buffer;
  empty-zones-enable no;
  querylog no;
  response-policy {
    zone "overlay" log no add-soa no min-update-interval 0;
    zone "rpz" log no add-soa no min-update-interval 0;
  }
    qname-wait-recurse no nsip-enable no nsdname-enable no break-dnssec yes recursive-only yes;
};
logging { category default { null; }; category general { default_stderr; }; category config { default_stderr; }; };
zone "overlay" { type primary; file "$folder/overlay"; notify no; allow-transfer { none; }; $always };
zone "rpz" { type primary; file "$list"; check-names ignore; notify no; allow-transfer { none; }; $updates };
"""
UPDATES = 'allow-update { key "rndc"; }; max-journal-size 16m;'
RNDC = """key "rndc" { algorithm hmac-sha256; secret "$secret"; };
options { default-key "rndc"; default-server $host; default-port $control; };
"""


class Bind(Server):
    name, program, package, version_option = "bind-rpz", "named", "Debian's bind9", "-v"
    form = "rpz"
    config = CONFIG
    bytes_per_name = 1000
    reload_way = "rndc reload"
    ways = {"overlay": "nsupdate of a small zone", "difference": "nsupdate"}
    note = "response policy zone, two records per name, with dynamic updates; buffers of 4 MB"

    def __init__(self, field):
        self.control = live.free_port()
        super().__init__(field)

    def words(self):
        return super().words() | {"control": self.control, "always": UPDATES, "updates": UPDATES, "secret": SECRET}

    def arguments(self):
        self.write("overlay", overlay(OLD))
        with open(self.rndc_file(), "w") as out:
            out.write(string.Template(RNDC).substitute(self.words()))
        return ["-f", "-n", str(self.field.workers), "-c", self.config_file]

    def rndc_file(self):
        return os.path.join(self.folder, "rndc.conf")

    def rndc(self, verb):
        return f"rndc -c '{self.rndc_file()}' {verb}"

    def reload_command(self):
        return self.rndc("reload rpz")

    def lay_change(self, kind, change):
        """A message of an update has at most 64 kB, so there are several."""
        words = self.words()
        zone, verb, gone = "rpz", "delete", blocks(change.gone)
        if kind == "overlay":
            zone, verb, gone = "overlay", "add", frees(change.gone)
        steps = [f"update {verb} {owner}.{zone}. 60 {record}" for owner, record in gone]
        steps += [f"update add {owner}.{zone}. 60 {record}" for owner, record in blocks(change.came)]
        head = f"server {words['host']} {words['port']}\nzone {zone}."
        lots = (steps[at : at + STEPS_A_MESSAGE] for at in range(0, len(steps), STEPS_A_MESSAGE))
        self.write("updates", [head, *(line for lot in lots for line in (*lot, "send"))])

    def change_command(self, _kind):
        return f"nsupdate -v -y 'hmac-sha256:rndc:{SECRET}' '{self.folder}/updates'"

    def prepare_reload(self):
        """Makes the zone static again: the file of a zone with updates must not be replaced."""
        with open(self.config_file, "w") as out:
            out.write(string.Template(self.config).substitute(self.words() | {"updates": ""}))
        self.run(self.rndc("sync -clean rpz"))
        self.run(self.rndc("reconfig"))
