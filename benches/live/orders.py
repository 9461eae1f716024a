#!/usr/bin/env -S python3 -B
"""Orders under load: how soon is an order in force, and how soon does its lift take effect?

    benches/live/orders.py --binary target/release/tapis --names FILE [--rounds 5] [--orders N] [--exceptions N]

FILE contains a large list, one name per line. One process queries three kinds of names at a steady
rate: the eleven names of an order, names of the list, and other names, which the upstream answers. It
uses many sockets, so that the queries reach all workers. Each round puts the order's file in place,
lifts it by `tapis order lift`, and then gives it dates: it begins at one instant and ends at another.
--orders and --exceptions set the numbers of other orders and exceptions.

The result is the time from the end of an edit, or from the instant of a date, to the last query that
got an answer of the old state on any socket. Before the first round, while the order is in force, and
at the end, 100,000 names are queried: their answers must be equal, except for the eleven names.
Exit code 1 if an answer was lost, or another name's answer changed, or a limit was exceeded: 1 s for
an edit, 0.1 s for a date.
"""

import argparse
import datetime
import os
import subprocess
import time

import order_server
import dns
import live
import load
import upstream

ORDER, BIG, OTHER = range(3)
ELEVEN = [f"name{number}.eleven.example" for number in range(11)]  # in no real list
SURVEY, WINDOW = 100_000, 256
BARS_MS = {"edit": 1000, "lift": 1000, "begin": 100, "end": 100}


class Server(order_server.Server):
    """A server with a state directory, and so a journal, and directories of orders and exceptions."""

    def __init__(self, options, folder, upstream_port):
        self.prepare(folder)
        for number in range(options.orders):
            self.write(f"orders/o{number}.toml", order_server.order(f"o{number}", [f"o{number}.orders.example"]))
        exceptions = (
            f'[[exception]]\nname = "e{n}.exceptions.example"\nscope = "exact"\nagainst = ["big"]\n'
            'reason = "It is needed"\nauthor = "The operator"\n\n'
            for n in range(options.exceptions)
        )
        self.write("exceptions/all.toml", "".join(exceptions))
        lists = [{"name": "big", "path": os.path.abspath(options.names)}]
        super().__init__(options.binary, folder, upstream_port, lists, options.workers)


def survey(port, names):
    """The kind of answer for each name."""
    client, verdicts = dns.udp_socket(), {}
    for start in range(0, len(names), WINDOW):
        part = names[start : start + WINDOW]
        missing = dict(enumerate(part))
        for _ in range(5):
            for ident, name in missing.items():
                client.sendto(dns.query(name, ident=ident), (dns.LOOPBACK, port))
            end = time.monotonic() + 2
            while missing and (left := end - time.monotonic()) > 0:
                client.settimeout(left)
                try:
                    reply = client.recv(2048)
                except TimeoutError:
                    break
                name = missing.pop(int.from_bytes(reply[:2], "big"), None)
                if name:
                    verdicts[name] = dns.classify(reply, dns.A)[0]
            if not missing:
                break
        verdicts.update((name, "lost") for name in missing.values())
    return verdicts


