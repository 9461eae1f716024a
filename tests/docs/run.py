#!/usr/bin/env -S python3 -B
"""Runs the commands of the documentation as a reader pastes them, and compares what they print.

    tests/docs/run.py [--binary target/debug/tapis] [--verbose] [FILE ...]

Of each Markdown file (README.md and docs/*.md if none is given) all `console` and `sh` blocks are
run in order, by one shell, in a copy of the repository. In a `console` block a line that begins with
"$ " is a command, lines that begin with "> " continue it, and what follows is the output that the
reader is promised; "..." as a line stands for any lines. In a `sh` block each line is a command
without a promise. A block without a language is no command, and must not look like one.

The shell runs in network and mount namespaces of its own: port 53 and 5335 are free there, and /etc,
/var/lib, /srv and /run are copies or empty. A name server for all names answers on the address that
/etc/resolv.conf has. A server in the foreground, which a reader would have in another terminal, runs
in the background until the next one is started, as Ctrl-C would end it. Figures that differ from run
to run are masked: see MASKS. Commands that build the program are replaced by the built one.

An HTML comment before a block says what Markdown does not show:

    <!-- docs: skip, REASON -->     the block is not run
    <!-- docs: exit N -->           its last command ends with this exit code, not 0

Needs Linux, unshare, ip, nsd, bash, dig; root or user namespaces. Exits with 1 if anything differs.
"""

import argparse
import os
import pathlib
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
RESOLVER = "192.0.2.53"
# How long the output of a command may take to become what is promised: an edit counts within a second.
PATIENCE = 5
LIMIT = 20

ZONE = """$ORIGIN .
$TTL 60
. SOA ns.upstream.invalid. hostmaster.upstream.invalid. 1 3600 900 86400 60
. NS ns.upstream.invalid.
* A 192.0.2.9
* AAAA 2001:db8::9
"""
NSD = """server:
  ip-address: {address}@53
  zonesdir: "{folder}"
  database: ""
  zonelistfile: "{folder}/zone.list"
  xfrdfile: "{folder}/xfrd.state"
  xfrdir: "{folder}"
  pidfile: ""
  username: ""
  server-count: 1
  rrl-ratelimit: 0
remote-control:
  control-enable: no
zone:
  name: "."
  zonefile: "root.zone"
"""

# What differs from run to run, and what stands in its place.
MASKS = [
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "INSTANT"),
    (r"WHEN: .*", "WHEN: ..."),
    (r"\bid: \d+", "id: N"),
    (r"\bDiG \S+", "DiG VERSION"),
    (r"Query time: \d+", "Query time: N"),
    (r"MSG SIZE  rcvd: \d+", "MSG SIZE  rcvd: N"),
    (r"\bprocess \d+", "process N"),
    (r"\b\d+(\.\d+)? (ms|µs|s)\b", "DURATION"),
    (r"\b[0-9a-f]{64}\b", "HASH"),
    (r"\b\d+ (bytes|octets)\b", "N bytes"),
    (r"\buser \d+", "user N"),
    (r"[ \t]+", " "),
]
# The fields of an order's template that a person fills in.
EDITOR = """#!/bin/bash
sed -i -e 's/^\\(name\\|how\\) = "\\.\\.\\."/\\1 = "An example"/' -e 's/^en = "\\.\\.\\."/en = "An example"/' \\
  -e 's/^legal-basis = .*/legal-basis = ["An example"]/' "$@"
"""
# Replaces what builds the program; anything else that cargo could do is a mistake in the documentation.
SHIMS = """
cargo() {
  case "$*" in
    "run --release") target/release/tapis ;;
    "install --path . --locked") mkdir -p ~/.cargo/bin && cp target/release/tapis ~/.cargo/bin/ ;;
    "build --release" | test) : ;;
    *) echo "no shim for: cargo $*" >&2; return 1 ;;
  esac
}
sudo() { "$@"; }
export EDITOR
"""


class Command:
    """A command of a block, and what it is said to print."""

    def __init__(self, place, text):
        self.place, self.text, self.promise, self.exit = place, text, [], 0

    def is_server(self):
        return re.match(r"(sudo )?(tapis( serve\b.*)?|cargo run --release)\s*(#.*)?$", self.text)


