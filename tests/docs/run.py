#!/usr/bin/env -S python3 -B
"""Runs the commands of the documentation as a reader would paste them, and compares their output.

    tests/docs/run.py [--binary target/debug/tapis] [--verbose] [--rewrite] [FILE ...]

In each Markdown file (README.md and docs/*.md by default) all `console` and `sh` blocks are run in
order, by one shell, in a copy of the repository. In a `console` block a line that begins with "$ " is
a command, lines that begin with "> " continue it, and the lines below are its expected output; a line
"..." matches any lines. In a `sh` block each line, or here-document, is a command whose output is not
compared. Other blocks are not run, and must not look like commands.

The shell runs in network and mount namespaces: ports 53 and 5335 are free there, and /etc, /var/lib,
/srv and /run are copies or empty. A name server for all names answers on the address in
/etc/resolv.conf. A reader runs a server in the foreground of another terminal. Here it runs in the background
until a sentence says "Stop ... Ctrl-C", both words on one line. Figures that differ from run to run are
masked: see MASKS. Commands must remove what they write into the repository. Commands that build the program
are not run: the program that is already built is used. docs/guide.md has to install it before use; the other
files may use it at once. Links to files and headings of the repository are checked as well.

An HTML comment before a block has what Markdown cannot express:

    <!-- docs: skip, REASON -->     the block is not run, but its tool must have the options that it uses
    <!-- docs: exit N -->           its last command ends with this exit code, not 0

With --rewrite, outputs that differ are replaced in the files, unless they have a "..." line: read the
difference before you commit it.

Needs Linux, unshare, ip, nsd, bash, dig, git, openssl; root or user namespaces. Exits with 1 if anything differs.
"""

import argparse
import os
import pathlib
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
RESOLVER = "192.0.2.53"
# Files that must have commands: a fence that lost its language would not be noticed otherwise.
EXPECTED = ["README.md", "docs/benchmarks.md", "docs/coming-from.md", "docs/guard-rails.md", "docs/guide.md", "docs/journal.md",
            "docs/lists.md", "docs/operations.md", "docs/orders.md", "docs/rpz.md", "docs/trie.md", "docs/upstreams.md"]
# This file installs the program before it uses it.
INSTALLS = "guide.md"
# PATIENCE: seconds within which the output of a command must become the expected one; an edit comes into force
# within a second. LIMIT: the maximum run time of a command in seconds.
PATIENCE = 5
LIMIT = 20
# The beginning of lines that a reader would take for a command.
COMMAND = (r"\$ |(sudo|tapis|cargo|dig|git|apt-get|sysctl|systemctl|taskset|cp|mv|rm|cat|echo|sed|head|mkdir|export|"
           r"(benches|tests)/\S+\.py|target/release/tapis|[A-Z_]+=\S+) ")
LANGUAGES = ("console", "sh", "toml", "json", "text", "rust", "mermaid", "yaml", "")

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

# Text that differs from run to run, and its replacement.
MASKS = [
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "INSTANT"),
    (r"WHEN: .*", "WHEN: ..."),
    (r"\bid: \d+", "id: N"),
    (r"\bDiG \S+", "DiG VERSION"),
    (r"Query time: \d+", "Query time: N"),
    (r"MSG SIZE  rcvd: \d+", "MSG SIZE  rcvd: N"),
    (r"\bprocess \d+", "process N"),
    (r"\b\d+(\.\d+)? (ms|µs|s)\b", "DURATION"),
    (r"\b[0-9a-f]{64}\b|\b[0-9a-f]{16}\b", "HASH"),
    (r"\b\d+ bytes\b", "N bytes"),
    (r"\buser \d+", "user N"),
    (r"(?m)^\d+ (?=INSTANT)", "N "),
    (r"\b(1 (entry|answer)|(?!1 )\d+ (entries|answers))\b", "N of them"),
    (r"\b\d+ MB\b", "N MB"),
    (r"(?m)(^[a-z_]+: \d+$\n?)+", "COUNTERS\n"),
    (r"[ \t]+", " "),
]
# Fields of an order's template that a user fills in.
EDITOR = """#!/bin/bash
sed -i -e 's/^\\(name\\|how\\) = "\\.\\.\\."/\\1 = "An example"/' -e 's/^en = "\\.\\.\\."/en = "An example"/' \\
  -e 's/^legal-basis = .*/legal-basis = ["An example"]/' \\
  -e "s/^issued-at = .*/issued-at = $(date --utc --date='-1 day' +%FT%TZ)/" "$@"
"""
# Replaces the commands that build the program; any other use of cargo is a mistake in the
# documentation.
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
    """A command of a block, and its expected output."""

    def __init__(self, place, text):
        self.place, self.text, self.expected, self.exit = place, text, [], 0
        # The lines of the file with the output.
        self.first = self.last = self.indent = 0

    def is_server(self):
        return re.match(r"(sudo )?(tapis( serve\b.*)?|cargo run --release)\s*(#.*)?$", self.text)

    def is_stop(self):
        return self.text == ""


