"""Makes the default network, or what is missing of it: bridge, addresses, kernel settings, ruleset. Off the hot path.

Everything found is kept: a bridge that is there keeps its addresses, a subnet with containers in it stays, the
elements of the containers that live are put back into a ruleset that was flushed, and their links into a bridge that
was removed. Else the subnets are those of network.toml, or free ones.
"""

from __future__ import annotations

import _socket
import errno
import os

from knarr.errors import HostError
from knarr.host import netlink, nft
from knarr.host.netlink import Door
from knarr.network import bridge, leases, publish, ruleset, settings
from knarr.network.address import Subnet, mac_of, subnet
from knarr.network.bridge import Network
from knarr.network.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.host.paths import Paths
    from knarr.plan.facts import HostFacts

# Nobody else's default: docker takes 172.17–31 and 192.168, podman 10.88 and 10.89, Kubernetes 10.244, 10.42, 10.96.
_CANDIDATES = tuple(f"10.{second}.0.0/16" for second in (*range(77, 88), *range(177, 188)))
_DEFAULT_MTU = 1500
_RTF_DEFAULT, _RTF_ADDRCONF = 0x10000, 0x40000  # linux/ipv6_route.h


def make(paths: Paths, facts: HostFacts) -> Network:
    """The network, whole. Safe to call at any time, by several commands at once. Raises HostError."""
    nft_program = facts.tools.get("nft", "")
    if not nft_program:
        raise HostError(
            "the bridge network needs nftables: nft: not found",
            hint="apt install nftables, or run with --network host or none",
        )
    directory = bridge.directory(paths)
    os.makedirs(directory, 0o755, exist_ok=True)
    with Lock(f"{paths.run}/networks/.lock"):
        network = bridge.recorded(paths)
        if network is not None and bridge.intact(network):
            return network  # somebody else was first
        try:
            network = _make_bridge(paths, network)
            _settings(network)
        except OSError as e:
            raise HostError(
                f"bridge network {bridge.names(paths.run)[0]}: {e.strerror}", hint="knarr doctor"
            ) from e
        _load_rules(network, nft_program)
        _record(network)
    return network


# -- the link ---------------------------------------------------------------------------------------------------


def _make_bridge(paths: Paths, before: Network | None) -> Network:
    name, table, veth = bridge.names(paths.run)
    asked = settings.read(paths.config)
    if before and any(leases.leases(bridge.directory(paths))):
        v6 = subnet(before.subnet6) if before.subnet6 else None
        asked = Settings(subnet(before.subnet), v6, ipv6=v6 is not None)
    with Door() as door:
        found = {link.name: link for link in netlink.links(door)}
        link = found.get(name)
        if link is None:
            mtu = _uplink_mtu(door)
            v4 = _choose(door, asked, before.subnet if before else "")
            door.send(netlink.bridge(name, mac_of(v4.at(1)), mtu))
        else:
            mtu = link.mtu
        index = _socket.if_nametoindex(name)
        held = [(ip, prefix) for at, ip, prefix in netlink.addresses(door) if at == index]
        if link is not None:
            kept = [subnet(f"{ip}/{prefix}") for ip, prefix in held if "." in ip]
            v4 = kept[0] if kept else _choose(door, asked, before.subnet if before else "")
            door.send(netlink.link_up(index))
        v6 = _subnet6(name, asked, before)
        for wanted in (v4, v6):
            if wanted and (wanted.at(1), wanted.prefix) not in held:
                door.send(netlink.address(index, wanted.at(1), wanted.prefix))
        for orphan in found.values():  # of containers that outlived their bridge
            if orphan.name.startswith(veth) and len(orphan.name) == len(veth) + 8 and not orphan.master:
                door.send(netlink.link_master(orphan.index, index))
    return Network(bridge.directory(paths), name, table, veth, index, mtu, str(v4), str(v6 or ""))


def _uplink_mtu(door: Door) -> int:
    """The MTU of the way out: a larger one inside would mean packets that are refused on the way."""
    routes = netlink.routes(door)
    ways_out = {index for family, _, prefix, index in routes if not prefix and family == _socket.AF_INET}
    found = [link.mtu for link in netlink.links(door) if link.index in ways_out]
    return min(found) if found else _DEFAULT_MTU


def _choose(door: Door, asked: Settings, before: str) -> Subnet:
    """What was asked for, else the first candidate, that no route of this host overlaps."""
    taken = [
        Subnet(int.from_bytes(dst, "big"), prefix, 32)
        for family, dst, prefix, _ in netlink.routes(door)
        if family == _socket.AF_INET and prefix and len(dst) == 4
    ]
    if asked.subnet:
        clash = next((other for other in taken if asked.subnet.overlaps(other)), None)
        if clash and asked.where:
            raise HostError(
                f"{asked.where}: subnet {asked.subnet} overlaps with {clash}, which this host has a route to",
                hint="ip route",
            )
        return asked.subnet
    for text in (before, *_CANDIDATES) if before else _CANDIDATES:
        candidate = subnet(text)
        if not any(candidate.overlaps(other) for other in taken):
            return candidate
    raise HostError("the bridge network finds no free subnet in 10.77–10.187", hint="ip route")


