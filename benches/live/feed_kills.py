#!/usr/bin/env -S python3 -B
"""Kills while a feed is transferred: does each restart serve the last good version, and go on from there?

    benches/live/feed_kills.py --binary target/release/tapis [--kills 30] [--names-count 300000]

Knot DNS is the primary of a policy zone. Its version N has the name stateN.feed.kills.example, names that never
change, and two blocks of names that some versions replace. Each round makes a new version and has it transferred in one
of four ways: few or many changes (IXFR), a whole zone (AXFR) that is compared with the version in force, or one that
differs too much for this and is compiled. The server is ended by SIGKILL at a random moment: during the transfer, while
the compiler runs, while the version comes into force, or while it is saved. Then it is started again with the same
state directory, while the primary is paused.

Checks: the restart serves from the saved images, with none rejected; exactly one version is in force, the one of the
reported serial, with the blocks of this version and no others; it is the previous version or the new one, and the new
one if that was saved before the kill; neither the compiler nor the file of the transfer is left; and when the primary
goes on, the newest version comes into force, and no name of an earlier one is blocked. Exit code 1 if a check fails.
"""

import argparse
import collections
import contextlib
import glob
import os
import random
import signal
import subprocess
import time

import dns
import kills
import knot
import live
import upstream

FEED, ZONE, NXDOMAIN = "feed", "feed.test", 3
FAR = 10  # this many versions are asked for besides the newest one
SPAN = 1.6  # the longest time until a kill, as a multiple of the time until a version was saved
SAMPLE = 10  # names of each block
BLOCKS = FIXED, MANY, MOST = "fixed", "many", "most"
SHARES = {FIXED: 0.3, MANY: 0.1, MOST: 0.6}
# What each way replaces besides the marker, and whether it asks for the whole zone.
WAYS = {
    "few changes": (None, False),
    "many changes": (MANY, False),
    "whole zone, compared": (None, True),
    "whole zone, compiled": (MOST, True),
}
SECTION = """[[feed]]
name = "{feed}"
zone = "{zone}"
primaries = ["{host}:{port}"]
retry-secs = 5
"""


class Primary(knot.Knot):
    """Knot DNS with version 1 of the zone. The serial is the number of the version."""

    def __init__(self, folder, count):
        self.folder, self.version = folder, 1
        self.sizes = {block: int(count * share) for block, share in SHARES.items()}
        self.blocks = {1: {block: 1 for block in BLOCKS}}  # for each version, which of each block it has
        self.write()
        super().__init__(folder, ZONE, "difference")
        self.wait_for(lambda: self.serial() == 1, pause=0.05)

    def write(self):
        knot.write(self.folder, ZONE, self.version, self.lines())

    def lines(self):
        yield f"{marker(self.version)} CNAME .\n"
        for block, number in self.blocks[self.version].items():
            yield from (f"{site(block, number, at)} CNAME .\n" for at in range(self.sizes[block]))

    def change(self, block=None):
        """Makes the next version, in which the names of a block are replaced."""
        old, self.version = self.version, self.version + 1
        self.blocks[self.version] = dict(self.blocks[old])
        if block:
            self.blocks[self.version][block] = self.version
            self.write()
            self.control("-b", "zone-reload", ZONE)
        else:
            self.control("zone-begin", ZONE)
            self.control("zone-unset", ZONE, f"{marker(old)}.{ZONE}.", "CNAME")
            self.control("zone-set", ZONE, f"{marker(self.version)}.{ZONE}.", "60", "CNAME", ".")
            self.control("zone-commit", ZONE)
        if self.serial() != self.version:
            raise live.Failure(f"Knot DNS has serial {self.serial()} in place of {self.version}")

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)