class Play:
    """The changes, made under load."""

    def __init__(self, server, sender):
        self.server, self.sender, self.changes = server, sender, []

    def expect(self, kind, begin, blocked, length=1.5):
        """Expects the order to be in force from `begin` on, or not to be."""
        self.sender.run(begin + length)
        self.changes.append((kind, begin, begin + length, blocked))

    def edit(self):
        self.server.write("orders/eleven.toml", order_server.order("eleven", ELEVEN))
        self.expect("edit", time.monotonic(), True)

    def lift(self):
        verb = self.server.command("order", "lift", "eleven", "--reason", "Over")
        # From the start of the verb: its run time is part of the operator's wait.
        begin = time.monotonic()
        process = subprocess.Popen(verb, stdout=subprocess.DEVNULL)
        self.expect("lift", begin, False)
        if process.wait():
            raise live.Failure("`tapis order lift` fails")

    def dates(self):
        begin, now = time.monotonic() + 1.5, datetime.datetime.now(datetime.UTC)
        instants = [now + datetime.timedelta(seconds=1.5 + more) for more in (0, 1.5)]
        dates = "effective-from = {}\nexpires-at = {}".format(*(instant.isoformat() for instant in instants))
        self.server.write("orders/eleven.toml", order_server.order("eleven", ELEVEN, dates))
        self.sender.run(begin)
        self.expect("begin", begin, True)
        self.expect("end", begin + 1.5, False)
        os.remove(os.path.join(self.server.folder, "orders/eleven.toml"))
        self.sender.run(time.monotonic() + 0.5)

    def delays(self):
        """Milliseconds to the last answer of the old state, by kind of change. Answers of a state that had not begun
        are faults."""
        sender, report, early = self.sender, {}, 0
        wanted = {True: load.BLOCKED, False: load.TRUE}
        for kind, begin, end, blocked in self.changes:
            numbers = [i for i in sender.between(begin, end) if sender.queries[sender.asked[i]].kind == ORDER]
            old = [i for i in numbers if sender.verdict[i] != wanted[blocked]]
            report.setdefault(kind, []).append(max(((sender.sent[i] - begin) * 1e3 for i in old), default=0.0))
            if kind in ("begin", "end"):
                before = sender.between(begin - 0.2, begin)
                early += sum(
                    sender.arrived[i] < begin and sender.verdict[i] == wanted[blocked]
                    for i in before
                    if sender.queries[sender.asked[i]].kind == ORDER
                )
        return report, early


def spread(values):
    return {"median": round(live.percentile(values, 0.5), 1), "max": round(max(values), 1), "count": len(values)}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--names", required=True)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--rate", type=int, default=3000, help="queries per second")
    arguments.add_argument("--orders", type=int, default=0)
    arguments.add_argument("--exceptions", type=int, default=0)
    arguments.add_argument("--workers", type=int, default=2)
    options = arguments.parse_args()
    with live.workshop("orders") as folder, upstream.Upstream(folder) as above:
        names = live.read_names(options.names)
        known = live.sample(names, SURVEY // 2)
        others = [f"other{i}.example.org" for i in range(SURVEY - len(known))]
        del names
        queries = [load.Query(name, dns.A, ORDER, True) for name in ELEVEN] * 100
        queries += [load.Query(name, dns.A, BIG, True) for name in known[:550]]
        queries += [load.Query(name, dns.A, OTHER, True) for name in others[:550]]
        with Server(options, folder, above.port) as server:
            result = {"tool": "orders", "options": vars(options), "start_seconds": round(server.wait(), 2)}
            surveys = [survey(server.port, known + others)]
            sender = load.Load(server.port, queries, options.rate, sockets=32)
            play = Play(server, sender)
            sender.run(time.monotonic() + 1)
            for number in range(options.rounds):
                play.edit()
                if not number:
                    surveys.append(survey(server.port, known + others))
                    sender.due = time.monotonic()
                play.lift()
                play.dates()
            sender.drain()
            surveys.append(survey(server.port, known + others))
            status = server.status()
            result |= {"memory": server.memory(), "alarms": status["alarms"], "generation": status["generation"]}
    delays, early = play.delays()
    lost = sender.lost(range(len(sender.sent)))
    kinds = {BIG: load.BLOCKED, OTHER: load.TRUE}
    asked = [(sender.queries[number], verdict) for number, verdict in zip(sender.asked, sender.verdict)]
    changed = sum(q.kind in kinds and v not in (kinds[q.kind], load.LOST) for q, v in asked)
    differ = sum(survey[name] != surveys[0][name] for survey in surveys[1:] for name in survey)
    result |= {"queries": len(sender.sent), "lost": lost, "early": early, "changed": changed, "differ": differ}
    result |= {"delays_ms": {kind: spread(values) for kind, values in delays.items()}}
    failures = [f"{count} {what}" for what, count in (
        ("queries lost", lost), ("answers of a state that had not begun", early),
        ("answers about other names changed", changed), ("of the surveyed names differ", differ),
        ("wrong answers", len(sender.wrongs))) if count]
    failures += [f"{kind}: {max(values):.0f} ms" for kind, values in delays.items() if max(values) > BARS_MS[kind]]
    failures += [f"alarm: {alarm}" for alarm in result["alarms"]]
    for kind, values in result["delays_ms"].items():
        live.say(f"{kind}: in force for all clients after {values['median']} ms, at most {values['max']} ms")
    live.finish(result, failures)


if __name__ == "__main__":
    main()