def commands(path):
    """All commands of a Markdown file, and complaints about blocks that can't be run."""
    found, wrong = [], []
    block, note, start = None, "", 0
    for number, line in enumerate(path.read_text().splitlines(), 1):
        place = f"{path.relative_to(ROOT)}:{number}"
        fence = re.match(r"\s*```(\w*)", line)
        if block is None and fence:
            block, start, mine = fence[1], number, []
        elif block is not None and fence:
            if note.startswith("exit ") and mine:
                mine[-1].exit = int(note.split()[1])
            if not note.startswith("skip, "):
                found += mine
            block, note = None, ""
        elif block is None:
            if comment := re.match(r"<!-- docs: (.*) -->$", line):
                note = comment[1]
            elif re.match(r"    +(\$ |tapis |dig |sudo )", line):
                wrong.append(f"{place}: a command outside of a console block")
        elif block == "console" and line.startswith("$ "):
            mine.append(Command(place, line[2:]))
        elif block == "console" and line.startswith("> ") and mine and not mine[-1].promise:
            mine[-1].text += "\n" + line[2:]
        elif block == "console" and mine:
            mine[-1].promise.append(line)
        elif block == "console":
            wrong.append(f"{place}: output before the first command")
        elif block == "sh" and line.strip():
            command = Command(place, line)
            command.promise = None
            mine.append(command)
        elif block == "" and re.match(r"(\$ |tapis )", line):
            wrong.append(f"{place}: a command outside of a console block")
    return found, wrong


def masked(lines):
    text = "\n".join(line.rstrip() for line in lines).strip("\n")
    for pattern, instead in MASKS:
        text = re.sub(pattern, instead, text)
    return text


def matches(promise, printed):
    """Whether the output is what is promised; "..." as a line stands for any lines."""
    pattern = re.escape(masked(promise)).replace(r"\ ", " ")
    pattern = re.sub(r"(^|\n)\\\.\\\.\\\.(?=\n|$)", r"\1(?:.*\\n)*?.*", pattern)
    return re.fullmatch(pattern, masked(printed)) is not None


class Shell:
    """A bash that runs one command after the other, and a server beside it."""

    def __init__(self, home):
        self.home, self.server = home, None
        environment = {
            "HOME": str(home), "PATH": f"{home}/.cargo/bin:{os.environ['PATH']}:/usr/sbin:/sbin",
            "LANG": "C.UTF-8", "TERM": "dumb", "EDITOR": str(home / "editor"), "TMPDIR": str(home),
        }
        self.environment = environment
        self.begin(home / "tapis")

    def begin(self, where):
        """A new shell."""
        self.child = subprocess.Popen(
            ["bash", "--norc", "--noprofile"], cwd=where, env=self.environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        self.run(SHIMS)

    def run(self, text):
        """The lines that a command prints, and its exit code."""
        mark = f"-- {time.monotonic_ns()} --"
        self.child.stdin.write(f"{text}\ncode=$?; echo; echo '{mark}' $code\n".encode())
        self.child.stdin.flush()
        printed, end = b"", time.monotonic() + LIMIT
        while True:
            ready, _, _ = select.select([self.child.stdout], [], [], max(0, end - time.monotonic()))
            chunk = os.read(self.child.stdout.fileno(), 65536) if ready else b""
            if not chunk:
                # It may wait for the end of its input for ever.
                self.end()
                self.begin(self.home / "tapis")
                raise TimeoutError(printed.decode(errors="replace"))
            printed += chunk
            if done := re.search(rb"\n" + mark.encode() + rb" (\d+)\n$", printed):
                return printed[: done.start()].decode().splitlines(), int(done[1])

    def end(self):
        self.child.kill()
        self.child.wait()

    def serve(self, text):
        """Starts a server in the foreground of another terminal; the one before is ended first."""
        self.stop()
        where, _ = self.run("pwd")
        log = self.home / "server.log"
        with log.open("w") as out:
            self.server = subprocess.Popen(
                ["bash", "--norc", "-c", f"{SHIMS}\n{text}"], cwd=where[0], env=self.environment,
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )
        end = time.monotonic() + LIMIT
        while "serving address=" not in log.read_text():
            if self.server.poll() is not None or time.monotonic() > end:
                return log.read_text().splitlines(), 1
            time.sleep(0.02)
        return [], 0

    def stop(self):
        if self.server and self.server.poll() is None:
            os.killpg(self.server.pid, signal.SIGINT)
            self.server.wait(LIMIT)
        self.server = None


def check(shell, command):
    """A complaint if a command does not do what is promised."""
    if command.is_server():
        printed, code = shell.serve(command.text)
        return None if code == 0 else ("does not serve", printed)
    end = time.monotonic() + PATIENCE
    is_reading = re.match(r"(dig|tapis (status|why|order|journal|diff|image|check))\b", command.text)
    while True:
        try:
            printed, code = shell.run(command.text)
        except TimeoutError as early:
            return "does not end", str(early).splitlines()
        is_right = command.promise is None or matches(command.promise, printed)
        if is_right and code == command.exit:
            return None
        if not is_reading or time.monotonic() > end:
            said = f"exit code {code}, not {command.exit}" if is_right else "prints something else"
            return said, printed
        time.sleep(0.05)


def run(path, binary, verbose):
    """Runs one file in a folder of its own; how many of its commands are wrong."""
    found, wrong = commands(path)
    for complaint in wrong:
        print(complaint)
    with tempfile.TemporaryDirectory() as folder:
        home = pathlib.Path(folder)
        listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                                cwd=ROOT, capture_output=True, check=True).stdout
        for name in filter(None, listed.decode().split("\0")):
            if name.split("/")[0] in ("config", "blocklists", "docs") or "/" not in name:
                (home / "tapis" / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, home / "tapis" / name)
        (home / "tapis/target/release").mkdir(parents=True)
        shutil.copy(binary, home / "tapis/target/release/tapis")
        (home / "editor").write_text(EDITOR)
        (home / "editor").chmod(0o755)
        shell = Shell(home)
        try:
            for command in found:
                complaint = check(shell, command)
                if verbose or complaint:
                    print(f"{command.place}: {'wrong' if complaint else 'good'}: {command.text}")
                if complaint:
                    wrong.append(complaint)
                    said, printed = complaint
                    print(f"  {said}")
                    print("\n".join(f"  promised | {line}" for line in command.promise or []))
                    print("\n".join(f"  printed  | {line}" for line in printed))
        finally:
            shell.stop()
            shell.end()
    print(f"{path.relative_to(ROOT)}: {len(found)} commands, {len(wrong)} wrong")
    return len(wrong)


