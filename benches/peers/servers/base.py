"""A server under measurement: how it is started and configured, and how its resources are read."""

import contextlib
import os
import random
import re
import shutil
import string
import subprocess
import time

import dns
import live

PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin:" + os.path.expanduser("~/.cargo/bin")
MIXES = ("blocked", "cached", "mixed", "unknown")
IDLE_SHARE, IDLE_WINDOW = 0.05, 0.25  # of a core; seconds
SETTLE_SECONDS, LOAD_SECONDS = 600, 1800
DRAIN_WINDOW, DRAIN_SECONDS = 0.1, 20  # between two measurements
RECEIVE_BUFFER = 4 << 20  # bytes; the size that Tapis requests, set for all servers that have a setting for it
PROBE_SECONDS = 0.01


class Field:
    """Settings shared by all servers of a run."""

    def __init__(self, folder, lists, upstream, cpus, workers, target):
        self.folder, self.lists, self.upstream = folder, lists, upstream
        self.cpus, self.workers, self.target = cpus, workers, target


class Server(live.Child):
    """One running server; its subclass has the properties of its kind."""

    name = program = package = version_option = ""
    form = "names"  # of its list, see lists.py
    config = ""  # its configuration, a string.Template
    mixes = MIXES
    peer = True  # neither Tapis nor a control
    most_workers = 64
    bytes_per_name = 0  # when idle, roughly, to decide whether all fit into memory together
    usual = True  # measured by default
    reload_way = "restart"  # how it loads a whole list
    ways = {}  # how it loads a difference: in the list ("difference"), or as rules before the list's ("overlay")
    note = ""  # a remark that is needed for a comparison

    def __init__(self, field):
        self.field, self.port = field, live.free_port()
        self.folder = os.path.join(field.folder, self.name)
        shutil.rmtree(self.folder, ignore_errors=True)
        os.mkdir(self.folder)
        self.list, self.config_file = (os.path.join(self.folder, file) for file in ("list", "server.conf"))
        self.lay_list(self.state())
        self.renew_list()
        with open(self.config_file, "w") as out:
            out.write(string.Template(self.config).substitute(self.words()))
        self.launch()

    def launch(self):
        command = ["taskset", "-c", self.field.cpus, self.unconfined(self.find(self.field)), *self.arguments()]
        super().__init__(command, os.path.join(self.folder, "log"))
        self.name = type(self).name

    def unconfined(self, program):
        """AppArmor's profiles apply to a path, and permit no files in a temporary directory: a copy has no profile."""
        if not os.path.exists("/etc/apparmor.d/" + program.strip("/").replace("/", ".")):
            return program
        return shutil.copy(program, self.folder)

    # For the subclasses.

    @classmethod
    def find(cls, _field):
        return shutil.which(cls.program, path=PATH)

    @classmethod
    def version(cls, field):
        done = subprocess.run([cls.find(field), cls.version_option], capture_output=True, text=True)
        found = re.search(r"\d+\.\d+(\.\d+)*(-[\w.]+)?", done.stdout + done.stderr)
        return found.group() if found else "of unknown version"

    def state(self):
        return "old"

    def words(self):
        """The variables of its configuration."""
        field = self.field
        common = {"host": dns.LOOPBACK, "port": self.port, "upstream": field.upstream, "workers": field.workers}
        return common | {"folder": self.folder, "list": self.list, "buffer": RECEIVE_BUFFER}

    def arguments(self):
        raise NotImplementedError

    def reload_command(self):
        """The shell command that reloads the replaced list; None if only a restart does."""
        return None

    def lay_change(self, kind, change):
        """Writes the files for `change_command`."""
        raise NotImplementedError

    def change_command(self, kind):
        """The shell command that loads a difference, in one of `ways`."""
        raise NotImplementedError

    def prepare_reload(self):
        """Reverts differences, if a whole list can be loaded only then."""

    # For the measurements.

    def write(self, file, lines):
        """Writes a file into the server's directory; returns its path."""
        path = os.path.join(self.folder, file)
        with open(path, "w") as out:
            out.writelines(f"{line}\n" for line in lines)
        return path

    def run(self, command):
        """Runs a command for the server, outside of measurements."""
        done = subprocess.run(command, shell=True, capture_output=True, text=True)
        if done.returncode:
            raise live.Failure(f"{self.name}: `{command}` fails: {done.stderr or done.stdout}")

    def lay_list(self, state):
        """Puts that state of the list beside the old one."""
        # A link is cheap, but a watcher of the file notices each further link to it: Tapis gets a
        # copy.
        put = shutil.copyfile if self.form in ("names", "cdb") else os.link
        put(self.field.lists.path(self.form, state), self.list + ".new")

    def renew_list(self):
        """Replaces the old list in one step. The old file is freed only when no process has it open any more."""
        os.rename(self.list + ".new", self.list)

    def restart(self):
        super().__exit__()
        self.launch()

    def load(self):
        """Seconds until it answers a blocked name as expected, and until it is idle afterwards."""
        names = self.field.lists.names if self.state() == "old" else None

        def ready():
            name = random.choice(names) if names else "probe.example.net"
            reply = dns.ask(self.port, dns.query(name), PROBE_SECONDS)
            return reply and (not names or dns.classify(reply, dns.A, None)[0] == "blocked")

        seconds = self.wait_for(ready, LOAD_SECONDS)
        return {"load_seconds": round(seconds, 3), "rest_seconds": round(seconds + self.settle(), 1)}

    def settle(self, window=IDLE_WINDOW, patience=SETTLE_SECONDS):
        """Waits until it is idle; returns the seconds that this took."""
        start = time.monotonic()
        while time.monotonic() < start + patience:
            before = self.cpu_nanos()
            time.sleep(window)
            spent = sum(nanos - before.get(task, 0) for task, nanos in self.cpu_nanos().items()) / 1e9
            if spent < IDLE_SHARE * window:
                return max(0, time.monotonic() - start - window)
        return time.monotonic() - start

    def drain(self):
        """Waits until queries queued by the previous measurement are answered or abandoned."""
        self.settle(DRAIN_WINDOW, DRAIN_SECONDS)

    def cpu_nanos(self):
        """CPU time by thread: exact, but lost with a thread that ends."""
        nanos = {}
        for pid in live.family(self.pid):
            with contextlib.suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    with open(f"/proc/{pid}/task/{task}/schedstat") as stat:
                        nanos[task] = int(stat.read().split()[0])
        return nanos

    def memory(self):
        """Its memory and that of its children in MB, shared pages counted once (rss) or in shares (pss)."""
        totals = {"Rss": 0, "Pss": 0}
        for pid in live.family(self.pid):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as rollup:
                for line in rollup:
                    word, _, rest = line.partition(":")
                    if word in totals:
                        totals[word] += int(rest.split()[0])
        return {f"{word.lower()}_mb": round(kilo * 1.024e-3, 1) for word, kilo in totals.items()}
