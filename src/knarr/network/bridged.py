"""A container on the bridge: a veth pair, an address by lease, published ports by map elements."""

from __future__ import annotations

import os

from knarr.errors import UsageError
from knarr.host import netlink
from knarr.network import bridge, leases, publish
from knarr.network.address import mac_of, subnet
from knarr.network.attachment import HOST_ORIGIN, INTERFACE, Attachment, Names, named
from knarr.network.ports import PortRequest, Published, from_loopback6, reserve
from knarr.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from knarr.host.paths import Paths
    from knarr.plan.facts import HostFacts

# The index of eth0 in its namespace. Asked for, since who configures it there cannot look it up; high, since a new
# namespace may come with tunnel devices at 2, 3 … (net.core.fb_tunnels_only_for_init_net).
INTERFACE_INDEX = 1000


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
        if port.host_ip == "::1" and port.protocol != "tcp":  # see `publish` in the ruleset
            raise UsageError(
                f"-p [::1]:…/{port.protocol}: from ::1 only tcp reaches a container", hint="-p 127.0.0.1:…"
            )
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
        relayed = {
            bound.fileno(): request.container_port
            for bound, request in zip(sockets, ports, strict=True)
            if from_loopback6(bound, request)
        }
        return attachment._replace(
            hold_fds=tuple(bound.detach() for bound in sockets), relayed=relayed, relay_to=attachment.ip
        )
    except BaseException:
        for bound in sockets:
            bound.close()
        if offset:
            leases.release(network.directory, v4.at(offset), container_id)
            publish.forget(network.directory, container_id)
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
    number = int.from_bytes(os.urandom(4), "big") >> 4
    host_steps = [_veth_step(network, mac, number, bool(published))]
    teardown = [Step("unlink", (f"{network.directory}/{ip}",), HOST_ORIGIN)]
    if published:
        what = publish.Publication(container_id, ip, ip6, number, tuple(published))
        up, down = publish.publish(network, facts, what)
        host_steps += up
        teardown = down + teardown  # the lease last: while it is there, there may be more
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


def _veth_step(network: bridge.Network, mac: str, number: int, called_back: bool) -> Step:
    """Name and index of the host's end are random: the end of the container's last run may still be dying."""
    index = 0x10000000 | number
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
