"""Tapis, and the controls that show the cost of the machine and of the list."""

import os
import random
import threading
import urllib.request

import dns
import live
from lists import RPZ_HEAD, TTL

from .base import Server

CONFIG = """[server]
listen = ["$host:$port"]
workers = $workers
control = "$folder/control.sock"

[upstream]
servers = ["$host:$upstream"]

[[list]]
name = "names"
path = "$list"
scope = "subtree"

[orders]
path = "$folder/orders"

[exceptions]
path = "$folder/exceptions"

[guard]
public-suffixes = "none"  # the others block those, too
"""
COUNT = 10_000  # orders, and exceptions
PREFIXES = 7_000
PATTERNS = 5_000
SYLLABLES = "trk pix adv metr stat bann clic spon tele coun aff beac insi popu rtb sync".split()
ORDER = """id = "{0}"
legal-basis = ["Law 1"]
effective-from = 2020-01-01T00:00:00Z
review-at = 2100-01-01T00:00:00Z
authority = {{ name = "The Authority" }}
reason = {{ en = "It says so" }}
redress = {{ how = "Write to it" }}
targets = [{1}]
"""
TARGET = '{{ name = "{0}", scope = "subtree" }}'
EXCEPTION = """[[exception]]
name = "{0}"
scope = "subtree"
against = ["names"]
reason = "It is needed"
author = "The operator"

"""


class Tapis(Server):
    name = program = "tapis"
    package = "this repository"
    version_option = "--version"
    config = CONFIG
    peer = False
    bytes_per_name = 100
    reload_way = "the file is replaced"
    ways = {"overlay": "the files of an order and of exceptions"}

    @classmethod
    def find(cls, field):
        path = os.path.join(field.target, "tapis")
        return path if os.path.exists(path) else None

    def launch(self):
        for kind in ("orders", "exceptions"):
            os.makedirs(os.path.join(self.folder, kind), exist_ok=True)
        self.fill()
        super().launch()

    def fill(self):
        """Adds rules that precede the list."""

    def arguments(self):
        return ["serve", "--config", self.config_file]

    def reload_command(self):
        return "true"  # it watches the file

    def lay_change(self, _kind, change):
        targets = ",\n".join(map(TARGET.format, change.came))
        self.write("order.new", [ORDER.format("difference", targets)])
        self.write("exceptions.new", map(EXCEPTION.format, change.gone))

    def change_command(self, _kind):
        moves = ("exceptions.new", "exceptions/difference.toml"), ("order.new", "orders/difference.toml")
        return " && ".join(f"mv '{self.folder}/{old}' '{self.folder}/{new}'" for old, new in moves)


class Before(Tapis):
    """Another build of Tapis, whose path is in TAPIS_BEFORE, to measure the effect of a change."""

    name = "tapis-before"
    usual = "TAPIS_BEFORE" in os.environ
    note = "another build of Tapis"

    @classmethod
    def find(cls, field):
        return os.environ.get("TAPIS_BEFORE")


class Empty(Tapis):
    """Tapis without names to block: the remaining cost is not the list's."""

    name = "tapis-empty"
    mixes = ("cached", "unknown")  # in the other mixes, the blocked names would be unknown ones
    bytes_per_name = 0
    note = "Tapis with an empty list"

    def state(self):
        return "empty"


class Scraped(Tapis):
    """Tapis whose metrics are read each second, to measure their cost."""

    name = "tapis-scraped"
    config = CONFIG + """
[metrics]
listen = ["$host:$metrics"]
"""
    note = "Tapis whose metrics are read each second"
    usual = False

    def words(self):
        return super().words() | {"metrics": self.metrics}

    def __init__(self, field):
        self.metrics = live.free_port()
        super().__init__(field)

    def launch(self):
        super().launch()
        self.end = threading.Event()
        self.scrapes, self.failure = 0, None
        threading.Thread(target=self.scrape, args=(self.end,), daemon=True).start()

    def scrape(self, end):
        while not end.wait(1):
            try:
                with urllib.request.urlopen(f"http://{dns.LOOPBACK}:{self.metrics}/metrics", timeout=10) as page:
                    page.read()
                self.scrapes += 1
            except OSError as error:
                # While it starts, it may refuse a connection; when it ends, it may close one.
                if self.scrapes and not end.is_set():
                    self.failure = error

    def restart(self):
        self.end.set()
        super().restart()

    def __exit__(self, *details):
        self.end.set()
        super().__exit__(*details)
        if self.failure or not self.scrapes:
            raise live.Failure(f"{self.name}: its metrics can't be read: {self.failure or 'no answer'}")


