"""A container on the bridge: a veth pair, an address by lease, published ports by map elements."""

from __future__ import annotations

import os

from knarr.errors import UsageError
from knarr.host import netlink, nft
from knarr.network import bridge, leases, ruleset
from knarr.network.address import mac_of, subnet
from knarr.network.attachment import HOST_ORIGIN, INTERFACE, Attachment, Names, named
from knarr.network.ports import PortRequest, Published, reserve, to_text
from knarr.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from knarr.host.paths import Paths
    from knarr.plan.facts import HostFacts

# The index of eth0 in its namespace. Asked for, since who configures it there cannot look it up; high, since a new
# namespace may come with tunnel devices at 2, 3 … (net.core.fb_tunnels_only_for_init_net).
INTERFACE_INDEX = 1000
# A batch of elements has to fit into a socket's send buffer, 208 KiB.
ELEMENTS_PER_STEP = 500


def prepare(
    paths: Paths,
    facts: HostFacts,
    container_id: str,
    ports: Sequence[PortRequest],
    asked: Names,
    mac: str,
    wanted: str,
) -> Attachment:
    """As `attach.prepare`; `wanted`: an address of the subnet, or empty for any."""
    for port in ports:
        if port.host_ip == "::1":  # see `publish` in the ruleset
            raise UsageError("-p [::1]:…: the bridge cannot carry what comes from ::1", hint="-p 127.0.0.1:…")
    network = bridge.ready(paths, facts)
    v4 = subnet(network.subnet)
    published, sockets = reserve(ports, bool(network.subnet6)) if ports else ([], [])
    offset = 0
    try:
        if wanted:
            offset = leases.take_this(network.directory, v4, wanted, container_id)
        else:
            offset = leases.take(network.directory, v4, container_id)
        attachment = named(
            _attached(facts, network, container_id, offset, published, mac), asked, network.gateway
        )
        return attachment._replace(hold_fds=tuple(bound.detach() for bound in sockets))
    except BaseException:
        for bound in sockets:
            bound.close()
        if offset:
            leases.release(network.directory, v4.at(offset), container_id)
            _forget_ports(network, container_id)
        raise


def _attached(
    facts: HostFacts,
    network: bridge.Network,
    container_id: str,
    offset: int,
    published: Sequence[Published],
    mac: str,
) -> Attachment:
    v4 = subnet(network.subnet)
    v6 = subnet(network.subnet6) if network.subnet6 else None
    ip, ip6 = v4.at(offset), v6.at(offset) if v6 else ""
    mac = mac or mac_of(ip)
    elements = [
        item for port in published if (item := ruleset.element(port, ip, ip6, container_id)) is not None
    ]
    host_steps = [_veth_step(network, mac, bool(elements))]
    teardown = [Step("unlink", (f"{network.directory}/{ip}",), HOST_ORIGIN)]
    if elements:
        _drop_stale(network, elements)
        _remember_ports(network, container_id, ip, ip6, published)
        host_steps += _element_steps("add", network.table, elements, _shown(published))
        if any(port.protocol == "udp" for port in published):
            host_steps += _forget_steps(facts, published)
        # First the redirection, then what would bring it back.
        teardown[:0] = _element_steps("delete", network.table, elements, HOST_ORIGIN)
        teardown.insert(0, Step("unlink", (_ports_file(network, container_id),), HOST_ORIGIN))
    return Attachment(
        "bridge",
        "new",
        tuple(host_steps),
        (_interface_step(ip, v4.prefix, network.gateway, ip6, v6.prefix if v6 else 0, network.gateway6),),
        tuple(teardown),
        ip=ip,
        prefix=v4.prefix,
        gateway=network.gateway,
        ip6=ip6,
        prefix6=v6.prefix if v6 else 0,
        gateway6=network.gateway6,
        mac=mac,
        published=tuple(published),
    )