def prepare(folder):
    """Inside the namespaces: the loopback, copies of the folders that commands write to, upstream."""
    def do(*words):
        subprocess.run(words, check=True)

    do("ip", "link", "set", "lo", "up")
    do("ip", "address", "add", f"{RESOLVER}/32", "dev", "lo")
    do("mount", "--make-rprivate", "/")
    shutil.copytree("/etc", folder / "etc", symlinks=True, ignore_dangling_symlinks=True)
    (folder / "etc/resolv.conf").unlink(missing_ok=True)
    (folder / "etc/resolv.conf").write_text(f"nameserver {RESOLVER}\n")
    do("mount", "--bind", str(folder / "etc"), "/etc")
    for empty in ("/var/lib", "/srv", "/run"):
        do("mount", "-t", "tmpfs", "docs", empty)
    (folder / "root.zone").write_text(ZONE)
    (folder / "nsd.conf").write_text(NSD.format(address=RESOLVER, folder=folder))
    upstream = subprocess.Popen([shutil.which("nsd", path=os.environ["PATH"] + ":/usr/sbin"), "-d", "-c",
                                 str(folder / "nsd.conf")], stderr=subprocess.DEVNULL)
    probe = ["dig", f"@{RESOLVER}", "+tries=1", "+time=1", "+short", "probe.example"]
    for _ in range(100):
        if b"192.0.2.9" in subprocess.run(probe, capture_output=True, check=False).stdout:
            return upstream
        time.sleep(0.1)
    sys.exit("the upstream server does not answer")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--binary", default="target/debug/tapis", help="the program (default: %(default)s)")
    arguments.add_argument("--verbose", action="store_true", help="print each command")
    arguments.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments.add_argument("files", nargs="*")
    given = arguments.parse_args()
    if not given.inside:
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        words = ["unshare", *user, "--net", "--mount", "--pid", "--fork", "--kill-child", sys.executable, "-B"]
        os.execvp(words[0], [*words, __file__, "--inside", *sys.argv[1:]])
    paths = [pathlib.Path(file).resolve() for file in given.files]
    paths = paths or [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    with tempfile.TemporaryDirectory() as folder:
        upstream = prepare(pathlib.Path(folder))
        try:
            wrong = sum(run(path, pathlib.Path(given.binary).resolve(), given.verbose) for path in paths)
        finally:
            upstream.kill()
            upstream.wait()
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
