"""Shared by the tools of this directory: processes, and the output of results.

Everything here communicates with 127.0.0.1 only, and ends only the processes that it started.
"""

import contextlib
import ctypes
import json
import os
import random
import re
import resource
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import dns

PDEATHSIG = 1
SHOWN = 20  # the number of failures that are printed
LIBC = ctypes.CDLL(None)


class Failure(Exception):
    """An error that makes the run void, in one sentence."""


def free_port():
    """A port that is currently free for UDP and TCP."""
    for _ in range(100):
        with socket.socket(type=socket.SOCK_STREAM) as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind((dns.LOOPBACK, 0))
            with contextlib.suppress(OSError):
                udp.bind(tcp.getsockname())
                return udp.getsockname()[1]
    raise Failure("no free port")


# Processes.


def prepare(cpu):
    """A function for a new process to call: the process ends with this one, and stays on the core `cpu`."""

    def act():
        LIBC.prctl(PDEATHSIG, signal.SIGTERM)
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})

    return act


class Child:
    """A process that ends with this one, with its log in a file and its resources read from /proc."""

    def __init__(self, command, log, cpu=None):
        self.name = os.path.basename(command[0])
        self.log = log
        self.started = time.monotonic()
        with open(log, "wb") as out:
            try:
                self.process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, preexec_fn=prepare(cpu)
                )
            except (OSError, subprocess.SubprocessError) as error:
                raise Failure(f"{command[0]} can't be started: {error}") from error
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def alive(self):
        return self.process.poll() is None

    def tail(self, lines=15):
        with open(self.log, errors="replace") as log:
            return "".join(log.readlines()[-lines:])

    def wait_for(self, ready, timeout=300.0, pause=0.005):
        """Seconds from the start until `ready()` is true."""
        while not ready():
            if not self.alive():
                raise Failure(f"{self.name} ended at its start:\n{self.tail()}")
            if time.monotonic() - self.started > timeout:
                raise Failure(f"{self.name} isn't ready after {timeout} s:\n{self.tail()}")
            time.sleep(pause)
        return time.monotonic() - self.started

    def cpu_seconds(self):
        """User and system time, including that of children, running or ended."""
        return family_seconds(self.pid)

    def memory(self):
        """Resident and peak memory, in MB."""
        with open(f"/proc/{self.pid}/status") as status:
            fields = dict(line.split(":", 1) for line in status)
        return {
            "rss_mb": round(int(fields["VmRSS"].split()[0]) / 1000, 1),
            "peak_mb": round(int(fields["VmHWM"].split()[0]) / 1000, 1),
        }

    def forget_peak(self):
        with open(f"/proc/{self.pid}/clear_refs", "w") as clear:
            clear.write("5")


class Tapis(Child):
    """The server under test, with a separate configuration."""

    def __init__(self, binary, folder, upstream, lists, workers=0, cpu=None):
        self.binary = os.path.abspath(binary)
        self.port = free_port()
        self.config = os.path.join(folder, "tapis.toml")
        sections = [
            f'[server]\nlisten = ["{dns.LOOPBACK}:{self.port}"]\nworkers = {workers}\n'
            f'control = "{folder}/control.sock"\n\n[upstream]\nservers = ["{dns.LOOPBACK}:{upstream}"]\n'
        ]
        sections += ["[[list]]\n" + "".join(f'{k} = "{v}"\n' for k, v in l.items()) for l in lists]
        self.write_config(sections)
        log = os.path.join(folder, "tapis.log")
        super().__init__([self.binary, "serve", "--config", self.config], log, cpu)

    def write_config(self, sections):
        with open(self.config, "w") as config:
            config.write("\n".join(sections))

    def command(self, *verb):
        return [self.binary, *verb, "--config", self.config]

    def status(self):
        """The server's status; None without an answer."""
        done = subprocess.run(self.command("status", "--json"), capture_output=True)
        return json.loads(done.stdout) if done.stdout else None  # the exit code is 1 if the server is degraded

    def wait(self):
        return self.wait_for(self.status, pause=0.05)


def family(pid):
    """A process and its descendants."""
    yield pid
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as children:
                for child in children.read().split():
                    yield from family(int(child))


def family_seconds(pid):
    """User and system time of a process and its children, running or ended."""
    return sum(map(cpu_ticks, family(pid))) / os.sysconf("SC_CLK_TCK")


def cpu_ticks(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return sum(map(int, stat.read().rpartition(")")[2].split()[11:15]))
    except OSError:  # it ended meanwhile
        return 0


def foreign_seconds(*children):
    """CPU seconds of the whole machine that were used neither by this process nor by those children."""
    with open("/proc/stat") as stat:
        fields = [int(field) for field in stat.readline().split()[1:9]]
    busy = (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")
    gone = resource.getrusage(resource.RUSAGE_CHILDREN)
    ours = time.process_time() + gone.ru_utime + gone.ru_stime
    return busy - ours - sum(child.cpu_seconds() for child in children)


def warn_of_others(cores):
    if cores > 0.05:
        say(f"Other processes used up to {cores} cores: they affect these figures.")


class Shell:
    """Runs commands, one after the other, and calls `step` meanwhile. Starting a process would delay a load that this
    process sends, so the commands are run by a shell that is started beforehand."""

    def __init__(self, step):
        self.step = step
        self.process = subprocess.Popen(["sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, *command, allowed=(0,)):
        """The output of a command, standard error included."""
        self.process.stdin.write(shlex.join(command) + ' 2>&1; echo "exit $?"\n')
        self.process.stdin.flush()
        output = ""
        while not (end := re.search(r"exit (\d+)\n$", output)):
            while not select.select([self.process.stdout], (), (), 0)[0]:
                self.step()
            output += os.read(self.process.stdout.fileno(), 1 << 16).decode()
        if int(end.group(1)) not in allowed:
            raise Failure(f"`{shlex.join(command)}` fails: {output}")
        return output[: end.start()]

    def cpu_seconds(self):
        return family_seconds(self.process.pid)

    def end(self):
        self.process.stdin.close()
        self.process.wait()


# Runs and results.


def need(program, package):
    if not shutil.which(program):
        raise Failure(f"`{program}` is not installed; Debian has it in {package}")


@contextlib.contextmanager
def workshop(name):
    """A temporary directory; removed on success, kept with its logs after a failure."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = tempfile.mkdtemp(prefix=f"tapis-{name}-")
    os.chmod(folder, 0o755)
    try:
        yield folder
    except Failure as failure:
        say(f"{name}: {failure}\nThe logs are in {folder}.")
        sys.exit(1)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def write_names(path, names):
    with open(path, "w") as out:
        out.write("".join(f"{name}\n" for name in names))


def read_names(path):
    with open(path) as lines:
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def sample(names, count, seed=1):
    return random.Random(seed).sample(names, min(count, len(names)))


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def machine():
    with open("/proc/cpuinfo") as info:
        models = {line.split(":", 1)[1].strip() for line in info if line.startswith("model name")}
    return {"cpus": os.cpu_count(), "model": ", ".join(models), "kernel": os.uname().release}


def say(text):
    print(text, file=sys.stderr, flush=True)


def finish(result, failures):
    """Prints the result; ends the run with exit code 1 if anything failed."""
    result.update(machine=machine(), failed=len(failures), failures=failures[:SHOWN])
    print(json.dumps(result, indent=2))
    for failure in failures[:SHOWN]:
        say(f"FAILED: {failure}")
    if len(failures) > SHOWN:
        say(f"and {len(failures) - SHOWN} more")
    sys.exit(1 if failures else 0)
