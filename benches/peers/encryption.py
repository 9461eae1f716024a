#!/usr/bin/env -S python3 -B
"""The cost of encryption to upstream: processor time per query for unknown names, by UDP, TLS and HTTPS.

    benches/peers/encryption.py [--binary target/release/tapis] [--rate 2000] [--seconds 10] [--rounds 3]

Starts nsd, which knows all names, Unbound in front of it, and before Unbound, one at a time, Tapis and dnsdist. Each
forwards to Unbound by UDP, by DNS over TLS and by DNS over HTTPS, on loopback. pace (target/release/examples) sends
unknown names at a steady rate. The cost is the processor time of the forwarder, from /proc, divided by the
answers; the ratio is that to UDP of the same forwarder; p50_us is the median time to an answer. Rounds alternate
between all cases; the result is the median of them. Needs Debian's nsd, unbound, dnsdist and openssl. Exit code 1 if an answer was lost, or DNS over TLS
of Tapis costs more than --bar times its UDP.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "live"))

import dns  # noqa: E402
import live  # noqa: E402
import upstream  # noqa: E402

NAME = "resolver.test"
UNBOUND = """server:
  interface: {host}@{udp}
  interface: {host}@{tls}
  interface: {host}@{https}
  tls-port: {tls}
  https-port: {https}
  tls-service-key: "{folder}/resolver.key"
  tls-service-pem: "{folder}/resolver.pem"
  access-control: 127.0.0.0/8 allow
  incoming-num-tcp: 200
  outgoing-range: 8192
  num-queries-per-thread: 4096
  do-daemonize: no
  use-syslog: no
  logfile: ""
  pidfile: ""
  username: ""
  chroot: ""
  directory: "{folder}"
  module-config: "iterator"
  do-not-query-localhost: no
  minimal-responses: yes
remote-control:
  control-enable: no
forward-zone:
  name: "."
  forward-addr: {host}@{nsd}
"""
TAPIS = """[server]
listen = ["{host}:{port}"]
workers = 1
control = "{folder}/control.sock"
[upstream]
servers = [{server}]
[[list]]
name = "none"
path = "none.txt"
"""
TAPIS_SERVERS = {
    "udp": '"{host}:{udp}"',
    "tls": '{{ address = "tls://{host}:{tls}#{name}", ca-file = "{folder}/ca.pem" }}',
    "https": '{{ address = "https://{host}:{https}/dns-query#{name}", ca-file = "{folder}/ca.pem" }}',
}
DNSDIST = """setLocal("{host}:{port}")
setSecurityPollSuffix("")
newServer({{{server}}})
"""
DNSDIST_SERVERS = {
    "udp": 'address="{host}:{udp}"',
    "tls": 'address="{host}:{tls}", tls="openssl", subjectName="{name}", caStore="{folder}/ca.pem"',
    "https": 'address="{host}:{https}", tls="openssl", subjectName="{name}", caStore="{folder}/ca.pem", dohPath="/dns-query"',
}
TRANSPORTS = ("udp", "tls", "https")


def openssl(folder, *arguments):
    done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise live.Failure(f"openssl fails: {done.stderr}")


def certificates(folder):
    """An authority, and a certificate of it for the resolver."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl(folder, "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "9", "-subj", "/CN=authority")
    openssl(folder, "req", *key, "-keyout", "resolver.key", "-out", "resolver.csr", "-subj", f"/CN={NAME}")
    with open(os.path.join(folder, "extensions"), "w") as out:
        out.write(f"subjectAltName=DNS:{NAME}\nbasicConstraints=critical,CA:FALSE\n")
    signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "9", "-extfile", "extensions"]
    openssl(folder, "x509", "-req", "-in", "resolver.csr", "-out", "resolver.pem", *signed)