def _veth_step(network: bridge.Network, mac: str, called_back: bool) -> Step:
    """Name and index of the host's end are random: the end of the container's last run may still be dying."""
    number = int.from_bytes(os.urandom(4), "big")
    index = 0x10000000 | number >> 4
    data, offset = netlink.veth(
        f"{network.veth}{number:08x}",
        index,
        network.link,
        network.mtu,
        INTERFACE,
        INTERFACE_INDEX,
        mac,
    )
    if called_back:
        data += netlink.bridge_hairpin(index)
    return Step("netlink", (str(netlink.ROUTE), data.hex(), str(offset)), "network")


def _interface_step(ip: str, prefix: int, gateway: str, ip6: str, prefix6: int, gateway6: str) -> Step:
    data = netlink.link_up(netlink.LOOPBACK) + netlink.link_up(INTERFACE_INDEX)
    data += netlink.address(INTERFACE_INDEX, ip, prefix) + netlink.default_route(gateway, INTERFACE_INDEX)
    if ip6:
        data += netlink.address(INTERFACE_INDEX, ip6, prefix6)
        data += netlink.default_route(gateway6, INTERFACE_INDEX)
    return Step("netlink", (str(netlink.ROUTE), data.hex()), "network")


# -- published ports --------------------------------------------------------------------------------------------


def _element_steps(
    what: str, table: str, elements: Sequence[tuple[str, nft.Element]], origin: str
) -> list[Step]:
    build = nft.add_elements if what == "add" else nft.delete_elements
    starts = range(0, len(elements), ELEMENTS_PER_STEP)
    batches = [build(table, elements[at : at + ELEMENTS_PER_STEP]) for at in starts]
    # On the way down somebody may have flushed the ruleset already.
    optional = what == "delete"
    return [Step("netlink", (str(netlink.NETFILTER), data.hex()), origin, optional) for data in batches]


def _forget_steps(facts: HostFacts, published: Sequence[Published]) -> list[Step]:
    """Datagrams that somebody sends already follow their old flow, past the new element."""
    from knarr.host import conntrack

    if facts.kernel < conntrack.FIRST_KERNEL:
        return []
    data = b"".join(
        conntrack.forget(ruleset.PROTOCOLS["udp"], port.host_port, ":" in port.host_ip)
        for port in published
        if port.protocol == "udp"
    )
    return [Step("netlink", (str(netlink.NETFILTER), data.hex()), "network", True)]


def _drop_stale(network: bridge.Network, elements: Sequence[tuple[str, nft.Element]]) -> None:
    """The host ports are reserved for us now: an element that is there is of a container whose monitor was killed."""
    with netlink.Door(netlink.NETFILTER) as door:
        stale = [
            item
            for item in elements
            if nft.find_element(door, network.table, item[0], item[1].key) is not None
        ]
        if stale:
            door.send(nft.delete_elements(network.table, stale))


def _shown(published: Sequence[Published]) -> str:
    """As in `-p`: `-p 8080:80`, `-p 127.0.0.1:53:53/udp …`."""
    forms = [_form(port) for port in published if port.host_ip != "::"]
    return " ".join(forms[:3]) + (" …" if len(forms) > 3 else "")


def _form(port: Published) -> str:
    ip = (
        ""
        if port.host_ip == "0.0.0.0"
        else f"[{port.host_ip}]:"
        if ":" in port.host_ip
        else f"{port.host_ip}:"
    )
    protocol = "" if port.protocol == "tcp" else f"/{port.protocol}"
    return f"-p {ip}{port.host_port}:{port.container_port}{protocol}"


def _ports_file(network: bridge.Network, container_id: str) -> str:
    return f"{network.directory}/.ports/{container_id}"


def _remember_ports(
    network: bridge.Network, container_id: str, ip: str, ip6: str, published: Sequence[Published]
) -> None:
    """For whoever has to load the ruleset again while this container runs."""
    path = _ports_file(network, container_id)
    data = f"{ip} {ip6}\n{to_text(published)}".encode()
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o644)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        fd = os.open(path, flags, 0o644)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def _forget_ports(network: bridge.Network, container_id: str) -> None:
    try:
        os.unlink(_ports_file(network, container_id))
    except FileNotFoundError:
        pass
