#!/usr/bin/env -S python3 -B
"""Take-overs under load: is an answer lost, and for how long is there none?

    benches/live/take_over.py --binary target/release/tapis [--take-overs 5] [--rate 20000]

Half of the queries are sent by UDP, over several sockets, and half by TCP, over connections that stay open, by
another process. A third of them are names of a list, a third names whose answers are cached, and a third names that were
never asked for before, for which the upstream is asked. Each time, `tapis upgrade` replaces the server, with the program that runs already. The control comes first: the same queries without a take-over, for as long as the
take-overs take.

Every answer must arrive within 2 s and be that of the list or of the upstream. A silence is the time between
consecutive answers; the owed silence is the part of it in which a query waited for its answer.

Exit code 1 if an answer was lost or incorrect, or if a silence during the take-overs was longer than --longest. That of the control
shows whether the machine itself is quiet enough for this.
"""

import argparse
import json
import multiprocessing
import os
import select
import signal
import socket
import struct
import time

import dns
import live
import load
import upstream

NAMES = 2000
CONNECTIONS = 16
WARM_UP = 2.0  # seconds
PAUSE = 1.0  # seconds between take-overs
TIMEOUT = 2.0  # seconds


class Unknown(load.Query):
    """A query with another name each time. Of its answer, only the start of the name is compared."""

    count = 0

    def __init__(self, kind, edns):
        self.name, self.rtype, self.kind, self.edns = "new*.free.example", dns.A, kind, edns
        # Each process has its own names.
        self.start = f"new-{os.getpid()}-"
        self.echo = self.packet_of(0)[10 : 11 + len(self.start)]

    def packet_of(self, number):
        return dns.query(f"{self.start}{number:09}.free.example", self.rtype, edns=self.edns)[2:]

    @property
    def packet(self):
        Unknown.count += 1
        return self.packet_of(Unknown.count)


def queries():
    """A third of the names are blocked, a third are cached, and a third are new."""
    for number in range(NAMES):
        edns = number % 2 == 0
        if number % 3 == 2:
            yield Unknown(0, edns)
        else:
            name = f"n{number}.listed.example" if number % 3 else f"n{number}.free.example"
            yield load.Query(name, dns.A, number % 3, edns)


class Streams:
    """A load by TCP, over connections that stay open, with many queries in flight on each."""

    def __init__(self, port, rate):
        self.interval = 1 / rate
        self.queries = list(queries())
        self.connections = [socket.create_connection((dns.LOOPBACK, port)) for _ in range(CONNECTIONS)]
        for connection in self.connections:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setblocking(False)
        self.unread = {connection: b"" for connection in self.connections}
        self.unsent = {connection: b"" for connection in self.connections}
        self.waiting, self.sent, self.arrived, self.wrong, self.closed = {}, [], [], 0, 0

    def run(self, stop):
        due, end = time.monotonic(), None
        while end is None or (self.waiting and time.monotonic() < end):
            now = time.monotonic()
            if end is None and stop.is_set():
                end = now + TIMEOUT
            while end is None and due <= now:
                self.send(now)
                due += self.interval
            self.take(max(0, min(due - now, 0.001)))

    def send(self, now):
        index = len(self.sent)
        connection = self.connections[index % CONNECTIONS]
        ident = index // CONNECTIONS & 0xFFFF
        packet = self.queries[index % NAMES].packet
        self.sent.append(now)
        self.waiting[connection, ident] = index
        self.unsent[connection] += struct.pack(">HH", len(packet) + 2, ident) + packet
        self.flush(connection)

    def flush(self, connection):
        try:
            done = connection.send(self.unsent[connection])
            self.unsent[connection] = self.unsent[connection][done:]
        except OSError:
            pass

    def take(self, patience):
        for connection in select.select(self.connections, (), (), patience)[0]:
            try:
                part = connection.recv(1 << 16)
            except BlockingIOError:
                continue
            except OSError:
                part = b""
            if not part:
                self.closed += 1
                self.connections.remove(connection)
                raise live.Failure("the server closed a TCP connection")
            data = self.unread[connection] + part
            while len(data) >= 2 and len(data) >= 2 + (length := int.from_bytes(data[:2], "big")):
                self.settle(connection, data[2 : 2 + length])
                data = data[2 + length :]
            self.unread[connection] = data

    def settle(self, connection, reply):
        index = self.waiting.pop((connection, int.from_bytes(reply[:2], "big")), None)
        if index is None:
            return
        query = self.queries[index % NAMES]
        word, _detail = dns.classify(reply, query.rtype)
        is_right = reply[12 : 12 + len(query.echo)] == query.echo and word == ("blocked" if query.kind else "true")
        self.wrong += not is_right
        self.arrived.append((time.monotonic(), self.sent[index]))

    def figures(self, start, end):
        """Of the answers in that time: their number, and silences in milliseconds."""
        times = [at for at, _sent in self.arrived if start <= at < end]
        waits = sorted((at - sent) * 1e3 for at, sent in self.arrived if start <= sent < end)
        gaps = [(b - a) * 1e3 for a, b in zip(times, times[1:])]
        return {
            "answers": len(times),
            "longest_silence_ms": round(max(gaps, default=0), 3),
            "answer_ms": {"p50": round(live.percentile(waits, 0.5), 3), "max": round(waits[-1], 3)},
        }


