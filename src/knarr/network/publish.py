"""Ports published on the bridge: elements of the ruleset's maps, added and withdrawn by a container's plans.

An element of `runs`, with a random number as its key, goes in and out with the elements of a run in one transaction.
Withdrawing is therefore all or nothing: the tear-down of a container whose ports somebody else has by now (it was
killed, and mended late) finds its number gone, and takes nothing from the new owner.

    RUN/networks/NAME/.ports/ID    `address address6 number`, then a line per port: to load a flushed ruleset again
"""

from __future__ import annotations

import os

from knarr.host import netlink, nft
from knarr.network import ruleset
from knarr.network.attachment import HOST_ORIGIN
from knarr.network.ports import Published, from_text, to_text
from knarr.plan.step import Step
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from knarr.network.bridge import Network
    from knarr.plan.facts import HostFacts

    Elements = list[tuple[str, nft.Element]]

# A batch of elements has to fit into a socket's send buffer, 208 KiB.
ELEMENTS_PER_STEP = 500
_ROUNDS = 1000  # as many as all ports there are


class Publication(Record):
    """The ports of one run of a container. `ip6` is empty where it has none."""

    container_id: str
    ip: str
    ip6: str
    number: int  # random, 28 bits
    ports: tuple[Published, ...]


def publish(network: Network, facts: HostFacts, what: Publication) -> tuple[list[Step], list[Step]]:
    """(steps of the set-up, steps of the tear-down). The host ports are reserved: elements that are there for them are
    of a container whose monitor was killed, and are withdrawn now."""
    batches = _batches(what)
    with netlink.Door(netlink.NETFILTER) as door:
        _withdraw_stale(door, network, batches)
    _remember(network, what)
    origin = _shown(what.ports)
    up = [_step(nft.add_elements(network.table, batch), origin) for batch in batches]
    if any(port.protocol == "udp" for port in what.ports):
        up += _forget_flows(facts, what.ports)
    # Optional: somebody may have flushed the ruleset by then.
    down = [_step(nft.delete_elements(network.table, batch), HOST_ORIGIN, True) for batch in batches]
    # First what would bring the elements back.
    return up, [Step("unlink", (ports_file(network.directory, what.container_id),), HOST_ORIGIN), *down]


def withdraw(door: netlink.Door, network_directory: str, table: str, owners: set[str]) -> None:
    """Removes all that these containers have published. Raises OSError without the right to."""
    for owner in owners:
        forget(network_directory, owner)
    for _ in range(_ROUNDS):
        stale = [
            (name, element)
            for name in ruleset.MAPS
            for element in nft.elements(door, table, name)
            if element.comment in owners
        ]
        if not stale:
            return
        try:
            door.send(nft.delete_elements(table, stale[:ELEMENTS_PER_STEP]))
        except FileNotFoundError:  # its own tear-down was faster
            continue


def restore(door: netlink.Door, network: Network) -> None:
    """Adds what is remembered to a ruleset that has just been loaded."""
    for what in remembered(network):
        for batch in _batches(what):
            try:
                door.send(nft.add_elements(network.table, batch))
            except FileExistsError:  # somebody else has the port by now
                continue


def remembered(network: Network) -> Iterator[Publication]:
    folder = os.path.dirname(ports_file(network.directory, ""))
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        try:
            with open(f"{folder}/{name}") as file:
                head, _, text = file.read().partition("\n")
            ip, ip6, number = head.split(" ")
            yield Publication(name, ip, ip6, int(number), tuple(from_text(text)))
        except (OSError, ValueError):  # just withdrawn, or half written by one that was killed
            continue


def forget(network_directory: str, container_id: str) -> None:
    try:
        os.unlink(ports_file(network_directory, container_id))
    except FileNotFoundError:
        pass


def ports_file(network_directory: str, container_id: str) -> str:
    return f"{network_directory}/.ports/{container_id}"


# -- the parts --------------------------------------------------------------------------------------------------


def _batches(what: Publication) -> list[Elements]:
    """The elements in as many transactions as they need, each with a number of its own."""
    found = (ruleset.element(port, what.ip, what.ip6, what.container_id) for port in what.ports)
    elements = [item for item in found if item is not None]
    batches = []
    for count, at in enumerate(range(0, len(elements), ELEMENTS_PER_STEP)):
        mark = nft.Element(netlink.u32(what.number + count), b"", what.container_id)
        batches.append([("runs", mark), *elements[at : at + ELEMENTS_PER_STEP]])
    return batches


def _withdraw_stale(door: netlink.Door, network: Network, batches: Sequence[Elements]) -> None:
    owners = set()
    for batch in batches:
        for name, element in batch:
            found = nft.find_element(door, network.table, name, element.key)
            if found is not None:
                owners.add(found.comment)
    if owners:
        withdraw(door, network.directory, network.table, owners)


def _step(data: bytes, origin: str, optional: bool = False) -> Step:
    return Step("netlink", (str(netlink.NETFILTER), data.hex()), origin, optional)


def _forget_flows(facts: HostFacts, ports: Sequence[Published]) -> list[Step]:
    """Datagrams that somebody sends already follow their old flow, past the new element."""
    from knarr.host import conntrack

    if facts.kernel < conntrack.FIRST_KERNEL:
        return []
    udp = [port for port in ports if port.protocol == "udp"]
    number = ruleset.PROTOCOLS["udp"]
    data = b"".join(conntrack.forget(number, port.host_port, ":" in port.host_ip) for port in udp)
    return [_step(data, "network", True)]


def _remember(network: Network, what: Publication) -> None:
    path = ports_file(network.directory, what.container_id)
    data = f"{what.ip} {what.ip6} {what.number}\n{to_text(what.ports)}".encode()
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


def _shown(ports: Sequence[Published]) -> str:
    """As in `-p`: `-p 8080:80`, `-p 127.0.0.1:53:53/udp …`."""
    forms = [_form(port) for port in ports if port.host_ip != "::" or len(ports) == 1]
    return " ".join(forms[:3]) + (" …" if len(forms) > 3 else "")


def _form(port: Published) -> str:
    ip = f"[{port.host_ip}]:" if ":" in port.host_ip else f"{port.host_ip}:"
    protocol = "" if port.protocol == "tcp" else f"/{port.protocol}"
    return f"-p {ip if ip != '0.0.0.0:' else ''}{port.host_port}:{port.container_port}{protocol}"
