#!/usr/bin/env -S python3 -B
"""Does `tapis why` tell what the server does?

    benches/live/why.py --binary target/release/tapis [--names 10000]

Makes a policy by chance: block lists of each action, an allow list, orders in every state, exceptions
against all, some, and none that is there; on names of few labels, so that they meet. Then random names
are asked of the server, and each is told by `tapis why --json`. The answer's code, its records and its
Extended DNS Error must be what `why` says; where `why` says that upstream is asked, the answer must be
upstream's; and the reason that the answer gives must be the source that `why` names. Exit code 1 if one
of that fails.
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
    """Writes the policy; the lists."""
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
    """What an answer says: code, addresses, Extended DNS Errors."""
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
    """How `why` and the server differ about a name; and what was decided."""
    reply = dns.ask(server.port, dns.query(asked, edns=True))
    done = subprocess.run(server.command("why", asked, "--json"), capture_output=True, text=True)
    if reply is None or done.returncode:
        return f"{asked}: no answer: {done.stderr}", "none"
    told, (rcode, addresses, errors) = json.loads(done.stdout), answered(reply)
    if told["answer"] is None:
        good = (rcode, addresses, errors) == ("NOERROR", [dns.TRUE_A], [])
    else:
        answer = told["answer"]
        shown = [record.rsplit(" ", 1)[1] for record in answer["records"]]
        source = told["by"].removeprefix("order:").removeprefix("exception:")
        named = [error.split(" ", 1)[1].removeprefix("order ").split(":")[0] for error in errors]
        good = (answer["rcode"], shown, answer["ede"]) == (rcode, addresses, errors) and named == [source]
        good = good and told["rules"] and told["by"] in {rule["source"] for rule in told["rules"]}
    decision = f"{told['decision']} by {told['by'].split(':')[0] if told['by'] else 'nothing'}"
    return None if good else f"{asked}: {told} but {(rcode, addresses, errors)}", decision


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--names", type=int, default=10_000)
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()
    chance = random.Random(options.seed)
    with live.workshop("whys") as folder, upstream.Upstream(folder) as above:
        lists = make(folder, chance)
        with Server(options.binary, folder, above.port, lists) as server:
            server.wait()
            asked = [name(chance) for _ in range(options.names)]
            with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
                told = list(pool.map(lambda one: fault(server, one), asked))
    failures = [failure for failure, _ in told if failure]
    decisions = collections.Counter(decision for _, decision in told)
    live.say(f"{len(asked)} names, {len(failures)} told otherwise than answered: {dict(decisions)}")
    live.finish({"tool": "whys", "names": len(asked), "decisions": dict(decisions)}, failures)


if __name__ == "__main__":
    main()