def by_tcp(port, rate, stop, phases, results):
    """The other process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    streams = Streams(port, rate)
    failure = None
    try:
        streams.run(stop)
    except live.Failure as reason:
        failure = str(reason)
    times = phases.get()
    results.put(
        {
            "queries": len(streams.sent),
            "lost": len(streams.waiting),
            "wrong": streams.wrong,
            "failure": failure,
            "phases": {name: streams.figures(*times[name]) for name in times},
        }
    )


def measure(server, options):
    stop, phases, results = multiprocessing.Event(), multiprocessing.Queue(), multiprocessing.Queue()
    sender = load.Load(server.port, list(queries()), options.rate / 2)
    other = multiprocessing.Process(target=by_tcp, args=(server.port, options.rate / 2, stop, phases, results))
    other.start()
    shell = live.Shell(sender.step)
    sender.run(time.monotonic() + WARM_UP)
    begin, reports, times = time.monotonic(), [], {}
    sender.run(begin + options.take_overs * (PAUSE + 2.0))
    times["control"] = (begin, time.monotonic())
    processes = [server.pid]
    begin = time.monotonic()
    for _ in range(options.take_overs):
        text = shell.run(*server.command("upgrade", "--json"))
        report = json.loads(text[text.index("{") :])["upgraded"]
        reports.append(report)
        processes.append(report["process"])
        sender.run(time.monotonic() + PAUSE)
    times["take-overs"] = (begin, time.monotonic())
    sender.run(time.monotonic() + 0.2)
    stop.set()
    sender.drain()
    phases.put(times)
    tcp = results.get()
    other.join()
    shell.end()
    udp = {name: sender.figures(sender.between(*times[name])) for name in times}
    status = server.status()
    if status["pid"] != processes[-1]:
        raise live.Failure(f"process {status['pid']} serves instead of {processes[-1]}")
    result = {"take_overs": reports, "udp": udp, "tcp": tcp, "wrong_by_udp": sender.wrongs, "pid": processes[-1]}
    lost = sender.lost(range(len(sender.sent)))
    failures = [f"{lost} queries lost by UDP"] if lost else []
    failures += [f"{tcp['lost']} queries lost by TCP"] if tcp["lost"] else []
    failures += [f"{tcp['wrong']} wrong answers by TCP"] if tcp["wrong"] else []
    failures += [tcp["failure"]] if tcp["failure"] else []
    failures += sender.wrongs
    for way, parts in ("UDP", udp), ("TCP", tcp["phases"]):
        silence, control = (parts[name]["longest_silence_ms"] for name in ("take-overs", "control"))
        if silence > options.longest:
            failures.append(f"no answer by {way} for {silence} ms (control: {control} ms)")
        live.say(f"{way}: longest silence {silence} ms, control {control} ms")
    return result, failures


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--take-overs", type=int, default=5)
    arguments.add_argument("--rate", type=int, default=20000, help="queries per second")
    arguments.add_argument("--longest", type=float, default=20.0, help="the longest silence, in ms")
    arguments.add_argument("--workers", type=int, default=0, help="of the server; 0: one per core")
    options = arguments.parse_args()
    with live.workshop("take-over") as folder, upstream.Upstream(folder, ttl=3600) as above:
        listed = os.path.join(folder, "listed.txt")
        live.write_names(listed, [f"n{number}.listed.example" for number in range(NAMES)])
        lists = [{"name": "listed", "path": listed}]
        with live.Tapis(options.binary, folder, above.port, lists, options.workers) as server:
            server.wait()
            result = {"tool": "take_over", "options": vars(options)}
            figures, failures = measure(server, options)
            os.kill(figures["pid"], signal.SIGTERM)
    live.finish(result | figures, failures)


if __name__ == "__main__":
    main()