def _subnet6(name: str, asked: Settings, before: Network | None) -> Subnet | None:
    """A /64 under fd00::/8 (RFC 4193) that is the same at every boot, where this host does IPv6."""
    if not asked.ipv6 or _read_setting(f"ipv6/conf/{name}/disable_ipv6") != "0":
        return None
    if asked.subnet6:
        return asked.subnet6
    if before and before.subnet6:
        return subnet(before.subnet6)
    import hashlib

    try:
        with open("/etc/machine-id", "rb") as file:
            machine = file.read()
    except OSError:
        machine = os.urandom(16)
    digest = hashlib.sha256(b"knarr " + machine + name.encode()).digest()
    return Subnet(0xFD << 120 | int.from_bytes(digest[:7], "big") << 64, 64, 128)


# -- the kernel's settings --------------------------------------------------------------------------------------


def _settings(network: Network) -> None:
    _set("ipv4/ip_forward", "1")
    # Only for this bridge, and the ruleset keeps containers from using it: see `guard` there.
    _set(f"ipv4/conf/{network.bridge}/route_localnet", "1")
    if network.subnet6:
        # A container is no router: it could take over the host's IPv6 traffic (CVE-2020-13401).
        _set(f"ipv6/conf/{network.bridge}/accept_ra", "0")
        if _read_setting("ipv6/conf/all/forwarding") == "0":
            # A host that forwards no longer listens to router advertisements; 2 means: all the same.
            for name in _advertised():
                if _read_setting(f"ipv6/conf/{name}/accept_ra") == "1":
                    _set(f"ipv6/conf/{name}/accept_ra", "2")
            _set("ipv6/conf/all/forwarding", "1")


def _advertised() -> set[str]:
    """Interfaces from which a router's advertisement gave this host its default route."""
    try:
        with open("/proc/net/ipv6_route") as file:
            routes = [line.split() for line in file]
    except OSError:
        return set()
    learnt = _RTF_DEFAULT | _RTF_ADDRCONF
    return {fields[9] for fields in routes if len(fields) > 9 and int(fields[8], 16) & learnt == learnt}


def _read_setting(name: str) -> str:
    try:
        with open(f"/proc/sys/net/{name}") as file:
            return file.read().strip()
    except OSError:
        return ""


def _set(name: str, value: str) -> None:
    """Writes only what differs: /proc/sys may be read-only, and right already."""
    if _read_setting(name) == value:
        return
    try:
        with open(f"/proc/sys/net/{name}", "w") as file:
            file.write(value)
    except OSError as e:
        shown = f"net.{name.replace('/', '.')}"
        raise HostError(
            f"cannot set {shown} to {value}: {e.strerror}", hint=f"sysctl -w {shown}={value}"
        ) from e


# -- the ruleset ------------------------------------------------------------------------------------------------


def _load_rules(network: Network, program: str) -> None:
    with Door(netlink.NETFILTER) as door:
        if not nft.has_rule(door, nft.INET, network.table, ruleset.MARKED_CHAIN, ruleset.MARK):
            nft.apply(program, ruleset.ruleset(network))
            publish.restore(door, network)
        for family in bridge.dropped_by(door, network.bridge):
            nft.apply(program, _accept_forwarding("ip" if family == nft.IPV4 else "ip6", network.bridge))


def _accept_forwarding(family: str, name: str) -> str:
    """Rules as iptables itself would write them, last in a chain that drops what comes to its end."""
    return "".join(
        f'add rule {family} filter FORWARD {way} "{name}" counter accept\n' for way in ("iifname", "oifname")
    )


def _record(network: Network) -> None:
    path = f"{network.directory}/.network"
    lines = (f"{key} {getattr(network, key)}\n" for key in ("link", "mtu", "subnet", "subnet6"))
    with open(f"{path}.new", "w") as file:
        file.write("".join(lines))
    os.rename(f"{path}.new", path)


class Lock:
    """An exclusive `flock` on a file for the length of a `with`."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        import fcntl

        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def remove(paths: Paths) -> None:
    """Takes the network away: link, table, rules elsewhere, record. For tests, and for uninstalling."""
    name, table, _ = bridge.names(paths.run)
    with Lock(f"{paths.run}/networks/.lock"):
        with Door() as door:
            try:
                door.send(netlink.link_delete(name))
            except OSError as e:
                if e.errno != errno.ENODEV:
                    raise
        with Door(netlink.NETFILTER) as door:
            try:
                door.send(nft.delete_table(table))
            except FileNotFoundError:
                pass
            for family in (nft.IPV4, nft.IPV6):
                nft.delete_rules(door, family, "filter", "FORWARD", netlink.text(name))
        try:
            os.unlink(f"{bridge.directory(paths)}/.network")
        except FileNotFoundError:
            pass
