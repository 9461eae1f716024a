#!/usr/bin/env -S python3 -B
"""Kills while orders change: do files, journal and answers agree after each restart?

    benches/live/audit_kills.py --binary target/release/tapis [--kills 50]

Each round writes, lifts and removes the files of orders in quick succession, and ends the server by
SIGKILL at a random moment. Then it is started again with the same state directory. Checks after the
restart: `tapis journal verify` finds nothing; the texts and states of orders in the journal agree with the
files and with the counts in `status`; generations only increase; and each name is answered according to the
state of its order. Exit code 1 if a check fails.
"""

import argparse
import collections
import json
import os
import random
import signal
import subprocess
import time

import order_server
import dns
import live
import orders
import upstream

ORDERS = 40
LIFTED = "effective-from = 2020-01-01T00:00:00Z\nlifted-at = 2021-01-01T00:00:00Z"
LATER = "effective-from = 2099-01-01T00:00:00Z"
FORCE = "effective-from = 2020-01-01T00:00:00Z"
PATIENCE = 10.0  # seconds


class Server(orders.Server):
    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def tapis(self, *verb):
        return subprocess.run(self.command(*verb), capture_output=True, text=True)

    def path(self, number):
        return os.path.join(self.folder, f"orders/a{number}.toml")

    def change(self, chance):
        """One change of one order."""
        number = chance.randrange(ORDERS)
        if chance.random() < 0.2:
            if os.path.exists(self.path(number)):
                os.remove(self.path(number))
            return
        dates = chance.choice([FORCE, FORCE, LIFTED, LATER])
        text = order_server.order(f"a{number}", [f"a{number}.orders.example"], dates)
        self.write(f"orders/a{number}.toml", f"# {chance.random()}\n{text}")


def journal_state(server):
    """Texts and states of orders in the journal, and its generations."""
    texts, states, generations = {}, {}, []
    for entry in json.loads(server.tapis("journal", "export").stdout):
        if entry["event"] == "order":
            texts[entry["id"]] = entry["text"]
        elif entry["event"] == "order-gone":
            del texts[entry["id"]]
        elif entry["event"] == "published":
            generations.append(entry["generation"])
            for turn in entry.get("states", ()):
                states[turn["order"]] = turn["now"]
    return texts, {order: state for order, state in states.items() if state}, generations


def files(server):
    """Texts and states of orders in the files."""
    listed = json.loads(server.tapis("order", "list", "--json").stdout)
    texts = {}
    for order in listed:
        with open(order["path"]) as text:
            texts[order["id"]] = text.read()
    return texts, {order["id"]: order["state"] for order in listed}


def faults(server):
    verified = server.tapis("journal", "verify")
    if verified.returncode:
        yield f"journal verify: {verified.stdout}"
    texts, states, generations = journal_state(server)
    if (texts, states) != files(server):
        yield "the journal and the files differ"
    if generations != sorted(set(generations)):
        yield f"generations go back: {generations[-20:]}"
    status = server.status()
    counted = collections.Counter(states.values())
    if status["orders"]["states"] != dict(counted):
        yield f"status counts {status['orders']['states']}, the journal {dict(counted)}"
    if status["generation"] != generations[-1]:
        yield f"generation {status['generation']} is in force, the journal's last is {generations[-1]}"
    for number in range(ORDERS):
        reply = dns.ask(server.port, dns.query(f"a{number}.orders.example"))
        blocked = reply and dns.classify(reply, dns.A)[0] == "blocked"
        if blocked != (states.get(f"a{number}") == "in-force"):
            yield f"a{number}.orders.example: blocked is {blocked}, its order is {states.get(f'a{number}')}"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--kills", type=int, default=50)
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()
    options.workers, options.orders, options.exceptions = 1, 0, 0
    chance, failures, changes = random.Random(options.seed), [], 0
    with live.workshop("audit_kills") as folder, upstream.Upstream(folder) as above:
        options.names = os.path.join(folder, "names.txt")
        live.write_names(options.names, ["ads.example"])
        for number in range(options.kills + 1):
            with Server(options, folder, above.port) as server:
                server.wait()
                # The first check may precede the journal's entry of the start.
                end = time.monotonic() + PATIENCE
                while (found := list(faults(server))) and time.monotonic() < end and not number:
                    time.sleep(0.05)
                failures += [f"restart {number}: {fault}" for fault in found]
                if number == options.kills:
                    break
                end = time.monotonic() + chance.uniform(0.05, 1.2)
                while time.monotonic() < end:
                    server.change(chance)
                    changes += 1
                    time.sleep(chance.choice([0, 0.002, 0.02, 0.15]))
                server.kill()
        entries = sum(1 for _ in open(os.path.join(folder, "state/journal.jsonl")))
    live.say(f"{options.kills} kills, {changes} changes, {entries} entries, {len(failures)} faults")
    live.finish({"tool": "audit_kills", "kills": options.kills, "changes": changes, "entries": entries}, failures)


if __name__ == "__main__":
    main()
