"""The servers that can be measured. A new one needs a file here and an entry in `KINDS`."""

from .base import MIXES, PATH, Field, Server
from .bind import Bind
from .dnsdist import Cdb, Dnsdist
from .dnsmasq import Dnsmasq
from .hickory import Hickory
from .knot import Knot
from .powerdns import PowerDns
from .tapis import Addresses, Before, Echo, Empty, Orders, Patterns, Scraped, Tapis, Zone
from .unbound import LocalZones, Rpz

TAPIS = (Tapis, Before, Scraped, Empty, Orders, Zone, Addresses, Patterns)
KINDS = (*TAPIS, Echo, LocalZones, Rpz, Bind, PowerDns, Dnsdist, Cdb, Knot, Dnsmasq, Hickory)
ALL = {kind.name: kind for kind in KINDS}

__all__ = ["ALL", "MIXES", "PATH", "Field", "Server"]
