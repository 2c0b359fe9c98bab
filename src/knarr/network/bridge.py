"""The default network: a Linux bridge, its subnets, what the host needs so that traffic passes. Made at first use.

    RUN/networks/NAME/.network   what was chosen, `key value` lines: read at every start
    RUN/networks/.lock           held while a network is made

At every start it is checked in about 0.2 ms that the bridge and the ruleset are (still) there; whoever finds them
missing, after a reboot or somebody's `nft flush ruleset`, makes them again. Each RUN directory has a bridge and a
table of its own (the default one has the plain names), so that two engines on a machine share nothing.
"""

from __future__ import annotations

import _socket
import binascii
import os

from knarr.host import netlink, nft
from knarr.host.netlink import Door
from knarr.network import ruleset
from knarr.network.address import subnet
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.host.paths import Paths
    from knarr.plan.facts import HostFacts

DEFAULT_RUN = "/run/knarr"
DEFAULT_NETWORK = "bridge"


class Network(Record):
    """`subnet6` is empty where the host has no IPv6. `link` is the index of the bridge, to tell it from a later one."""

    directory: str  # RUN/networks/NAME: the leases
    bridge: str
    table: str
    veth: str  # what the names of the host's ends begin with
    link: int
    mtu: int
    subnet: str
    subnet6: str

    @property
    def gateway(self) -> str:
        return subnet(self.subnet).at(1)

    @property
    def gateway6(self) -> str:
        return subnet(self.subnet6).at(1) if self.subnet6 else ""


def names(run: str) -> tuple[str, str, str]:
    """(bridge, table, beginning of veth names) of the engine that lives in that RUN directory."""
    if run == DEFAULT_RUN:
        return "knarr0", "knarr", "kn"
    suffix = f"{binascii.crc32(os.fsencode(run)) & 0xFFFFFF:06x}"
    return f"knarr-{suffix}", f"knarr_{suffix}", f"k{suffix}"  # an interface's name has at most 15 bytes


def ready(paths: Paths, facts: HostFacts) -> Network:
    """The default network, made or mended if need be. Raises HostError."""
    network = recorded(paths)
    if network is None or not intact(network):
        from knarr.network import make

        network = make.make(paths, facts)
    return network


def intact(network: Network) -> bool:
    """Whether the bridge we made and our ruleset are there, and nobody else's drops what is forwarded."""
    try:
        if _socket.if_nametoindex(network.bridge) != network.link:
            return False
        with Door(netlink.NETFILTER) as door:
            ours = nft.has_rule(door, nft.INET, network.table, ruleset.MARKED_CHAIN, ruleset.MARK)
            return ours and not dropped_by(door, network.bridge)
    except OSError:
        return False


def dropped_by(door: Door, bridge: str) -> list[int]:
    """Families whose `filter FORWARD` (iptables', and so docker's) drops by default and does not know our bridge."""
    mark = netlink.text(bridge)
    return [
        family
        for family in (nft.IPV4, nft.IPV6)
        if nft.chain_policy(door, family, "filter", "FORWARD") == nft.DROP
        and not nft.has_rule(door, family, "filter", "FORWARD", mark)
    ]


def directory(paths: Paths) -> str:
    return f"{paths.run}/networks/{DEFAULT_NETWORK}"


def recorded(paths: Paths) -> Network | None:
    """What the last one to make the network wrote; None when there is nothing (or nothing whole)."""
    try:
        with open(f"{directory(paths)}/.network", "rb", 0) as file:
            fields = dict(line.partition(" ")[::2] for line in file.read().decode().splitlines())
        bridge, table, veth = names(paths.run)
        return Network(
            directory(paths),
            bridge,
            table,
            veth,
            int(fields["link"]),
            int(fields["mtu"]),
            fields["subnet"],
            fields["subnet6"],
        )
    except (OSError, KeyError, ValueError):
        return None