class Orders(Tapis):
    """Tapis with many orders and exceptions beside its list, to measure their cost."""

    name = "tapis-orders"
    note = f"Tapis with {COUNT:,} orders and {COUNT:,} exceptions beside the list"
    usual = False

    def fill(self):
        for number in range(COUNT):
            target = TARGET.format(f"o{number}.orders.example")
            self.write(f"orders/o{number}.toml", [ORDER.format(f"o{number}", target)])
        self.write("exceptions/all.toml", (EXCEPTION.format(f"e{n}.exceptions.example") for n in range(COUNT)))


class Zone(Tapis):
    """Tapis with its list as a policy zone, to measure the cost of such rules."""

    name = "tapis-rpz"
    form = "rpz"
    config = CONFIG.replace('scope = "subtree"', 'format = "rpz"')
    ways = {}
    note = "Tapis with the list as a response policy zone"
    usual = False


class Addresses(Tapis):
    """Tapis with many rules on addresses in answers, none of which matches, to measure their cost."""

    name = "tapis-addresses"
    config = CONFIG + """
[[list]]
name = "addresses"
path = "$folder/addresses"
format = "rpz"
"""
    note = f"Tapis with {PREFIXES:,} networks in answers beside the list"
    usual = False

    def fill(self):
        owners = (f"24.0.{number % 256}.{number // 256}.10.rpz-ip CNAME ." for number in range(PREFIXES))
        self.write("addresses", [RPZ_HEAD.format(ttl=TTL, zone="addresses", serial=1), *owners])


class Patterns(Tapis):
    """Tapis with a filter list of patterns, few of which match a name that is asked about, to measure their cost."""

    name = "tapis-patterns"
    config = CONFIG + """
[[list]]
name = "patterns"
path = "$folder/patterns"
format = "adblock"
"""
    note = f"Tapis with {PATTERNS:,} patterns beside the list"
    usual = False

    def fill(self):
        self.write("patterns", patterns())


def patterns():
    """Rules as filter lists have them: wildcards, beginnings and parts of names, and regular expressions."""
    chance = random.Random(5)
    word = lambda: "".join(chance.choices(SYLLABLES, k=3))
    for number in range(PATTERNS):
        one, other = word(), word()
        yield (
            f"||{one}*.{other}.example^",
            f"||{one}-{other}",
            f"-{one}.{other}.",
            f"/^{one}[0-9]*\\.{other}[a-z]*\\./",
            f"/(^|\\.){one}s?[_.-]{other}[0-9]+/",
        )[number % 5]


class Echo(Server):
    """Sends each query back, as long as Tapis' answer: the remaining cost is the kernel's."""

    name = "echo"
    package = "this repository"
    peer = False
    note = "not a DNS server: returns each query, padded to the size of Tapis' answer"
    more = 0  # bytes

    @classmethod
    def find(cls, field):
        path = os.path.join(field.target, "examples", "echo")
        return path if os.path.exists(path) else None

    @classmethod
    def version(cls, _field):
        return ""

    def state(self):
        return "empty"

    def arguments(self):
        listen = f"{self.words()['host']}:{self.port}"
        return ["--listen", listen, "--workers", str(self.field.workers), "--more", str(self.more)]

    def lengthen(self, more):
        if more != self.more:
            self.more = more
            self.restart()
            self.load()
