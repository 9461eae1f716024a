#!/usr/bin/env -S python3 -B
"""Lists as publishers write them: how long until they are compiled, downloaded, excepted from, and paused?

    benches/live/public_lists.py --binary target/dist/tapis --names FILE [--rounds 7] [--parts compile,urls,exception]

FILE has one name per line. The parts are independent:

  compile    1.5 million names as each format that says "this name and all below", text to image (`tapis compile`): wall
             and CPU time, compared with the format `domains` of the same round
  urls       ten lists of 150,000 names from a local HTTP server. One of them changes in each round: the time from
             `tapis list refresh` for this list until a new name is blocked. The other nine must be neither asked for
             nor read again
  exception  two million names in the format `adblock`. In each round an exception for one of them is written, and then
             taken back; and then the list is paused and resumed: the time from the end of the edit, or from the start of
             the verb, until the last answer of the old state

Exit code 1 if a change did not come into force, or if another list was read.
"""

import argparse
import http.server
import itertools
import os
import resource
import statistics
import subprocess
import threading
import time

import dns
import live
import order_server
import upstream

COMPILED, EACH, LISTS, LARGE = 1_500_000, 150_000, 10, 2_000_000
FORMS = {
    "domains": ("{}\n", {"scope": "subtree"}),
    "adblock": ("||{}^\n", {}),
    "wildcard": ("*.{}\n", {}),
    "dnsmasq": ("address=/{}/#\n", {}),
    "unbound": ('local-zone: "{}" always_null\n', {}),
}
PATIENCE, STEP = 20.0, 0.002  # seconds
ALLOWED = '[download]\nallow-http = ["127.0.0.1"]\nallow-private = ["127.0.0.1"]\n'
EXCEPTION = '[[exception]]\nname = "{}"\nscope = "subtree"\nagainst = ["big"]\nreason = "It is needed"\nauthor = "The operator"\n'


def spread(values, digits=3):
    """The median, the lowest and the highest value."""
    figures = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {word: round(value, digits) for word, value in figures.items()}


def write(path, line, names):
    with open(path + ".new", "w") as out:
        out.writelines(map(line.format, names))
    os.rename(path + ".new", path)


# Text to image.


