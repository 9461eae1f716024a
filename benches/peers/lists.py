"""The list of names to block: read or generated, in two states, in the format of each server."""

import os
import random
import re
import subprocess
import time

import dns
import live

# Names that all servers accept. RPZ puts `*.` before a name and `.rpz` after it.
GOOD = re.compile(r"(?=.{3,240}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})+")
TTL = 60
GONE = 1000  # names that a change removes
PROBES = 2000  # names that it adds, each queried at most once
CHANGES = ("overlay", "difference", "whole")
OLD, NEW = 1, 9  # serials of a policy zone's file
RPZ_HEAD = """$TTL {ttl}
$ORIGIN {zone}.
@ SOA localhost. root.localhost. {serial} 3600 600 86400 60
@ NS localhost.
"""
FORMS = {
    "names": "{name}\n",
    "local-zone": 'local-zone: "{name}" always_null\n',
    "rpz": "{name} A 0.0.0.0\n*.{name} A 0.0.0.0\n",
    "dnsmasq": "address=/{name}/#\n",
}
BEGINNINGS = "ba be bi bo bu ca co da de di do fa fi fo ga go ha he ho in ja ka ki la le li lo lu ma me mi mo".split()
ENDINGS = "na ne ni no nu pa pe po ra re ri ro sa se si so su ta te ti to tra va ve vi vo wa xi ya za zer zon".split()
HOSTS = "www ads track cdn login m mail pixel stats shop click static img metrics a1 b2 secure web".split()
TOPS = ["com"] * 50 + ["net", "org", "info"] * 6
TOPS += "biz ru xyz top online shop site de id it fr br cn in club pw".split()


def generated(count, seed):
    """`count` different names, with as many labels and characters as those of public lists."""
    maker, names = random.Random(seed), {}
    while len(names) < count:
        syllables = [maker.choice(BEGINNINGS if i % 2 else ENDINGS) for i in range(maker.randint(2, 7))]
        tag = maker.choice(["", "", "-", str(maker.randint(1, 9999))])
        domain = f"{''.join(syllables)}{tag if tag != '-' else '-' + maker.choice(HOSTS)}.{maker.choice(TOPS)}"
        deep = maker.random()
        names[domain if deep < 0.4 else f"{maker.choice(HOSTS)}.{domain}"] = None
        if deep > 0.85:
            names[f"{maker.choice(HOSTS)}{maker.randint(1, 99)}.{maker.choice(HOSTS)}.{domain}"] = None
    return list(names)[:count]


def read(path):
    return list(dict.fromkeys(name for name in map(str.lower, live.read_names(path)) if GOOD.fullmatch(name)))


class Change:
    """Names that are removed from the list, and names that are added."""

    def __init__(self, word, gone):
        self.gone, self.came = gone, [f"probe{number}.{word}-reload.com" for number in range(PROBES)]


def blocks(names):
    """The owners and records of a policy zone that block names and all below."""
    return [(owner, "A 0.0.0.0") for name in names for owner in (name, f"*.{name}")]


def frees(names):
    return [(owner, "CNAME rpz-passthru.") for name in names for owner in (name, f"*.{name}")]


def overlay(serial, change=None):
    """The lines of a small policy zone, which precedes the list's."""
    yield RPZ_HEAD.format(zone="overlay", ttl=TTL, serial=serial).rstrip()
    for owner, record in [*frees(change.gone), *blocks(change.came)] if change else ():
        yield f"{owner} {record}"


def parents(name):
    labels = name.split(".")
    return (".".join(labels[at:]) for at in range(1, len(labels)))


def alone(names, some):
    """The names of `some` that have no other name of the list above or below them. Such a name is unblocked once
    it is removed."""
    every, candidates = set(names), set(some)
    with_others = {above for name in names for above in parents(name) if above in candidates}
    return [name for name in some if name not in with_others and every.isdisjoint(parents(name))]


class Lists:
    """Files of the list: `old` at the start, `new` with all changes, `empty` for a control.

    There are three changes with different names. The change `overlay` is loaded as rules before the list, and
    `difference` as a difference of the list. `whole` is loaded with the file `new`, which has all three changes.
    """

    def __init__(self, folder, names):
        self.folder, self.names = folder, names
        count = min(GONE, len(names) // 60)
        gone = alone(names, live.sample(names, 12 * count, seed=2))
        lots = (gone[at * count : (at + 1) * count] for at in range(len(CHANGES)))
        self.changes = {kind: Change(kind, lot) for kind, lot in zip(CHANGES, lots)}
        self.gone = {name for change in self.changes.values() for name in change.gone}
        self.cdb_seconds = None  # the time of tinycdb for the old list

    def path(self, form, state):
        """The file, which is written on first use."""
        path = os.path.join(self.folder, f"{state}.{form}")
        if not os.path.exists(path):
            (self.write_cdb if form == "cdb" else self.write_text)(path, form, state)
        return path

    def write_text(self, path, form, state):
        with open(path, "w") as out:
            if state == "empty":
                out.write("# empty on purpose\n")
            if form == "rpz":
                out.write(RPZ_HEAD.format(zone="rpz", ttl=TTL, serial=NEW if state == "new" else OLD))
            line = FORMS[form]
            out.writelines(line.format(name=name) for name in self.state(state))

    def write_cdb(self, path, _form, state):
        """Keys are names in wire format; the values are not used."""
        records = path + ".records"
        with open(records, "wb") as out:
            for key in map(dns.wire_name, self.state(state)):
                out.write(b"+%d,1:%s->1\n" % (len(key), key))
            out.write(b"\n")
        start = time.monotonic()
        subprocess.run(["cdb", "-c", "-t", path + ".tmp", path, records], check=True)
        self.cdb_seconds = self.cdb_seconds or round(time.monotonic() - start, 2)
        os.remove(records)

    def state(self, state):
        if state == "new":
            came = [name for change in self.changes.values() for name in change.came]
            return [name for name in self.names if name not in self.gone] + came
        return self.names if state == "old" else []
