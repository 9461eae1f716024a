#!/usr/bin/env -S python3 -B
"""Orders while files are created and removed, and orders of maximum size: what delays what?

    benches/live/orders_flood.py --binary target/release/tapis [--rates 0 1200 2000] [--rounds 4] [--only flood|large|wrong]

flood: 40 lists are in one directory, in which another process creates and removes files at each of the
rates (files per second). Meanwhile orders with dates come into force, and `tapis status` is run. The
result for each rate: the time from a date's instant to the last answer of the old state, the duration
of `status`, and how often it failed.

large: an order is put in place whose `except` has many names (their number is --excepts), while an order with
a date is pending. Then the server is restarted. The result: how late the date took effect, the time from the
rename of the order's file to the first answer that the order blocks, and the time from the start to the first
DNS answer that the order blocks.

wrong: an order with --targets targets, each with the same mistake. The result: the size of the messages in the
log and in `status`.

Exit code 1 if a date took effect more than 0.1 s late, or `status` gave no answer.
"""

import argparse
import datetime
import os
import subprocess
import sys
import time

import order_server
import dns
import live
import upstream

LISTS = 40
BAR_MS = 100
LATE = "late.example"
MAKER = """
import os, sys, time
folder, rate = sys.argv[1], int(sys.argv[2])
begin, count = time.monotonic(), 0
while True:
    path = os.path.join(folder, f"temporary-{count}")
    with open(path, "w") as out:
        out.write("x")
    os.rename(path, path + ".done")
    os.remove(path + ".done")
    count += 1
    if (ahead := begin + count / rate - time.monotonic()) > 0:
        time.sleep(ahead)
    elif ahead < -1:
        sys.stderr.write("too slow\\n"), sys.exit(1)
"""


class Server(order_server.Server):
    """A server with small lists in one directory, and directories of orders and exceptions."""

    def __init__(self, options, folder, upstream_port):
        self.prepare(folder, "lists")
        for number in range(LISTS):
            self.write(f"lists/l{number}", f"a{number}.lists.example\n")
        lists = [{"name": f"l{n}", "path": os.path.join(folder, f"lists/l{n}")} for n in range(LISTS)]
        super().__init__(options.binary, folder, upstream_port, lists, 2)

    def log_size(self):
        return os.path.getsize(self.log)

    def asks(self, name, patience=1):
        """Whether a name is blocked; None without an answer."""
        with dns.udp_socket() as client:
            client.settimeout(patience)
            client.sendto(dns.query(name, ident=7), (dns.LOOPBACK, self.port))
            try:
                return dns.classify(client.recv(2048), dns.A)[0] == "blocked"
            except TimeoutError:
                return None

    def dated(self, seconds, number):
        """Adds an order that begins in `seconds`; returns its beginning and its name."""
        name = f"d{number}.{LATE}"
        at, now = time.monotonic() + seconds, datetime.datetime.now(datetime.UTC)
        date = (now + datetime.timedelta(seconds=seconds)).isoformat()
        self.write(f"orders/d{number}.toml", order_server.order(f"d{number}", [name], f"effective-from = {date}"))
        return at, name

    def until_blocked(self, name, begin, patience):
        """Milliseconds from `begin` to the first answer that blocks a name; None if there is none."""
        while time.monotonic() < begin + patience:
            if self.asks(name):
                return (time.monotonic() - begin) * 1e3
            time.sleep(0.001)
        return None

    def timed_status(self, patience=10):
        begin = time.monotonic()
        command = self.command("status", "--json")
        try:
            done = subprocess.run(command, capture_output=True, timeout=patience)
        except subprocess.TimeoutExpired:
            return None
        return (time.monotonic() - begin) * 1e3 if done.stdout else None


