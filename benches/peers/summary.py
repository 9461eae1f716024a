"""Medians of the measurements, and the servers that are ahead of Tapis."""

import statistics

FULL = 0.9  # of a core; below it a server is not at its limit
MOST_LOST = 0.001
STEADY = ("p50_us", "p99_us", "p999_us")


class Spread:
    """Several measurements of one figure."""

    def __init__(self, values):
        self.median, self.least, self.most = statistics.median(values), min(values), max(values)

    def overlaps(self, other):
        return self.least <= other.most and other.least <= self.most


class Part(dict):
    """The figures of a server, or of a server in one mix: Spreads by name."""

    @classmethod
    def of(cls, records):
        keys = records[0] if records else ()
        found = {key: [record[key] for record in records if record.get(key) is not None] for key in keys}
        return cls({key: Spread(values) for key, values in found.items() if values})


def flat(run, floor):
    """The figures of one run of dnsperf; the ratio is to the echo in the same round."""
    figures = {key: run[key] for key in ("qps", "cpu_us", "busy")}
    return figures | {"ratio": run["cpu_us"] / floor if floor else None}


def flat_waits(run):
    """The figures of one run of pace. Their names begin with the kind of the run."""
    waits, kind = run["waits"], run["kind"]
    lost = 1 - waits["rcodes"].get("NOERROR", 0) / waits["sent"]
    return {f"{kind}_{key}": waits[key] for key in STEADY} | {f"{kind}_lost": lost}


def by_mix(result):
    """{(server, mix): Part}; without void measurements."""
    valid = [run for run in result["runs"] if not run["void"]]
    floors = {(run["mix"], run["round"]): run["cpu_us"] for run in valid if run["server"] == "echo"}
    records = {}
    for run in valid:
        floor = floors.get((run["mix"], run["round"]))
        records.setdefault((run["server"], run["mix"]), {}).setdefault("fast", []).append(flat(run, floor))
    for run in result["steady"]:
        records.setdefault((run["server"], run["mix"]), {}).setdefault(run["kind"], []).append(flat_waits(run))
    parts = {}
    for key, kinds in records.items():
        parts[key] = Part()
        for lot in kinds.values():
            parts[key] |= Part.of(lot)
    return parts


def by_server(result):
    """{server: Part}: the figures of loading, and those of each way of changing the list. The names of the
    latter figures begin with the kind of the change.

    The kind `small` is the faster one of the changes that need no whole list.
    """
    parts = {}
    for server in result["versions"]:
        keys = ("load_seconds", "rss_mb", "pss_mb")
        part = Part.of([{key: load[key] for key in keys} for load in result["loads"].get(server, ())])
        changes = {kind: entry for kind, entry in result["reloads"].get(server, {}).items() if "void" not in entry}
        small = [entry for kind, entry in changes.items() if kind != "whole"]
        if small:
            changes["small"] = min(small, key=lambda entry: entry["in_force_seconds"])
        for kind, entry in changes.items():
            part |= Part.of([{f"{kind}_{key}": entry[key] for key in RELOAD}])
        parts[server] = part
    return parts


RELOAD = {
    "in_force_seconds": ("time until in force", "s", 2),
    "longest_silence_ms": ("longest silence", "ms", 0),
    "lost": ("queries lost", "", 0),
    "let_through": ("blocked names let through", "", 0),
    "peak_mb": ("most memory", "MB", 0),
}
CHANGES = {"overlay": "rules before the list", "difference": "a difference of the list", "whole": "a new list"}
COMPARED = {"small": "a small change", "whole": "a new list"}
KINDS = {"own": "half of the server's capacity", "common": "the common rate"}  # rates at which latencies are measured
CPU, QPS = ("cpu_us", "CPU per query", "µs", 2, min), ("qps", "queries per second", "", 0, max)
WAITS = [
    (f"{kind}_{key}", f"{word} at {words}", "µs", 0, min)
    for kind, words in KINDS.items()
    for key, word in zip(STEADY, ("p50", "p99", "p99.9"))
]
WHOLE = [("load_seconds", "time to load", "s", 2, min), ("rss_mb", "resident memory", "MB", 1, min)]
WHOLE += [
    (f"{change}_{key}", f"{words} with {that}", unit, digits, min)
    for change, that in COMPARED.items()
    for key, (words, unit, digits) in RELOAD.items()
]


def ahead(result, peers):
    """A sentence for each figure in which other servers are better than Tapis. It names all of these servers,
    the best first."""
    mixes, whole = by_mix(result), by_server(result)
    for column in (CPU, QPS, *WAITS):
        for mix in result["options"]["mixes"]:
            parts = {server: mixes.get((server, mix), {}) for server in ("tapis", *peers)}
            able = [server for server in peers if column not in WAITS or answers_all(parts[server], column[0])]
            rates = result["rates"]["own"] if column[0].startswith("own_") else {}
            yield from winners(column, parts, able, f"{mix}, ", {s: r[mix] for s, r in rates.items() if mix in r})
    for column in WHOLE:
        yield from winners(column, whole, peers, "", {})


def answers_all(part, key):
    """Whether almost no query was lost: a server that loses queries has low latencies for the rest."""
    lost = part.get(key.partition("_")[0] + "_lost")
    return lost is not None and lost.median < MOST_LOST


def winners(column, parts, peers, where, rates):
    key, words, unit, digits, best = column
    own = parts.get("tapis", {}).get(key)
    if own is None:
        return
    better = [s for s in peers if key in parts[s] and is_better(parts[s][key].median, own.median, best)]
    better.sort(key=lambda server: parts[server][key].median, reverse=best is max)

    def figure(server, spread):
        text = f"{spread.median:,.{digits}f} {unit}".rstrip()
        return f"{text} at {rates[server]:,} per second" if server in rates else text

    entries = []
    for server in better:
        overlap = " (ranges overlap)" if parts[server][key].overlaps(own) else ""
        entries.append(f"{server} {figure(server, parts[server][key])}{overlap}")
    if entries:
        limit = key == "qps" and parts["tapis"]["busy"].median < FULL
        doubt = "; Tapis' core was not fully used: the load generator was the limit" if limit else ""
        yield f"{where}{words}: {', '.join(entries)}; Tapis {figure('tapis', own)}{doubt}"


def is_better(one, other, best):
    return one != other and best(one, other) == one
