"""Medians of what was measured, and who is ahead."""

import statistics

FULL = 0.9  # of a core; below it a server is not at its limit
MOST_LOST = 0.001
STEADY = ("p50_us", "p99_us", "p999_us")


class Spread:
    """Several measurements of one thing."""

    def __init__(self, values):
        self.median, self.least, self.most = statistics.median(values), min(values), max(values)

    def overlaps(self, other):
        return self.least <= other.most and other.least <= self.most


class Part(dict):
    """What is known about a server, or about it in one mix: Spreads by their names."""

    @classmethod
    def of(cls, records):
        keys = records[0] if records else ()
        found = {key: [record[key] for record in records if record.get(key) is not None] for key in keys}
        return cls({key: Spread(values) for key, values in found.items() if values})


def flat(run, floor):
    """The figures of one run; the ratio is to the echo in the same round."""
    steady = run["steady"]
    figures = {key: run[key] for key in ("qps", "cpu_us", "busy")}
    figures |= {key: steady[key] for key in STEADY}
    right = steady["rcodes"].get("NOERROR", 0)
    figures["lost"] = 1 - right / steady["sent"]
    figures["ratio"] = run["cpu_us"] / floor if floor else None
    return figures


def by_mix(result):
    """{(server, mix): Part}; the void measurements left out."""
    valid = [run for run in result["runs"] if not run["void"]]
    floors = {(run["mix"], run["round"]): run["cpu_us"] for run in valid if run["server"] == "echo"}
    parts = {}
    for run in valid:
        floor = floors.get((run["mix"], run["round"]))
        parts.setdefault((run["server"], run["mix"]), []).append(flat(run, floor))
    return {key: Part.of(runs) for key, runs in parts.items()}


def by_server(result):
    """{server: Part} of loading and reloading."""
    parts = {}
    for server in result["versions"]:
        keys = ("load_seconds", "rss_mb", "pss_mb")
        part = Part.of([{key: load[key] for key in keys} for load in result["loads"].get(server, ())])
        told = result["reloads"].get(server, {})
        if told and "void" not in told:
            keys = ("in_force_seconds", "longest_silence_ms", "lost", "let_through", "peak_mb")
            part |= Part.of([{key: told[key] for key in keys}])
        parts[server] = part
    return parts


CPU, QPS = ("cpu_us", "CPU a question", "µs", 2, min), ("qps", "questions a second", "", 0, max)
WAITS = [(key, f"{word} at a steady rate", "µs", 0, min) for key, word in zip(STEADY, ("p50", "p99", "p99.9"))]
WHOLE = [
    ("load_seconds", "time to load", "s", 2, min),
    ("rss_mb", "resident memory", "MB", 1, min),
    ("longest_silence_ms", "longest silence at a reload", "ms", 0, min),
    ("lost", "questions lost at a reload", "", 0, min),
    ("in_force_seconds", "reload in force", "s", 2, min),
    ("peak_mb", "most memory at a reload", "MB", 0, min),
]


def ahead(result, peers):
    """A sentence for each figure in which a peer is better than Tapis."""
    mixes, whole = by_mix(result), by_server(result)
    for column in (CPU, QPS, *WAITS):
        for mix in result["options"]["mixes"]:
            parts = {server: mixes.get((server, mix), {}) for server in ("tapis", *peers)}
            able = [server for server in peers if column not in WAITS or answers_all(parts[server])]
            yield from winner(column, parts, able, f"{mix}, ")
    for column in WHOLE:
        yield from winner(column, whole, peers, "")


def answers_all(part):
    """Who loses questions has short waits for the rest."""
    return "lost" in part and part["lost"].median < MOST_LOST


def winner(column, parts, peers, where):
    key, words, unit, digits, best = column
    own = parts.get("tapis", {}).get(key)
    others = {server: parts[server][key] for server in peers if key in parts.get(server, {})}
    if own is None or not others:
        return
    server = best(others, key=lambda server: others[server].median)
    theirs = others[server]
    if theirs.median != own.median and best(theirs.median, own.median) == theirs.median:
        figures = f"{server} {theirs.median:,.{digits}f} {unit}".rstrip()
        doubt = "; their ranges overlap" if theirs.overlaps(own) else ""
        if key == "qps" and parts["tapis"]["busy"].median < FULL:
            doubt += "; Tapis' core was not full, the load was the limit"
        yield f"{where}{words}: {figures} (Tapis {own.median:,.{digits}f}{doubt})"