def stale(command):
    """A complaint if a command that is not run could not work: its tool, or an option of the tool, is missing."""
    words = shlex.split(command.text, comments=True)
    if tool := next((word for word in words if word.startswith("benches/")), None):
        if not (ROOT / tool).is_file():
            return f"{command.place}: there is no {tool}"
        text = subprocess.run([sys.executable, "-B", ROOT / tool, "--help"], capture_output=True, check=False).stdout
        known = set(re.findall(r"--[a-z-]+", text.decode()))
        unknown = [word for word in words if word.startswith("--") and word.split("=")[0] not in known]
        return f"{command.place}: {tool} has no option {unknown[0]}" if unknown else None
    bench = words[words.index("--bench") + 1] if "--bench" in words else None
    if bench and not (ROOT / f"benches/{bench}.rs").is_file():
        return f"{command.place}: there is no benchmark {bench}"
    return None


def prose(path):
    """The text of a Markdown file without its blocks."""
    return re.sub(r"(?ms)^ *```.*?^ *```$", "", path.read_text())


def anchors(path):
    """The anchors that GitHub makes of a file's headings."""
    headings = re.findall(r"(?m)^#+ (.*)$", prose(path))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(path):
    """A complaint for each link to a file or a heading that does not exist."""
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if "://" in link:
            continue
        if not target.exists():
            yield f"{path.relative_to(ROOT)}: there is no {name}"
        elif anchor and anchor not in anchors(target):
            yield f"{path.relative_to(ROOT)}: {target.name} has no heading for #{anchor}"


def commands(path):
    """All commands of a Markdown file, the number of skipped blocks, and complaints about the file."""
    found, wrong, skipped = [], list(dead_links(path)), 0
    block, note, indent, before = None, "", 0, ""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        place = f"{path.relative_to(ROOT)}:{number}"
        fence = re.match(r"(\s*)```(\w*)", line)
        if block is None and fence:
            block, indent, mine, until = fence[2], len(fence[1]), [], None
            if block not in LANGUAGES:
                wrong.append(f"{place}: a block of the language {block}; commands are for `console` or `sh`")
            if note and block not in ("console", "sh"):
                wrong.append(f"{place}: a note for the runner before a block that is not run")
        elif fence:
            if note.startswith("skip, "):
                skipped += 1
                wrong += filter(None, map(stale, mine))
            else:
                found += mine
            if note.startswith("exit ") and mine:
                mine[-1].exit = int(note.split()[1])
            if block in ("console", "sh") and not mine:
                wrong.append(f"{place}: the block has no command")
            block, note = None, ""
        elif block is None:
            if comment := re.match(r" *<!-- docs: (.*?) *-->$", line):
                note = comment[1]
                if not re.fullmatch(r"skip, .+|exit \d+", note):
                    wrong.append(f"{place}: not a note for the runner: {note}")
            elif re.match(r" {4,}", line) and re.match(COMMAND, line.strip()) and not before.strip():
                wrong.append(f"{place}: a command outside of a console block")
            elif re.search(r"\bStop\b.*\bCtrl-C\b", line):
                found.append(Command(place, ""))
        else:
            line = line[indent:]
            if block == "console" and line.startswith("$ "):
                mine.append(Command(place, line[2:]))
                mine[-1].first = mine[-1].last = number
                mine[-1].indent = indent
            elif block == "console" and line.startswith("> ") and mine and not mine[-1].expected:
                mine[-1].text += "\n" + line[2:]
                mine[-1].first = mine[-1].last = number
            elif block == "console" and line == ">" and mine and not mine[-1].expected:
                mine[-1].text += "\n"
                mine[-1].first = mine[-1].last = number
            elif block == "console" and mine:
                mine[-1].expected.append(line)
                mine[-1].last = number
            elif block == "console":
                wrong.append(f"{place}: output before the first command")
            elif block == "sh" and (until or line.strip()):
                if until:
                    mine[-1].text += "\n" + line
                    until = None if line == until else until
                else:
                    mine.append(Command(place, line))
                    mine[-1].expected = None
                    until = (re.search(r"<<'?(\w+)", line) or [None, None])[1]
            elif block in ("", "text") and re.match(COMMAND, line):
                wrong.append(f"{place}: a command outside of a console block")
        before = line
    if block is not None:
        wrong.append(f"{path.relative_to(ROOT)}: the last block has no end")
    if (is_expected := str(path.relative_to(ROOT)) in EXPECTED) != bool(found or skipped):
        wrong.append(f"{path.relative_to(ROOT)}: " + ("no command" if is_expected else "commands") + ": see EXPECTED")
    return found, skipped, wrong


