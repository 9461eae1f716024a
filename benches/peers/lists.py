"""The list of names to block: read or made up, in two states, in each form that a server takes."""

import os
import random
import re

import live

# What all servers can hold. RPZ puts `*.` before a name and `.rpz` behind it.
GOOD = re.compile(r"(?=.{3,240}$)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})+")
TTL = 60
CHANGED = 1000  # names that go with the reload
PROBES = 2000  # names that come with it, each asked at most once
RPZ_HEAD = """$TTL {ttl}
$ORIGIN rpz.
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


def made_up(count, seed):
    """So many different names, with as many labels and characters as those of public lists."""
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


class Lists:
    """Files of the list: `old` at the start, `new` for the reload, `empty` for a control."""

    def __init__(self, folder, names):
        self.folder, self.names = folder, names
        self.gone = set(live.sample(names, min(CHANGED, len(names) // 10), seed=2))
        self.probes = [f"probe{number}.reload-of-the-list.com" for number in range(PROBES)]

    def path(self, form, state):
        """The file, written when it is first asked for."""
        path = os.path.join(self.folder, f"{state}.{form}")
        if not os.path.exists(path):
            with open(path, "w") as out:
                if state == "empty":
                    out.write("# empty on purpose\n")
                if form == "rpz":
                    out.write(RPZ_HEAD.format(ttl=TTL, serial=2 if state == "new" else 1))
                line = FORMS[form]
                out.writelines(line.format(name=name) for name in self.state(state))
        return path

    def state(self, state):
        if state == "new":
            return [name for name in self.names if name not in self.gone] + self.probes
        return self.names if state == "old" else []