def flood(options, folder, above):
    report = {}
    for rate in options.rates:
        place = os.path.join(folder, f"at{rate}")
        os.makedirs(place)
        with Server(options, place, above.port) as server:
            server.wait()
            maker = None
            if rate:
                maker = subprocess.Popen([sys.executable, "-c", MAKER, os.path.join(place, "lists"), str(rate)])
            try:
                late, status = [], []
                for number in range(options.rounds):
                    at, name = server.dated(3, number)
                    status.append(server.timed_status())
                    time.sleep(max(0.0, at - time.monotonic()))
                    late.append(server.until_blocked(name, at, 30))
            finally:
                if maker:
                    slow = maker.poll() is not None
                    maker.kill()
                    maker.wait()
                    if slow:
                        raise live.Failure(f"this machine cannot create and remove {rate} files per second")
        report[rate] = {"date_late_ms": spread(late), "status_ms": spread(status)}
    return report


def large(options, folder, above):
    place = os.path.join(folder, "large")
    os.makedirs(place)
    names = ", ".join(f'"n{n}.big.example"' for n in range(options.excepts))
    text = order_server.order("big", []) + f'[[targets]]\nname = "big.example"\nscope = "subtree"\nexcept = [{names}]\n'
    with Server(options, place, above.port) as server:
        server.wait()
        at, name = server.dated(2, 0)
        time.sleep(1)
        server.write("orders/big.toml", text)
        begin = time.monotonic()
        status = server.timed_status(options.patience)
        time.sleep(max(0.0, at - time.monotonic()))
        late = server.until_blocked(name, at, options.patience)
        taken = server.until_blocked("x.big.example", begin, options.patience)
    with Server(options, place, above.port) as server:
        begin = time.monotonic()
        first = server.until_blocked("x.big.example", begin, options.patience)
    return {
        "excepts": options.excepts,
        "bytes": len(text),
        "date_late_ms": late,
        "status_ms": status,
        "in_force_ms": taken,
        "restart_ms": first,
    }


def wrong(options, folder, above):
    place = os.path.join(folder, "wrong")
    os.makedirs(place)
    target = '[[targets]]\nname = "n{}.wrong.example"\nscope = "exat"\n'
    text = order_server.order("wrong", []) + "".join(target.format(n) for n in range(options.targets))
    with Server(options, place, above.port) as server:
        server.wait()
        before = server.log_size()
        server.write("orders/wrong.toml", text)
        begin = time.monotonic()
        while time.monotonic() < begin + options.patience:
            status = subprocess.run(server.command("status", "--json"), capture_output=True).stdout
            if b"wrong.toml" in status:
                break
            time.sleep(0.05)
        return {"targets": options.targets, "log_octets": server.log_size() - before, "status_octets": len(status)}


def spread(values):
    known = [value for value in values if value is not None]
    return {"max": round(max(known), 1) if known else None, "none": len(values) - len(known), "count": len(values)}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--rates", type=int, nargs="+", default=[0, 1200, 2000])
    arguments.add_argument("--rounds", type=int, default=4)
    arguments.add_argument("--excepts", type=int, default=60_000)
    arguments.add_argument("--targets", type=int, default=100_000)
    arguments.add_argument("--patience", type=int, default=300, help="maximum seconds to wait for each figure")
    arguments.add_argument("--only", choices=["flood", "large", "wrong"])
    options = arguments.parse_args()
    result, failures = {"tool": "orders_flood", "options": vars(options)}, []
    with live.workshop("orders_flood") as folder, upstream.Upstream(folder) as above:
        for part in (flood, large, wrong):
            if options.only in (None, part.__name__):
                result[part.__name__] = part(options, folder, above)
    figures = [(f"at {rate}", *report.values()) for rate, report in result.get("flood", {}).items()]
    for when, late, status in figures:
        if late["none"] or late["max"] > BAR_MS:
            failures.append(f"{when} files per second a date took effect {late['max']} ms late")
        if status["none"]:
            failures.append(f"{when} files per second `status` gave no answer {status['none']} times")
    late = result.get("large", {"date_late_ms": 0})["date_late_ms"]
    if late is None or late > BAR_MS:
        failures.append(f"beside a large order a date took effect {late} ms late")
    live.finish(result, failures)


if __name__ == "__main__":
    main()