def masked(lines):
    text = "\n".join(line.rstrip() for line in lines)
    for pattern, instead in MASKS:
        text = re.sub(pattern, instead, text)
    return text.strip("\n")


def matches(expected, printed):
    """Whether the output is the expected one; a line "..." matches any lines."""
    pattern = re.escape(masked(expected)).replace(r"\ ", " ")
    pattern = re.sub(r"(^|\n)\\\.\\\.\\\.(?=\n|$)", r"\1(?:.*\\n)*?.*", pattern)
    return re.fullmatch(pattern, masked(printed)) is not None


class Shell:
    """A bash that runs commands in sequence, and a server beside it."""

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
        """Runs a command; returns its output lines and exit code."""
        mark = f"-- {time.monotonic_ns()} --"
        # The exit code of the previous command is in "$?", as for a reader.
        self.child.stdin.write(f"(exit ${{code:-0}})\n{text}\ncode=$?; echo; echo '{mark}' $code\n".encode())
        self.child.stdin.flush()
        printed, end = b"", time.monotonic() + LIMIT
        while True:
            ready, _, _ = select.select([self.child.stdout], [], [], max(0, end - time.monotonic()))
            chunk = os.read(self.child.stdout.fileno(), 65536) if ready else b""
            if not chunk:
                # It may wait for input forever.
                self.end()
                self.begin(self.home / "tapis")
                raise TimeoutError(printed.decode(errors="replace"))
            printed += chunk
            if done := re.search(rb"\n" + mark.encode() + rb" (\d+)\n$", printed):
                text = printed[: done.start()].decode().replace(str(self.home), "/home/you")
                return text.splitlines(), int(done[1])

    def end(self):
        self.child.kill()
        self.child.wait()

    def serve(self, text):
        """Starts a server in the foreground of another terminal."""
        if self.server and self.server.poll() is None:
            return ["another server is running: no line says to stop it with Ctrl-C"], 1
        log = self.home / "server.log"
        with log.open("w") as out:
            self.server = subprocess.Popen(
                ["bash", "--norc", "-c", f"{SHIMS}\n{text}"], cwd=self.home / "tapis", env=self.environment,
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )
        end = time.monotonic() + LIMIT
        while "serving address=" not in log.read_text():
            if self.server.poll() is not None or time.monotonic() > end:
                return log.read_text().splitlines(), 1
            time.sleep(0.02)
        return log.read_text().splitlines(), 0

    def stop(self):
        if self.server and self.server.poll() is None:
            os.killpg(self.server.pid, signal.SIGINT)
            self.server.wait(LIMIT)
        self.server = None


def check(shell, command):
    """A complaint if a command differs from the file, and its output."""
    if command.is_stop():
        is_running = shell.server and shell.server.poll() is None
        shell.stop()
        return None if is_running else "no server runs that could be stopped", []
    if command.is_server():
        printed, code = shell.serve(command.text)
        if code == 0 and (not command.expected or matches(command.expected, printed)):
            return None, printed
        return "prints something else" if code == 0 else "does not serve", printed
    end = time.monotonic() + PATIENCE
    is_reading = re.match(r"(dig|tapis (status|why|order (list|show|report)|journal|diff|image|check))\b", command.text)
    while True:
        try:
            printed, code = shell.run(command.text)
        except TimeoutError as early:
            return "does not end", str(early).splitlines()
        is_right = command.expected is None or matches(command.expected, printed)
        if is_right and code == command.exit:
            return None, printed
        if not is_reading or time.monotonic() > end:
            return f"exit code {code}, not {command.exit}" if is_right else "prints something else", printed
        time.sleep(0.05)


