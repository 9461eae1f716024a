"""DNS in wire form for the tools: queries, parsed answers, single exchanges."""

import contextlib
import socket
import struct
import time

A, NS, SOA, PTR, MX, TXT, AAAA, OPT, HTTPS, ANY = 1, 2, 6, 12, 15, 16, 28, 41, 65, 255
LOOPBACK = "127.0.0.1"
# The upstream's answer for every name, and the sinkhole's: never the same.
TRUE_A, TRUE_AAAA, TRUE_TXT = "192.0.2.1", "2001:db8::1", "upstream"
TRUE_RDATA = {
    A: socket.inet_aton(TRUE_A),
    AAAA: socket.inet_pton(socket.AF_INET6, TRUE_AAAA),
    TXT: bytes([len(TRUE_TXT)]) + TRUE_TXT.encode(),
}
SINK_RDATA = {A: bytes(4), AAAA: bytes(16)}
BLOCK_TTL = 60


def wire_name(name):
    labels = [label for label in name.encode().split(b".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def query(name, rtype=A, ident=0, edns=False, rd=True, rclass=1):
    opt = struct.pack(">BHHIH", 0, OPT, 1232, 0, 0) if edns else b""
    header = struct.pack(">6H", ident, 0x0100 if rd else 0, 1, 0, 0, 1 if edns else 0)
    return header + wire_name(name) + struct.pack(">HH", rtype, rclass) + opt


def skip_name(packet, at):
    while True:
        length = packet[at]
        if length >= 0xC0:
            return at + 2
        at += 1 + length
        if not length:
            return at


def read(reply):
    """rcode and the records after the question: (section 0 to 2, type, TTL, RDATA)."""
    counts = struct.unpack_from(">4H", reply, 4)
    at = 12
    for _ in range(counts[0]):
        at = skip_name(reply, at) + 4
    records = []
    for section, count in enumerate(counts[1:]):
        for _ in range(count):
            at = skip_name(reply, at)
            rtype, _rclass, ttl, length = struct.unpack_from(">HHIH", reply, at)
            at += 10
            records.append((section, rtype, ttl, reply[at : at + length]))
            at += length
    if at != len(reply):
        raise ValueError(f"{len(reply) - at} bytes after the last record")
    return reply[3] & 15, records


def classify(reply, rtype, block_ttl=BLOCK_TTL):
    """("blocked", generation or None), ("true", None), or ("wrong", what it is)."""
    try:
        rcode, records = read(reply)
    except (IndexError, struct.error, ValueError) as error:
        return "wrong", f"unreadable: {error}"
    answers = [r for r in records if r[0] == 0]
    if rcode or not reply[2] & 0x80 or reply[2] & 0x02:
        return "wrong", f"rcode {rcode}, flags {reply[2]:02x}{reply[3]:02x}"
    if not answers:
        serials = [r[3][-20:-16] for r in records if r[0] == 1 and r[1] == SOA]
        if rtype not in SINK_RDATA and len(serials) == 1:
            return "blocked", int.from_bytes(serials[0], "big")
    elif len(answers) == 1 and answers[0][1] == rtype:
        _section, _rtype, ttl, rdata = answers[0]
        if rdata == TRUE_RDATA.get(rtype):
            return "true", None
        if rdata == SINK_RDATA.get(rtype) and block_ttl in (ttl, None):
            return "blocked", None
    return "wrong", f"records {records}"


def udp_socket():
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.bind((LOOPBACK, 0))
    with contextlib.suppress(OSError):
        client.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
    return client


def ask(port, packet, timeout=2.0, client=None):
    """The answer to one packet by UDP; None without an answer in time."""
    with contextlib.ExitStack() as stack:
        client = client or stack.enter_context(udp_socket())
        client.settimeout(timeout)
        client.sendto(packet, (LOOPBACK, port))
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            client.settimeout(left)
            try:
                reply = client.recv(65535)
            except (TimeoutError, ConnectionRefusedError):
                return None
            if reply[:2] == packet[:2]:
                return reply
    return None
