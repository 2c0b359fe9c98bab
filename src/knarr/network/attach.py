"""Attaches a container to its network: what is leased and reserved now, and the steps that a plan does with it.

    bridge          a namespace of its own, a veth pair into the bridge, an address, published ports
    none            a namespace of its own with only `lo`
    host            the host's
    container:ID    another container's
    slirp4netns, pasta   a namespace of its own, with a program that carries its traffic for a user who is not root

`prepare` takes (an address, ports); the steps only use. What was taken is given back by `teardown_steps`, which
the monitor executes when the container has ended or has not started, or by `release` if there never was a monitor.
"""

from __future__ import annotations

import os

from knarr.errors import HostError, UsageError
from knarr.host import netlink, nft
from knarr.network import bridge, leases, names, ruleset
from knarr.network.address import mac_of, subnet
from knarr.network.ports import PortRequest, Published, reserve, to_text
from knarr.plan.step import Step
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Sequence

    from knarr.host.paths import Paths
    from knarr.network.rootless import UserNetwork
    from knarr.plan.facts import HostFacts

INTERFACE = "eth0"
# The index of eth0 in its namespace. Asked for, since who configures it there cannot look it up; high, since a new
# namespace may come with tunnel devices at 2, 3 … (net.core.fb_tunnels_only_for_init_net).
INTERFACE_INDEX = 1000
# Tear-down steps that are done outside of the container's user namespace have an origin that begins so.
HOST_ORIGIN = "host network"

USER_MODES = ("slirp4netns", "pasta")


class Attachment(Record):
    """What the engine needs to know of a container's network. The files' texts are empty where they are another's."""

    mode: str  # as resolved: bridge none host slirp4netns pasta container:ID
    namespace: str  # "new", "host", or the path of a namespace file
    host_steps: tuple[Step, ...] = ()  # S, between `clone` and `enter`
    child_steps: tuple[Step, ...] = ()  # C, while it still has CAP_NET_ADMIN
    teardown_steps: tuple[Step, ...] = ()
    hold_fds: tuple[int, ...] = ()  # for the monitor's `hold=`; close on exec, ours until handed over
    ip: str = ""
    prefix: int = 0
    gateway: str = ""
    ip6: str = ""
    prefix6: int = 0
    gateway6: str = ""
    mac: str = ""
    published: tuple[Published, ...] = ()
    hosts: str = ""
    hostname: str = ""
    resolv_conf: str = ""
    pauses: tuple[
        str, ...
    ] = ()  # labels of pauses; at "network" the engine calls `knarr.network.rootless.start`
    user: UserNetwork | None = None
    warnings: tuple[str, ...] = ()


class Names(Record):
    """What was asked about names: `--hostname --dns --dns-search --dns-option --add-host`."""

    hostname: str = ""
    dns: Sequence[str] = ()
    dns_search: Sequence[str] = ()
    dns_options: Sequence[str] = ()
    add_hosts: Sequence[str] = ()


def prepare(
    paths: Paths,
    facts: HostFacts,
    container_id: str,
    mode: str = "",
    ports: Sequence[PortRequest] = (),
    *,
    hostname: str = "",
    dns: Sequence[str] = (),
    dns_search: Sequence[str] = (),
    dns_options: Sequence[str] = (),
    add_hosts: Sequence[str] = (),
    mac: str = "",
    ip: str = "",
    join: str = "",
) -> Attachment:
    """Takes what the container needs of the network and tells what to do with it.

    mode: `bridge`, `host`, `none`, `slirp4netns`, `pasta`, `container:ID` with its namespace file in `join`
    (`/proc/PID/ns/net`), or empty for the default: the bridge for root, user-mode networking for others.
    mac: one in place of the address's own; ip: an address of the subnet. Raises UsageError, Conflict (address or
    port is taken), HostError.
    """
    mode = resolve_mode(mode, facts)
    asked = Names(hostname, dns, dns_search, dns_options, add_hosts)
    _check(mode, ports, asked, mac, ip)
    if mode == "bridge":
        return _bridge(paths, facts, container_id, ports, asked, mac, ip)
    if mode in USER_MODES:
        from knarr.network import rootless

        return rootless.prepare(paths, facts, container_id, mode, ports, asked, mac)
    warnings = (f"published ports are discarded with --network {mode}",) if ports else ()
    if mode == "none":
        return named(Attachment(mode, "new", child_steps=(loopback_step(),), warnings=warnings), asked, "")
    if mode == "host":
        return _host(asked, warnings)
    if not join:
        raise UsageError(f"--network {mode}: no namespace to join")
    return Attachment(mode, join)


def resolve_mode(mode: str, facts: HostFacts) -> str:
    """The mode as it will be done on this machine."""
    if mode in ("none", "host") or mode.startswith("container:"):
        return mode
    if mode in USER_MODES:
        if mode not in facts.tools:
            raise HostError(f"--network {mode}: {mode}: not found", hint=f"apt install {_PACKAGES[mode]}")
        return mode
    if mode not in ("", "default", "bridge", "private"):
        raise UsageError(f"--network {mode}: no such network", hint="bridge, host, none or container:NAME")
    if not facts.rootless:
        return "bridge"
    return next((tool for tool in USER_MODES if tool in facts.tools), "none")


