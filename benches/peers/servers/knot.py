"""Knot Resolver with a response policy zone."""

from .base import Server

# What would ask the root or validate is off. It sees by itself that the zone's file is another (lua-cqueues).
CONFIG = """net.listen('$host', $port, { kind = 'dns' })
modules.unload('ta_update')
modules.unload('ta_signal_query')
modules.unload('ta_sentinel')
modules.unload('priming')
modules.unload('detect_time_skew')
trust_anchors.remove('.')
cache.open(512 * MB, 'lmdb://$folder')
policy.add(policy.rpz(policy.DENY, '$list'))
policy.add(policy.all(policy.STUB('$host@$upstream')))
"""


class Knot(Server):
    name, program, package, version_option = "knot-rpz", "kresd", "Debian's knot-resolver and lua-cqueues", "--version"
    form = "rpz"
    config = CONFIG
    most_workers = 1  # more are more processes, each with a list of its own
    octets_a_name = 2400
    reload_way = "the file is replaced"
    note = "Knot Resolver; response policy zone, two records a name"

    def arguments(self):
        return ["-n", "-c", self.config_file, self.folder]

    def reload_command(self):
        return ["true"]
