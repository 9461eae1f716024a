#!/usr/bin/env -S python3 -B
"""Does `tapis why` agree with the server?

    benches/live/why.py --binary target/release/tapis [--names 10000]

Makes a random policy: block lists of each action, an allow list, orders in every state, and exceptions
that override all sources, one source, or a source that does not exist. The names have few labels, so
that rules often match the same name. Then random names are queried and explained by `tapis why --json`.
The answer's code, its records and its Extended DNS Error must equal those of `why`; where `why` reports
that upstream is asked, the answer must be upstream's; and the reason in the answer must be the source
that `why` names. Exit code 1 if a check fails.
"""

import argparse
import collections
import concurrent.futures
import json
import os
import random
import socket
import struct
import subprocess

import order_server
import dns
import live
import upstream

LABELS = [chr(ord("a") + n) for n in range(6)]
SCOPES = "exact", "subtree", "below"
SIGNS = {"exact": "", "subtree": ".", "below": "*."}
ACTIONS = "sinkhole", "nxdomain", "nodata", "refused"
RCODES = {0: "NOERROR", 3: "NXDOMAIN", 5: "REFUSED"}
PAST, FUTURE = "2020-01-01T00:00:00Z", "2099-01-01T00:00:00Z"
DATES = [
    f"effective-from = {PAST}",
    f"effective-from = {PAST}",
    f"effective-from = {FUTURE}",
    f"effective-from = {PAST}\nlifted-at = 2021-01-01T00:00:00Z",
    f"effective-from = {PAST}\nexpires-at = {FUTURE}",
    f"effective-from = {PAST}\nsuspended = [{{ from = 2021-01-01T00:00:00Z, until = {FUTURE} }}]",
]
EDE = 15


def name(chance):
    return ".".join(chance.choice(LABELS) for _ in range(chance.choice([2, 3, 3, 4]))) + ".example"


def make(folder, chance):
    """Writes the policy; returns the lists."""
    lists = []
    for action in ACTIONS:
        rules = {SIGNS[chance.choice(SCOPES)] + name(chance) for _ in range(60)}
        live.write_names(os.path.join(folder, action), sorted(rules))
        lists.append({"name": action, "path": os.path.join(folder, action), "action": action})
    live.write_names(os.path.join(folder, "good"), sorted({"." + name(chance) for _ in range(40)}))
    lists.append({"name": "good", "path": os.path.join(folder, "good"), "kind": "allow"})
    os.mkdir(os.path.join(folder, "orders"))
    for number in range(80):
        text = order_server.order(f"o{number}", [name(chance)], chance.choice(DATES))
        text = text.replace('scope = "exact"', f'scope = "{chance.choice(SCOPES)}"')
        with open(os.path.join(folder, f"orders/o{number}.toml"), "w") as out:
            out.write(f'action = "{chance.choice(ACTIONS)}"\n{text}')
    against = ["all", "sinkhole", "order:o1", "order:o2", "order:o3", "refused", "not-there"]
    os.mkdir(os.path.join(folder, "exceptions"))
    with open(os.path.join(folder, "exceptions/all.toml"), "w") as out:
        for _ in range(60):
            ends = chance.choice(["", f"until = {FUTURE}\n", f"until = {PAST}\n"])
            out.write(
                f'[[exception]]\nname = "{name(chance)}"\nscope = "{chance.choice(SCOPES)}"\nreason = "Needed"\n'
                f'against = ["{chance.choice(against)}"]\nauthor = "The operator"\n{ends}'
            )
    return lists


class Server(live.Tapis):
    def write_config(self, sections):
        more = ['[orders]\npath = "orders"\n', '[exceptions]\npath = "exceptions"\n']
        return super().write_config([*sections, *more])


def answered(reply):
    """The code, addresses and Extended DNS Errors of an answer."""
    rcode, records = dns.read(reply)
    addresses = [socket.inet_ntoa(rdata) for section, rtype, _, rdata in records if (section, rtype) == (0, dns.A)]
    errors = []
    for _section, rtype, _, rdata in records:
        at = 0
        while rtype == dns.OPT and at < len(rdata):
            code, length = struct.unpack_from(">HH", rdata, at)
            if code == EDE:
                number = struct.unpack_from(">H", rdata, at + 4)[0]
                errors.append(f"{number} {rdata[at + 6 : at + 4 + length].decode()}")
            at += 4 + length
    return RCODES.get(rcode, rcode), addresses, errors


def fault(server, asked):
    """The difference between `why` and the server about a name, if any; and the decision."""
    reply = dns.ask(server.port, dns.query(asked, edns=True))
    done = subprocess.run(server.command("why", asked, "--json"), capture_output=True, text=True)
    if reply is None or done.returncode:
        return f"{asked}: no answer: {done.stderr}", "none"
    report, (rcode, addresses, errors) = json.loads(done.stdout), answered(reply)
    if report["answer"] is None:
        good = (rcode, addresses, errors) == ("NOERROR", [dns.TRUE_A], [])
    else:
        answer = report["answer"]
        shown = [record.rsplit(" ", 1)[1] for record in answer["records"]]
        source = report["by"].removeprefix("order:").removeprefix("exception:")
        named = [error.split(" ", 1)[1].removeprefix("order ").split(":")[0] for error in errors]
        good = (answer["rcode"], shown, answer["ede"]) == (rcode, addresses, errors) and named == [source]
        good = good and report["rules"] and report["by"] in {rule["source"] for rule in report["rules"]}
    decision = f"{report['decision']} by {report['by'].split(':')[0] if report['by'] else 'nothing'}"
    return None if good else f"{asked}: {report} but {(rcode, addresses, errors)}", decision


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--names", type=int, default=10_000)
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()
    chance = random.Random(options.seed)
    with live.workshop("why") as folder, upstream.Upstream(folder) as above:
        lists = make(folder, chance)
        with Server(options.binary, folder, above.port, lists) as server:
            server.wait()
            asked = [name(chance) for _ in range(options.names)]
            with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
                report = list(pool.map(lambda one: fault(server, one), asked))
    failures = [failure for failure, _ in report if failure]
    decisions = collections.Counter(decision for _, decision in report)
    live.say(f"{len(asked)} names, {len(failures)} whose explanation differs from the answer: {dict(decisions)}")
    live.finish({"tool": "why", "names": len(asked), "decisions": dict(decisions)}, failures)


if __name__ == "__main__":
    main()