class Server(kills.Server):
    """A server whose only source is the feed."""

    def __init__(self, binary, folder, upstream_port, primary):
        self.feed = SECTION.format(feed=FEED, zone=ZONE, host=dns.LOOPBACK, port=primary.port)
        super().__init__(binary, folder, upstream_port, [])

    def write_config(self, sections):
        return super().write_config([*sections, self.feed])

    def refresh(self, is_whole):
        """A process that has the primary asked; it fails if the server is killed meanwhile."""
        verb = ["feed", "refresh", FEED, "--no-wait"] + (["--whole"] if is_whole else [])
        return subprocess.Popen(self.command(*verb), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def serial(self):
        status = self.status()
        return status["feeds"][0]["serial"] if status else None

    def transfers(self):
        """The files of transfers."""
        return glob.glob(os.path.join(self.state_dir, "transfer.tmp-*"))


class Client(kills.Client):
    def is_block(self, reply):
        return dns.read(reply)[0] == NXDOMAIN

    def versions(self, newest):
        """The versions in force, of the last few."""
        return [n for n in range(max(1, newest - FAR), newest + 1) if self.blocked(marker(n))]

    def wrong(self, primary, version, chance):
        """Names of blocks whose answers are not those of a version."""
        wrong, newest = [], primary.version
        for block, number in primary.blocks[version].items():
            for other in {number} | {primary.blocks[near][block] for near in range(max(1, newest - FAR), newest + 1)}:
                for at in chance.sample(range(primary.sizes[block]), SAMPLE):
                    name = site(block, other, at)
                    if self.blocked(name) is not (other == number):
                        wrong.append(name)
        return wrong


def site(block, number, at):
    return f"site{at}.{block}{number}.kills.example"


def marker(version):
    return kills.marker(FEED, version)


def is_running(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as command:
            return b"--plan" in command.read()
    except OSError:
        return False


class Round:
    """What one kill met."""

    def __init__(self, server, client, version):
        """Kills the server. Before that it is stopped, so that all of this is the state at one moment."""
        self.was_in_force = client.blocked(marker(version), 0.2)
        server.process.send_signal(signal.SIGSTOP)
        self.compilers = [pid for pid in live.family(server.pid) if pid != server.pid]
        self.kept, self.transfers = server.kept_lists(), server.transfers()
        server.kill()

    def moment(self, before):
        """The name of the moment; `before` identifies the lists that had been saved when the round began."""
        if self.compilers:
            return "while it was compiled"
        if self.transfers:
            return "while it was written to a file"
        if self.kept != before:
            return "after it was saved"
        return "in force, not saved" if self.was_in_force else "otherwise before it was in force"


def check_restart(server, client, primary, met, before, chance, failures, label):
    """Checks a restarted server that can't reach the primary; returns the version in force."""
    if client.blocked("none.kills.example", 20.0) is None:
        raise live.Failure(f"no answer after a restart:\n{server.tail()}")
    server.wait()
    began, found = server.began(), client.versions(primary.version)
    if "kept images are in force" not in began or "kept image refused" in began:
        failures.append(f"{label}: not served from the saved images")
    old, new = primary.version - 1, primary.version
    possible = [new] if met.kept != before else [old, new]
    if len(found) != 1 or found[0] not in possible:
        failures.append(f"{label}: versions {found} are in force, possible are {possible}")
    if [server.serial()] != found:
        failures.append(f"{label}: serial {server.serial()} is reported, versions {found} are in force")
    for version in found:
        wrong = client.wrong(primary, version, chance)
        failures.extend(f"{label}: {name} is not as in version {version}" for name in wrong)
    if left := server.transfers():
        failures.append(f"{label}: files are left: {left}")
    end = time.monotonic() + 2  # a compiler that was just starting notices that its server is gone
    while any(map(is_running, met.compilers)) and time.monotonic() < end:
        time.sleep(0.01)
    if any(map(is_running, met.compilers)):
        failures.append(f"{label}: a compiler is left over")
    return found


def settle(server, client, version, patience=180.0):
    """Waits until a version is in force and saved; returns the seconds."""
    start = time.monotonic()
    while not (client.blocked(marker(version)) and server.kept() == server.status()["generation"]):
        if time.monotonic() > start + patience or not server.alive():
            raise live.Failure(f"version {version} is not in force and saved after {patience} s:\n{server.tail()}")
        time.sleep(0.02)
    return time.monotonic() - start


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--kills", type=int, default=30)
    arguments.add_argument("--names-count", type=int, default=300_000, help="over 1 MiB, the zone is compiled")
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()
    chance = random.Random(options.seed)
    failures, moments, lengths, lost = [], collections.Counter(), {}, 0
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(live.workshop("feed_kills"))
        above = stack.enter_context(upstream.Upstream(folder))
        primary = stack.enter_context(Primary(folder, options.names_count))

        def serve():
            server = Server(options.binary, folder, above.port, primary)
            return server, Client(server.port)

        def check_newest(server, client, label):
            settle(server, client, primary.version)
            version, found = primary.version, client.versions(primary.version)
            if found != [version] or server.serial() != version:
                failures.append(f"{label}: versions {found} and serial {server.serial()}, the newest is {version}")
            wrong = client.wrong(primary, version, chance)
            failures.extend(f"{label}: {name} is not as in the newest version {version}" for name in wrong)

        server, client = serve()
        with server:
            server.wait()
            settle(server, client, 1)
            for way, (block, is_whole) in WAYS.items():
                primary.change(block)
                start = time.monotonic()
                if server.refresh(is_whole).wait():
                    raise live.Failure(f"the refresh failed:\n{server.tail()}")
                settle(server, client, primary.version)
                lengths[way] = time.monotonic() - start
        for at in range(options.kills):
            way = list(WAYS)[at % len(WAYS)]
            block, is_whole = WAYS[way]
            server, client = serve()
            with server:
                server.wait()
                settle(server, client, primary.version)
                before = server.kept_lists()
                primary.change(block)
                refresh = server.refresh(is_whole)
                time.sleep(chance.random() * lengths[way] * SPAN)
                met = Round(server, client, primary.version)
                refresh.wait()
            label, moment = f"kill {at + 1} ({way})", met.moment(before)
            moments[f"{way}: {moment}"] += 1
            primary.pause()
            server, client = serve()
            with server:
                found = check_restart(server, client, primary, met, before, chance, failures, label)
                lost += bool(met.was_in_force) and found == [primary.version - 1]
                primary.go_on()
                check_newest(server, client, label)
            live.say(f"{label}: {moment}; version {found} of {primary.version} after the restart")
    result = {"tool": "feed_kills", "options": vars(options), "kills": options.kills}
    result["moments"] = dict(sorted(moments.items()))
    result["refresh_to_saved_s"] = {way: round(length, 3) for way, length in lengths.items()}
    result["in_force_but_not_saved"] = lost
    live.say(f"{options.kills} kills, {lost} of them before the version in force was saved, {len(failures)} faults")
    live.finish(result, failures)


if __name__ == "__main__":
    main()