class Bench:
    def __init__(self, options, folder):
        self.options, self.folder, self.asked = options, folder, 0
        self.words = {"host": dns.LOOPBACK, "folder": folder, "name": NAME}
        self.words |= {transport: live.free_port() for transport in TRANSPORTS}
        with open(os.path.join(folder, "none.txt"), "w") as out:
            out.write("blocked.example.net\n")

    def write(self, file, text):
        path = os.path.join(self.folder, file)
        with open(path, "w") as out:
            out.write(text)
        return path

    def unbound(self, nsd):
        config = self.write("unbound.conf", UNBOUND.format(nsd=nsd, **self.words))
        return live.Child(["unbound", "-d", "-c", config], os.path.join(self.folder, "unbound.log"))

    def start(self, forwarder, transport):
        words = self.words | {"port": live.free_port()}
        log = os.path.join(self.folder, f"{forwarder}-{transport}.log")
        if forwarder == "tapis":
            server = TAPIS_SERVERS[transport].format(**words)
            config = self.write("tapis.toml", TAPIS.format(server=server, **words))
            command = [os.path.abspath(self.options.binary), "serve", "--config", config]
        else:
            server = DNSDIST_SERVERS[transport].format(**words)
            config = self.write("dnsdist.conf", DNSDIST.format(server=server, **words))
            command = ["dnsdist", "--supervised", "--disable-syslog", "-C", config]
        child = live.Child(command, log)
        child.port = words["port"]
        return child

    def queries(self, count):
        path = self.write("queries", "".join(f"n{self.asked + i}.u.example.net A\n" for i in range(count)))
        self.asked += count
        return path

    def pace(self, port, seconds):
        options = self.options
        queries = self.queries(int(options.rate * seconds))
        command = [os.path.join(options.target, "examples", "pace"), "--server", f"{dns.LOOPBACK}:{port}"]
        command += ["--queries", queries, "--rate", str(options.rate), "--seconds", str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise live.Failure(f"pace fails: {done.stderr}")
        return json.loads(done.stdout)

    def measure(self, forwarder, transport):
        """Microseconds of the processor per answer, and the report of pace."""
        with self.start(forwarder, transport) as child:
            # Another name each time: an error may be cached.
            probes = (f"probe{i}.{forwarder}.example.net" for i in range(1 << 20))
            child.wait_for(lambda: answered(dns.ask(child.port, dns.query(next(probes)), 0.5)), 30)
            self.pace(child.port, 1)
            before = child.cpu_seconds()
            report = self.pace(child.port, self.options.seconds)
            spent = child.cpu_seconds() - before
        return spent / max(1, report["answered"]) * 1e6, report


def answered(reply):
    return reply and reply[3] & 15 == 0


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--binary", default="target/release/tapis")
    arguments.add_argument("--target", help="the directory with `examples`; default: that of the binary")
    arguments.add_argument("--rate", type=float, default=2000, help="queries per second")
    arguments.add_argument("--seconds", type=float, default=10)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--bar", type=float, default=2.0)
    arguments.add_argument("--only", nargs="*", default=["tapis", "dnsdist"])
    options = arguments.parse_args()
    os.environ["PATH"] += ":/usr/sbin"
    for program in ("nsd", "unbound", "openssl", *(["dnsdist"] if "dnsdist" in options.only else [])):
        live.need(program, program)
    options.target = options.target or os.path.dirname(os.path.abspath(options.binary))
    cases = [(forwarder, transport) for forwarder in options.only for transport in TRANSPORTS]
    costs, medians, failures = {case: [] for case in cases}, {case: [] for case in cases}, []
    with live.workshop("encryption") as folder:
        certificates(folder)
        bench = Bench(options, folder)
        with upstream.Upstream(folder) as nsd, bench.unbound(nsd.port) as unbound:
            probe = dns.query("probe.example.net")
            unbound.wait_for(lambda: dns.ask(bench.words["udp"], probe, 0.5), 30)
            for _ in range(options.rounds):
                for case in cases:
                    cost, report = bench.measure(*case)
                    costs[case].append(cost)
                    medians[case].append(report["p50_us"])
                    live.say(f"{' '.join(case)}: {cost:.1f} us per query; {report}")
                    lost = report["sent"] - report["answered"]
                    if lost:
                        failures.append(f"{' '.join(case)}: {lost} queries lost")
    result = {}
    for forwarder, transport in cases:
        cost = statistics.median(costs[forwarder, transport])
        ratio = cost / statistics.median(costs[forwarder, "udp"])
        result[f"{forwarder} {transport}"] = {
            "us_per_query": round(cost, 1),
            "to_udp": round(ratio, 2),
            "p50_us": round(statistics.median(medians[forwarder, transport])),
        }
    ratio = result.get("tapis tls", {}).get("to_udp", 0)
    if ratio > options.bar:
        failures.append(f"DNS over TLS costs {ratio} times UDP; the bar is {options.bar}")
    live.finish(result, failures)


if __name__ == "__main__":
    main()
