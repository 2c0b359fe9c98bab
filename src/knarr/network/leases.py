"""Leases: which container has which address of a network.

    RUN/networks/NAME/ADDRESS   symbolic link whose text is the container's id: making it is taking the address
    RUN/networks/NAME/.last     symbolic link whose text is the offset given last

Nobody holds a lock: `symlink` fails if it is there. The lease goes with the container (an `unlink` step of its
tear-down plan); `knarr.network.mend` removes what a crash left.
"""

from __future__ import annotations

import os

from knarr.errors import Conflict, HostError, UsageError
from knarr.network.address import Subnet, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST = 2  # offset 0 is the subnet, 1 the bridge


def take(directory: str, subnet: Subnet, container_id: str) -> int:
    """Leases the lowest free address after the one given last; its offset in the subnet.

    Not the lowest of all: an address that has just been given back may still be known to somebody as the old container.
    Raises Conflict when all are taken.
    """
    end = subnet.size - 1  # the last is the broadcast address
    for offset in _candidates(_last(directory), end):
        try:
            os.symlink(container_id, f"{directory}/{subnet.at(offset)}")
        except FileExistsError:
            continue
        except FileNotFoundError:
            os.makedirs(directory, 0o755, exist_ok=True)
            return take(directory, subnet, container_id)
        except OSError as e:
            raise HostError(f"address lease in {directory}: {e.strerror}") from e
        _remember(directory, offset)
        return offset
    raise Conflict(f"no free address in {subnet}", hint="knarr ps: stop containers that are not needed")


def take_this(directory: str, subnet: Subnet, address: str, container_id: str) -> int:
    """Leases one address. Raises UsageError for one outside the subnet, Conflict for one that is taken."""
    number, bits = parse(address)
    offset = number - subnet.base
    if bits != subnet.bits or not FIRST <= offset < subnet.size - 1:
        raise UsageError(f"address {address}: not free for containers in {subnet}")
    os.makedirs(directory, 0o755, exist_ok=True)
    try:
        os.symlink(container_id, f"{directory}/{subnet.at(offset)}")
    except FileExistsError as e:
        raise Conflict(f"address {address}: already in use", hint="knarr ps") from e
    return offset


def _candidates(last: int, end: int) -> Iterator[int]:
    yield from range(max(last + 1, FIRST), end)
    yield from range(FIRST, min(last + 1, end))


def release(directory: str, address: str, container_id: str) -> None:
    """Gives an address back, unless it is somebody else's by now."""
    path = f"{directory}/{address}"
    try:
        if os.readlink(path) == container_id:
            os.unlink(path)
    except OSError:  # given back already
        pass


def leases(directory: str) -> Iterator[tuple[str, str]]:
    """(address, container id) of every lease."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return
    for name in names:
        if not name.startswith("."):
            try:
                yield name, os.readlink(f"{directory}/{name}")
            except OSError:  # given back meanwhile
                continue


def _last(directory: str) -> int:
    try:
        text = os.readlink(f"{directory}/.last")
    except OSError:
        return FIRST - 1
    return int(text) if text.isdecimal() else FIRST - 1


def _remember(directory: str, offset: int) -> None:
    """Only a hint, so losing a race or failing is fine."""
    beside = f"{directory}/.last.{os.getpid()}"
    try:
        os.symlink(str(offset), beside)
        os.rename(beside, f"{directory}/.last")
    except OSError:
        pass