def copy(home, binary, is_installed):
    """Copies the part of the repository that documented commands use, and the built program."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                            cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (name.split("/")[0] in ("config", "blocklists", "docs") or "/" not in name) and (ROOT / name).is_file():
            (home / "tapis" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, home / "tapis" / name)
    for folder in ["tapis/target/release"] + [".cargo/bin"] * is_installed:
        (home / folder).mkdir(parents=True)
        shutil.copy(binary, home / folder / "tapis")
    (home / "editor").write_text(EDITOR)
    (home / "editor").chmod(0o755)


def rewrite(path, printed):
    """Writes the changed outputs into the file, the last one first."""
    lines = path.read_text().splitlines()
    for command, output in reversed(printed):
        while output and not output[-1].strip():
            output.pop()
        lines[command.first:command.last] = [(" " * command.indent + line).rstrip() for line in output]
    path.write_text("\n".join(lines) + "\n")


def run(path, given):
    """Runs one file in a separate directory; returns the number of commands with complaints."""
    found, skipped, complaints = commands(path)
    print("\n".join(complaints), end="\n" * bool(complaints))
    wrong, changed = len(complaints), []
    with tempfile.TemporaryDirectory() as folder:
        home = pathlib.Path(folder)
        copy(home, pathlib.Path(given.binary).resolve(), path.name != INSTALLS)
        before = set((home / "tapis").rglob("*"))
        shell = Shell(home)
        try:
            for command in found:
                time.sleep(given.pause)
                complaint, printed = check(shell, command)
                if given.verbose or complaint:
                    print(f"{command.place}: {'wrong' if complaint else 'good'}: {command.text or 'Ctrl-C'}")
                if complaint:
                    wrong += 1
                    print(f"  {complaint}")
                    for what, lines in (("expected", command.expected or []), ("printed ", printed)):
                        print("".join(f"  {what} | {line}\n" for line in lines), end="")
                if complaint == "prints something else" and "..." not in command.expected:
                    changed.append((command, printed))
        finally:
            shell.stop()
            shell.end()
        for left in sorted(set((home / "tapis").rglob("*")) - before):
            wrong += 1
            print(f"{path.relative_to(ROOT)}: leaves {left.relative_to(home / 'tapis')} behind")
    if given.rewrite:
        rewrite(path, changed)
    print(f"{path.relative_to(ROOT)}: {len(found)} commands, {wrong} wrong, {skipped} blocks skipped", flush=True)
    return wrong


def prepare(folder):
    """Inside the namespaces: sets up loopback, copies of directories that commands write to, and upstream."""
    def do(*words):
        subprocess.run(words, check=True)

    do("ip", "link", "set", "lo", "up")
    do("ip", "address", "add", f"{RESOLVER}/32", "dev", "lo")
    do("mount", "--make-rprivate", "/")
    subprocess.run(["cp", "-a", "/etc", str(folder)], stderr=subprocess.DEVNULL, check=False)  # not all may be read
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
    arguments.add_argument("--rewrite", action="store_true", help="replace outputs that differ in the files")
    arguments.add_argument("--pause", type=float, default=0.5,
                           help="seconds between commands, as of somebody who types (default: %(default)s)")
    arguments.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments.add_argument("files", nargs="*")
    given = arguments.parse_args()
    if not given.inside:
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        words = ["unshare", *user, "--net", "--mount", "--pid", "--fork", "--kill-child", sys.executable, "-B"]
        os.execvp(words[0], [*words, __file__, "--inside", *sys.argv[1:]])
    paths = [pathlib.Path(file).resolve() for file in given.files]
    paths = paths or sorted({ROOT / name for name in EXPECTED} | set((ROOT / "docs").glob("*.md")))
    with tempfile.TemporaryDirectory() as folder:
        upstream = prepare(pathlib.Path(folder))
        try:
            wrong = sum(run(path, given) for path in paths)
        finally:
            upstream.kill()
            upstream.wait()
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
