"""The result as Markdown, as a picture and as JSON."""

import json
import os
import statistics

import chart
import live
from servers import ALL
from summary import CHANGES, KINDS, STEADY, ahead, by_mix, by_server

BEGIN, END = "<!-- peers: begin -->", "<!-- peers: end -->"


def table(head, rows):
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def cell(spread, digits=1, unit=""):
    """The median, and in brackets the minimum and maximum if there are several values."""
    if spread is None:
        return "void"
    text = f"{spread.median:,.{digits}f}{unit}"
    if spread.least == spread.most:
        return text
    return f"{text} ({spread.least:,.{digits}f} to {spread.most:,.{digits}f})"


class Report:
    def __init__(self, result):
        self.result, self.mixes = result, result["options"]["mixes"]
        self.parts, self.whole = by_mix(result), by_server(result)
        self.servers = [server for server in result["versions"] if server in self.whole]
        self.peers = [server for server in self.servers if ALL[server].peer]

    # Files.

    def write(self, folder):
        os.makedirs(folder, exist_ok=True)
        self.put(folder, "table.md", self.text())
        self.put(folder, "chart.svg", self.picture())
        self.put(folder, "result.json", json.dumps(self.result, indent=1) + "\n")

    def write_docs(self, docs):
        self.replace(os.path.join(docs, "benchmarks.md"), f"![CPU time per query](peers.svg)\n\n{self.text()}")
        self.replace(os.path.join(docs, "..", "README.md"), self.summary() + "\n")
        self.put(docs, "peers.svg", self.picture())
        self.put(docs, "peers.json", json.dumps(self.result, indent=1) + "\n")

    def replace(self, path, body):
        """Replaces the part of a page between the two markers."""
        with open(path) as page:
            before, begin, rest = page.read().partition(BEGIN)
        _old, end, after = rest.partition(END)
        if not begin or not end:
            raise live.Failure(f"{path} has no `{BEGIN}` with `{END}` after it")
        with open(path, "w") as page:
            page.write(f"{before}{BEGIN}\n{body}{END}{after}")

    def put(self, folder, name, text):
        with open(os.path.join(folder, name), "w") as out:
            out.write(text)

    def picture(self):
        groups = []
        for mix in self.mixes:
            bars = [(self.label(s), self.parts[s, mix]["cpu_us"], s) for s in self.servers if (s, mix) in self.parts]
            groups.append((mix, [(label, spread.median, ALL[s].peer) for label, spread, s in bars]))
        return chart.draw("CPU time per query, in µs", groups)

    # Failures.

    def failures(self):
        for server, why in self.result["left_out"].items():
            yield f"{server} is left out: {why}"
        for run in self.result["runs"]:
            for why in run["void"]:
                yield f"{run['server']}, {run['mix']}, round {run['round']}: {why}"
        for server, changes in self.result["reloads"].items():
            for word, entry in changes.items():
                if "void" in entry:
                    yield f"{server}, {word}: {entry['void']}"

    def own_failures(self):
        """Void measurements of Tapis or the echo. Without these two programs, nothing can be compared."""
        void = [run for run in self.result["runs"] if run["void"] and run["server"] in ("tapis", "echo")]
        return void or any("void" in entry for entry in self.result["reloads"].get("tapis", {}).values())

    # Text.

    def label(self, server):
        return f"{server} {self.result['versions'][server]}".strip()

    def text(self):
        parts = [self.introduction(), self.costs(), self.speeds(), *map(self.waits, KINDS), self.pairs(), self.lists()]
        parts += [self.reloads(), self.without_differences(), self.where_peers_win(), self.notes()]
        return "\n\n".join(part for part in parts if part) + "\n"

    def summary(self):
        """The table of README.md: three figures for each server."""
        rows = []
        for server in self.servers:
            if server != "tapis" and server not in self.peers:
                continue
            cpu = self.parts.get((server, "blocked"), {}).get("cpu_us")
            memory = self.whole[server].get("rss_mb")
            change = self.result["reloads"].get(server, {}).get("whole", {})
            silence = f"{change['longest_silence_ms']:,.0f} ms" if "longest_silence_ms" in change else ""
            cells = [f"{cpu.median:.2f} µs" if cpu else "", f"{memory.median:,.1f} MB" if memory else "", silence]
            rows.append([self.label(server), *cells])
        names = f"{self.result['names']:,} blocked names"
        return table([names, "CPU per blocked query", "memory", "longest silence while the list is replaced"], rows)

    def introduction(self):
        result, options = self.result, self.result["options"]
        machine = result["machine"]
        origin = "" if options["names"] else " made up"
        return (
            f"{result['names']:,}{origin} blocked names; {result['started'][:10]}, {machine['model']}, "
            f"{machine['cpus']} cores, Linux {machine['kernel']}. Rounds: {options['rounds']}; "
            f"{options['seconds']:g} s per mix; workers: {options['workers']}; the servers take turns on core "
            f"{options['server_cpu']}. The system's receive buffer, for servers that set no other: "
            f"{machine['receive_buffer']:,} bytes. "
            f"Values are medians, with minimum and maximum in parentheses. {self.disturbance()}"
        )

    def disturbance(self):
        """How many cores other processes used during the measurements."""
        cores = [run["cores_busy_with_others"] for run in self.result["runs"] if "cores_busy_with_others" in run]
        most, median = max(cores, default=0), statistics.median(cores or [0])
        return f"Other processes used {max(0, median):.2f} cores in the median, {max(0, most):.2f} at most."

    def costs(self):
        def one(server, mix):
            part = self.parts.get((server, mix))
            if part is None:
                return "void" if mix in ALL[server].mixes else ""
            ratio = f", {part['ratio'].median:.2f} ×" if "ratio" in part and server != "echo" else ""
            return cell(part["cpu_us"], 2) + ratio

        rows = [[self.label(server), *(one(server, mix) for mix in self.mixes)] for server in self.servers]
        head = "User and system time of the server in µs per query, and as a multiple of the echo's (the kernel's part)."
        return f"{head}\n\n" + table(["CPU per query", *self.mixes], rows)

    def speeds(self):
        def one(server, mix):
            part = self.parts.get((server, mix))
            return f"{cell(part['qps'], 0)}, {part['busy'].median:.0%}" if part else ""

        rows = [[self.label(server), *(one(server, mix) for mix in self.mixes)] for server in self.servers]
        head = (
            "The second figure is the load of the server's core: if that is well below 100 %, the load generator or the "
            "upstream is the limit."
        )
        return f"{head}\n\n" + table(["queries per second", *self.mixes], rows)

    def waits(self, kind):
        def one(server, mix):
            part = self.parts.get((server, mix), {})
            if any(f"{kind}_{key}" not in part for key in STEADY):
                return ""
            text = " / ".join(f"{part[f'{kind}_{key}'].median:,.0f}" for key in STEADY)
            rate = f"{rates[server][mix]:,}: " if kind == "own" else ""
            lost = part[f"{kind}_lost"].median
            return rate + text + (f", {lost:.1%} lost" if lost >= 0.0005 else "")

        rates = self.result["rates"][kind]
        rows = [[self.label(server), *(one(server, mix) for mix in self.mixes)] for server in self.servers]
        p = "Measured from when each query was due: p50 / p99 / p99.9 in µs"
        if kind == "own":
            head = f"Latency at half of the rate that each server reached above; that half is the first figure. {p}."
            return f"{head}\n\n" + table(["latency at half", *self.mixes], rows)
        common = next(iter(rates.values()), {})
        columns = [f"{mix}, {common[mix]:,} per second" if mix in common else mix for mix in self.mixes]
        given = self.result["options"]["rate"]
        head = f"Latency at one rate for all, {'given' if given else 'half of what the slowest server reached'}. {p}."
        return f"{head}\n\n" + table(["latency at one rate", *columns], rows)

    def pairs(self):
        pairs = self.result["pairs"]
        if not pairs:
            return ""

        def median(server):
            runs = [run for run in pairs["runs"][server] if all(run[key] is not None for key in STEADY)]
            return " / ".join(f"{statistics.median(run[key] for run in runs):,.0f}" for key in STEADY)

        count = len(pairs["runs"]["tapis"])
        return (
            f"In {count} pairs of runs, one directly after the other ({pairs['mix']}, {pairs['rate']:,.0f} per second): "
            f"tapis {median('tapis')}, echo {median('echo')}."
        )

    def lists(self):
        rows = []
        for server in self.servers:
            part = self.whole[server]
            if server == "echo" or "rss_mb" not in part:
                continue
            size = part["rss_mb"].median * 1e6 / self.result["names"]
            row = [cell(part["load_seconds"], 2), cell(part["rss_mb"]), cell(part["pss_mb"])]
            rows.append([self.label(server), *row, f"{size:,.0f}" if server != "tapis-empty" else ""])
        head = "The list: time from the start to the first blocked answer, and memory used then."
        seconds = self.result["cdb_seconds"]
        if seconds is not None:
            head += f" dnsdist-cdb reads a file that tinycdb makes in {seconds:.2f} s, which are not counted."
        return f"{head}\n\n" + table(["list", "load, s", "RSS, MB", "PSS, MB", "bytes per name"], rows)

    def reloads(self):
        rows = []
        for server in self.result["reloads"]:
            for word, entry in self.result["reloads"][server].items():
                rows.append([self.label(server), CHANGES[word], *self.reload(entry)])
        rate = self.result["options"]["reload_rate"]
        lists = self.result["change"]
        head = (
            f"Under {rate:,} queries per second, {lists['gone']:,} names are removed and {lists['came']:,} added, in three "
            "ways: with rules that precede the list, with a difference of the list, and with a new list that replaces "
            "the whole one. "
            "In force: until the last of the names is blocked. Lost: no answer within 2 s. Let through: queries "
            "for blocked names that were answered like other names. Before: the longest silence without a change."
        )
        columns = ["change", "kind", "way", "in force, s", "longest silence, ms", "before, ms", "lost", "let through"]
        return f"{head}\n\n" + table([*columns, "most MB"], rows) if rows else ""

    def reload(self, entry):
        if "void" in entry:
            return ["void", "", "", "", "", "", ""]
        row = [entry["way"], f"{entry['in_force_seconds']:.2f}", f"{entry['longest_silence_ms']:,.0f}"]
        row += [f"{entry['control']['longest_silence_ms']:,.0f}", f"{entry['lost']:,}", f"{entry['let_through']:,}"]
        return [*row, f"{entry['peak_mb']:,.0f}"]

    def without_differences(self):
        servers = [s for s in self.peers if s in self.result["reloads"] and not ALL[s].ways]
        text = f"Only a whole new list can be loaded by: {', '.join(map(self.label, servers))}."
        return text if servers else ""

    def where_peers_win(self):
        lines = [f"- {line}" for line in ahead(self.result, self.peers)]
        head = (
            "Figures in which peers are ahead of Tapis (a small change is made by rules or a difference, whichever is "
            "faster):"
        )
        return f"{head}\n\n" + ("\n".join(lines) if lines else "- none in this run")

    def notes(self):
        notes = self.result["notes"]
        lines = [f"- {self.label(server)}: {notes[server]}" for server in self.servers if notes[server]]
        return "How each stores the list:\n\n" + "\n".join(lines)