def compile_once(binary, config, image):
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run([binary, "compile", "--config", config, "--out", image], capture_output=True, text=True)
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise live.Failure(f"`tapis compile` fails: {done.stdout}{done.stderr}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def compile_forms(options, folder, names):
    names, configs = names[:COMPILED], {}
    for form, (line, keys) in FORMS.items():
        write(os.path.join(folder, f"{form}.txt"), line, names)
        keys = {"name": form, "path": f"{form}.txt", "format": form, **keys}
        configs[form] = os.path.join(folder, f"{form}.toml")
        with open(configs[form], "w") as config:
            config.write("[[list]]\n" + "".join(f'{key} = "{value}"\n' for key, value in keys.items()))
    times = {form: [] for form in FORMS}
    for _, form in itertools.product(range(options.rounds), FORMS):
        times[form].append(compile_once(options.binary, configs[form], os.path.join(folder, f"{form}.image")))
    report = {"names": len(names)}
    for form, own in times.items():
        walls, cpus = zip(*own)
        ratios = [one / base for (one, _), (base, _) in zip(own, times["domains"])]
        report[form] = {"wall_seconds": spread(walls), "cpu_seconds": spread(cpus), "to_domains": spread(ratios)}
        report[form]["image_bytes"] = os.path.getsize(os.path.join(folder, f"{form}.image"))
        live.say(f"{form}: {report[form]['wall_seconds']['median']} s, {report[form]['to_domains']['median']} x domains")
    return report


# Changes of a running server.


def until(server, name, blocked):
    """Queries until the answer is of the new state. Returns the time of the last answer of the old state, or of the first
    query."""
    client, last = dns.udp_socket(), time.monotonic()
    client.settimeout(2)
    end = last + PATIENCE
    while time.monotonic() < end:
        client.sendto(dns.query(name), (dns.LOOPBACK, server.port))
        verdict = dns.classify(client.recv(2048), dns.A)[0]
        if (verdict == "blocked") == blocked:
            return last
        last = time.monotonic()
        time.sleep(STEP)
    raise live.Failure(f"{name}: still {verdict} after {PATIENCE} s\n{server.tail()}")


class Publisher(http.server.ThreadingHTTPServer):
    """Sends lists with their ETags, and counts the requests for each."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.lists, self.requests = {}, dict.fromkeys(range(LISTS), 0)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def publish(self, number, names):
        text = "".join(f"||{name}^\n" for name in names).encode()
        self.lists[number] = (f'"{hash(text)}"', text)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        number = int(self.path.strip("/").split(".")[0])
        self.server.requests[number] += 1
        tag, text = self.server.lists[number]
        known = self.headers.get("If-None-Match") == tag
        self.send_response(304 if known else 200)
        self.send_header("ETag", tag)
        self.send_header("Content-Length", str(0 if known else len(text)))
        self.end_headers()
        if not known:
            self.wfile.write(text)

    def log_message(self, *_):
        pass


class Subscriber(live.Tapis):
    """A server whose lists are downloaded."""

    def write_config(self, sections):
        super().write_config([*sections, '[state]\ndir = "state"\n', ALLOWED])


def loaded(server):
    return {entry["name"]: entry["loaded_at"] for entry in server.status()["lists"]}


def urls(options, folder, names, above):
    os.mkdir(folder)
    publisher = Publisher()
    own = [names[number * EACH : (number + 1) * EACH] for number in range(LISTS)]
    for number, part in enumerate(own):
        publisher.publish(number, part)
    url = f"http://127.0.0.1:{publisher.server_port}"
    sections = [{"name": f"l{n}", "url": f"{url}/{n}.txt", "format": "adblock"} for n in range(LISTS)]
    with Subscriber(options.binary, folder, above.port, sections) as server:
        server.wait()
        server.wait_for(lambda: all(loaded(server).values()), pause=0.1)
        force, verb, cpu = [], [], []
        for turn in range(options.rounds):
            number, new = turn % LISTS, f"new{turn}.urls.example"
            before, asked = loaded(server), dict(publisher.requests)
            publisher.publish(number, [*own[number], new])
            used, start = server.cpu_seconds(), time.monotonic()
            process = subprocess.Popen(server.command("list", "refresh", f"l{number}"), stdout=subprocess.DEVNULL)
            force.append(until(server, new, True) - start)
            if process.wait():
                raise live.Failure("`tapis list refresh` fails")
            verb.append(time.monotonic() - start)
            cpu.append(server.cpu_seconds() - used)
            after = loaded(server)
            read = [name for name in after if after[name] != before[name]]
            requests = [n for n in asked if publisher.requests[n] != asked[n]]
            if read != [f"l{number}"] or requests != [number]:
                raise live.Failure(f"list {number} has changed, but {read} were read, and {requests} downloaded")
    live.say(f"urls: in force after {spread(force)} s; the verb takes {spread(verb)} s; CPU {spread(cpu)} s")
    return {"in_force_seconds": spread(force), "verb_seconds": spread(verb), "cpu_seconds": spread(cpu)}


class Operated(order_server.Server):
    """A server with a directory of exceptions."""

    def __init__(self, binary, folder, *values):
        self.prepare(folder)
        super().__init__(binary, folder, *values)


def exceptions(options, folder, names, above):
    os.mkdir(folder)
    names = names[:LARGE]
    write(os.path.join(folder, "big.txt"), FORMS["adblock"][0], names)
    own = set(names)
    alone = [n for n in live.sample(names, 40 * options.rounds) if own.isdisjoint(parents(n))][: options.rounds]
    big = {"name": "big", "path": f"{folder}/big.txt", "format": "adblock"}
    waits = {"added": [], "taken back": [], "paused": [], "resumed": []}
    with Operated(options.binary, folder, above.port, [big]) as server:
        server.wait()
        for name in alone:
            server.write("exceptions/one.toml", EXCEPTION.format(name))
            start = time.monotonic()
            waits["added"].append(until(server, name, False) - start)
            start = time.monotonic()
            os.remove(f"{folder}/exceptions/one.toml")
            waits["taken back"].append(until(server, name, True) - start)
            for what, blocked, verb in (
                ("paused", False, ["pause", "big", "--for", "1h", "--reason", "a measurement"]),
                ("resumed", True, ["resume", "big"]),
            ):
                start = time.monotonic()
                with subprocess.Popen(server.command(*verb), stdout=subprocess.DEVNULL) as process:
                    waits[what].append(until(server, name, blocked) - start)
                if process.returncode:
                    raise live.Failure(f"`tapis {verb[0]}` fails")
    report = {what: spread([value * 1e3 for value in values], 1) for what, values in waits.items()}
    for what, values in report.items():
        live.say(f"{what}: in force after {values} ms")
    return {"names": len(names), "waits_ms": report}


def parents(name):
    labels = name.split(".")
    return (".".join(labels[at:]) for at in range(1, len(labels)))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--binary", required=True)
    arguments.add_argument("--names", required=True)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--parts", default="compile,urls,exception")
    options = arguments.parse_args()
    options.binary = os.path.abspath(options.binary)
    parts = options.parts.split(",")
    with open(options.names) as lines:
        names = [line.strip() for line in itertools.islice(lines, LARGE)]
    result = {"tool": "public_lists", "options": vars(options)}
    with live.workshop("lists") as folder, upstream.Upstream(folder) as above:
        if "compile" in parts:
            result["compile"] = compile_forms(options, folder, names)
        if "urls" in parts:
            result["urls"] = urls(options, os.path.join(folder, "urls"), names, above)
        if "exception" in parts:
            result["exception"] = exceptions(options, os.path.join(folder, "exception"), names, above)
    live.finish(result, [])


if __name__ == "__main__":
    main()
