#!/usr/bin/env -S python3 -B
"""Checks the answers of the built-in default with dig.

    benches/live/builtin_default.py --binary target/release/tapis

Starts an upstream that answers every name, and `tapis serve --upstream ...` with the built-in
configuration and list on port 5335, which must be free. Then queries each of the eleven names for A,
AAAA, HTTPS, TXT and ANY, by UDP and by TCP, in lower and in mixed case, and names that are not
blocked. Each answer for a blocked name must be NOERROR with the sinkhole's addresses (A, AAAA, both
for ANY) or none (HTTPS, TXT), in the letter case of the query, with EDE 16.
Needs dig (bind9-dnsutils). Exit code 1 if any answer differs.
"""

import argparse
import collections
import json
import os
import re
import subprocess

import dns
import live
import upstream

NAMES = """t.me telegram.me telegram.org core.telegram.org desktop.telegram.org macos.telegram.org
web.telegram.org venus.web.telegram.org pluto.web.telegram.org flora.web.telegram.org
flora-1.web.telegram.org""".split()
OTHERS = ["api.telegram.org", "example.org", "t.me.example.org", "www.t.me"]
SINKHOLE = {"A": ["A 0.0.0.0"], "AAAA": ["AAAA ::"], "HTTPS": [], "TXT": []}
SINKHOLE["ANY"] = SINKHOLE["A"] + SINKHOLE["AAAA"]
UPSTREAM_ANSWERS = {
    "A": [f"A {dns.TRUE_A}"],
    "AAAA": [f"AAAA {dns.TRUE_AAAA}"],
    "TXT": [f'TXT "{dns.TRUE_TXT}"'],
    "HTTPS": [],
    "ANY": ['HINFO "RFC8482" ""'],
}
PORT = 5335


def mixed(name):
    return "".join(c.upper() if i % 2 else c for i, c in enumerate(name))


def dig(server, name, rtype, transport):
    """Parses the output of dig."""
    command = ["dig", f"@{server}", "-p", str(PORT), name, rtype, f"+{transport}"]
    command += ["+tries=1", "+time=3", "+nocookie"]
    text = subprocess.run(command, capture_output=True, text=True).stdout
    status = re.search(r"status: (\w+)", text)
    sections = {"ANSWER": [], "AUTHORITY": []}
    for title, block in re.findall(r";; (ANSWER|AUTHORITY) SECTION:\n((?:[^;\n].*\n)*)", text):
        sections[title] = [line.split() for line in block.splitlines()]
    answers = sections["ANSWER"]
    return {
        "status": status.group(1) if status else "none",
        "question": re.findall(r";; QUESTION SECTION:\n;(\S+)\.\s", text),
        "owners": sorted({line[0].rstrip(".") for line in answers}),
        "answers": sorted(" ".join([line[3], *line[4:]]) for line in answers),
        "ttls": sorted({line[1] for line in answers}),
        "authority": [line[3] for line in sections["AUTHORITY"]],
        "ede": re.findall(r"; EDE: (\d+)", text),
    }


def faults(got, name, want, blocked):
    if got["status"] != "NOERROR":
        yield f"status {got['status']}"
    if got["answers"] != sorted(want):
        yield f"answers {got['answers']}, not {want}"
    if got["question"] != [name]:
        yield f"question {got['question']}"
    if want and got["owners"] != [name]:
        yield f"owners {got['owners']}"
    if got["ede"] != (["16"] if blocked else []):
        yield f"EDE {got['ede']}"
    if blocked and want and got["ttls"] != [str(dns.BLOCK_TTL)]:
        yield f"TTLs {got['ttls']}"
    if blocked and not want and got["authority"] != ["SOA"]:
        yield f"authority {got['authority']}"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--binary", required=True)
    options = arguments.parse_args()
    failures, asked = [], collections.Counter()
    with live.workshop("builtin_default") as folder, upstream.Upstream(folder) as above:
        live.need("dig", "bind9-dnsutils")
        probe = dns.query("t.me", edns=True)
        if dns.ask(PORT, probe, 0.2):
            raise live.Failure(f"another server answers on port {PORT} already")
        command = [os.path.abspath(options.binary), "serve", "--upstream", f"{dns.LOOPBACK}:{above.port}"]
        with live.Child(command, os.path.join(folder, "tapis.log")) as server:
            started = server.wait_for(lambda: dns.ask(PORT, probe, 0.1), 20)
            cases = [(n, r, SINKHOLE[r], True) for n in NAMES for r in SINKHOLE]
            cases += [(n, r, UPSTREAM_ANSWERS[r], False) for n in OTHERS for r in UPSTREAM_ANSWERS]
            for name, rtype, want, blocked in cases:
                for transport in ("notcp", "tcp"):
                    for spelling in (name, mixed(name)):
                        got = dig(dns.LOOPBACK, spelling, rtype, transport)
                        wrong = list(faults(got, spelling, want, blocked))
                        asked["blocked" if blocked else "from upstream"] += 1
                        failures += [f"{spelling} {rtype} {transport}: {fault}" for fault in wrong]
            if not server.alive():
                failures.append(f"the server ended:\n{server.tail()}")
    live.say(f"{sum(asked.values())} queries by dig: {json.dumps(asked)}, {len(failures)} faults")
    live.finish({"tool": "builtin_default", "asked": asked, "seconds_to_first_answer": round(started, 3)}, failures)


if __name__ == "__main__":
    main()