_PACKAGES = {"slirp4netns": "slirp4netns", "pasta": "passt"}


def _check(mode: str, ports: Sequence[PortRequest], asked: Names, mac: str, ip: str) -> None:
    """Docker's refusals, and values that would change the meaning of a file they are written to."""
    if mode.startswith("container:"):
        clashes = {
            "-p": ports,
            "--hostname": asked.hostname,
            "--dns": asked.dns or asked.dns_search or asked.dns_options,
            "--add-host": asked.add_hosts,
            "--mac-address": mac,
        }
        for flag, given in clashes.items():
            if given:
                raise UsageError(f"conflicting options: {flag} and --network {mode}")
    if mac and not _is_mac(mac):
        raise UsageError(
            f"--mac-address {mac}: not a unicast mac address", hint="write it like 02:42:0a:00:00:02"
        )
    if ip and mode != "bridge":
        raise UsageError(f"--ip {ip}: an address can only be chosen on the bridge, not with --network {mode}")
    names.checked_words(asked.dns_search, "--dns-search")
    names.checked_words(asked.dns_options, "--dns-option")


def _is_mac(text: str) -> bool:
    parts = text.split(":")
    hexadecimal = all(len(part) == 2 and set(part) <= set("0123456789abcdefABCDEF") for part in parts)
    return len(parts) == 6 and hexadecimal and not int(parts[0], 16) & 1


# -- the bridge -------------------------------------------------------------------------------------------------


def _bridge(
    paths: Paths,
    facts: HostFacts,
    container_id: str,
    ports: Sequence[PortRequest],
    asked: Names,
    mac: str,
    wanted: str,
) -> Attachment:
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
        return named(
            _attached(network, container_id, offset, published, sockets, mac), asked, network.gateway
        )
    except BaseException:
        for bound in sockets:
            bound.close()
        if offset:
            leases.release(network.directory, v4.at(offset))
            _forget_ports(network, container_id)
        raise


def _attached(
    network: bridge.Network,
    container_id: str,
    offset: int,
    published: Sequence[Published],
    sockets: Sequence[_socket.socket],
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
        # First the redirection, then what would bring it back.
        teardown[:0] = _element_steps("delete", network.table, elements, HOST_ORIGIN)
        teardown.insert(0, Step("unlink", (_ports_file(network, container_id),), HOST_ORIGIN))
    return Attachment(
        "bridge",
        "new",
        tuple(host_steps),
        (_interface_step(ip, v4.prefix, network.gateway, ip6, v6.prefix if v6 else 0, network.gateway6),),
        tuple(teardown),
        tuple(bound.detach() for bound in sockets),
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


def loopback_step() -> Step:
    return Step("netlink", (str(netlink.ROUTE), netlink.link_up(netlink.LOOPBACK).hex()), "network")


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
    """A step per thousand: a batch has to fit into a socket's buffer."""
    build = nft.add_elements if what == "add" else nft.delete_elements
    batches = [build(table, elements[at : at + 1000]) for at in range(0, len(elements), 1000)]
    # On the way down somebody may have flushed the ruleset already.
    optional = what == "delete"
    return [Step("netlink", (str(netlink.NETFILTER), data.hex()), origin, optional) for data in batches]


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


# -- names, and giving back -------------------------------------------------------------------------------------


def named(attachment: Attachment, asked: Names, host_gateway: str, own_server: str = "") -> Attachment:
    """With the contents of the three files."""
    extra = [names.parse_add_host(text, host_gateway) for text in asked.add_hosts]
    return attachment._replace(
        hosts=names.hosts(asked.hostname, (attachment.ip, attachment.ip6), extra),
        hostname=f"{asked.hostname}\n",
        resolv_conf=names.resolv_conf(
            asked.dns,
            asked.dns_search,
            asked.dns_options,
            own_server=own_server,
            ipv6=bool(attachment.ip6),
        ),
    )


def _host(asked: Names, warnings: tuple[str, ...]) -> Attachment:
    extra = [names.parse_add_host(text, "127.0.0.1") for text in asked.add_hosts]
    return Attachment(
        "host",
        "host",
        hosts=names.host_hosts(extra),
        hostname=f"{asked.hostname or os.uname().nodename}\n",
        resolv_conf=names.resolv_conf(asked.dns, asked.dns_search, asked.dns_options, loopback=True),
        warnings=warnings,
    )


def release(attachment: Attachment) -> None:
    """Gives back what `prepare` took, when no monitor was started that would execute the tear-down."""
    for fd in attachment.hold_fds:
        os.close(fd)
    for step in attachment.teardown_steps:
        if step.op == "unlink":
            try:
                os.unlink(step.args[0])
            except FileNotFoundError:
                pass
