#!/usr/bin/env python3
"""Asks the server on 127.0.0.1 by UDP and TCP at a steady rate, until the file `stop` appears. Prints what was lost.

Each query by UDP has half a minute, and is not repeated. TCP queries go over one connection, and over one each. An answer
that is not the upstream's address is as good as none.
"""
import os
import socket
import struct
import threading
import time

RATE = 200
# In seconds. A busy machine answers late, which is no loss.
PATIENCE = 30
# The answer of upstream.py.
ADDRESS = socket.inet_aton("192.0.2.1")


def query(number, name):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack(">6H", number & 0xFFFF, 0x0100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1"


def is_right(asked, reply):
    """Whether a reply has the same ID and question, no error, and only the upstream's address."""
    record = reply[len(asked) :]
    return (
        reply[:2] == asked[:2]
        and reply[2] & 0x82 == 0x80
        and reply[3] & 15 == 0
        and struct.unpack(">4H", reply[4:12]) == (1, 1, 0, 0)
        and reply[12 : len(asked)] == asked[12:]
        and record[:6] == b"\xc0\x0c\0\1\0\1"
        and record[10:] == b"\0\4" + ADDRESS
    )


def by_udp(number, kept):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.connect(("127.0.0.1", 53))
        asked = query(number, f"u{number}.example")
        client.send(asked)
        return is_right(asked, client.recv(4096))


def ask(stream, message):
    stream.sendall(struct.pack(">H", len(message)) + message)
    length = struct.unpack(">H", stream.recv(2, socket.MSG_WAITALL))[0]
    return is_right(message, stream.recv(length, socket.MSG_WAITALL))


def by_tcp(number, kept):
    with socket.create_connection(("127.0.0.1", 53), PATIENCE) as stream:
        return ask(stream, query(number, f"t{number}.example"))


def by_one_connection(number, kept):
    if not kept:
        kept.append(socket.create_connection(("127.0.0.1", 53), PATIENCE))
    return ask(kept[0], query(number, f"k{number}.example"))


def run(way, results):
    number, kept, lost, longest = 0, [], 0, 0.0
    while not os.path.exists("stop"):
        start = time.monotonic()
        try:
            is_answered = way(number, kept)
        except (OSError, IndexError, struct.error):
            is_answered = False
            kept.clear()
        took = time.monotonic() - start
        longest, lost, number = max(longest, took), lost + (not is_answered), number + 1
        time.sleep(max(0, 1 / RATE - took))
    results[way.__name__] = (number, lost, longest)


results = {}
threads = [threading.Thread(target=run, args=(way, results)) for way in (by_udp, by_tcp, by_one_connection)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for way, (asked, lost, longest) in sorted(results.items()):
    print(f"{way}: {asked} queries, {lost} lost, the longest took {longest * 1000:.0f} ms")
raise SystemExit(any(lost for _, lost, _ in results.values()))
