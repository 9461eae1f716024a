#!/usr/bin/env -S python3 -B
"""An upstream server on 127.0.0.9, or on the given address: answers every name with 192.0.2.1. For tests of packages."""

import socket
import sys

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((sys.argv[1] if len(sys.argv) > 1 else "127.0.0.9", 53))
while True:
    query, client = server.recvfrom(4096)
    end = 12
    while query[end]:
        end += query[end] + 1
    question = query[12 : end + 5]
    counts = b"\x00\x01\x00\x01\x00\x00\x00\x00"
    answer = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x01"
    server.sendto(query[:2] + b"\x81\x80" + counts + question + answer, client)
