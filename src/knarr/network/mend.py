"""Takes back what containers that are gone still hold of the network, after a crash or a SIGKILL at any moment.

Usually there is nothing to do: a container's own tear-down plan gives everything back. A lease is taken before
anything else and given back last, so a leftover always shows in the leases. Ports need no mending (they are
descriptors), nor do veth pairs (they go with the namespace), nor user-mode networking (it ends with its monitor).
"""

from __future__ import annotations

import os

from knarr.host import netlink
from knarr.network import bridge, leases, publish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from knarr.host.paths import Paths


def mend(paths: Paths, alive: Callable[[str], bool]) -> list[str]:
    """Gives back what containers hold that are not alive; their ids.

    `alive(id)` is asked after a lease was seen, so it must be true from before a container's network is prepared
    until its tear-down is done: the container's lock is held. Who has a tear-down plan on disk is torn down by it
    before this is called: later, what it gives back may be another's.
    """
    folder = bridge.directory(paths)
    held = [(address, owner) for address, owner in leases.leases(folder) if not alive(owner)]
    gone = {owner for _, owner in held}
    if gone:
        _withdraw(paths, gone)
        for address, owner in held:
            leases.release(folder, address, owner)
    _sweep_sockets(f"{paths.run}/networks/.slirp", alive)
    return sorted(gone)


def _withdraw(paths: Paths, gone: set[str]) -> None:
    """Without the right to, or without the ruleset, there is nothing that anybody could meet."""
    _, table, _ = bridge.names(paths.run)
    try:
        with netlink.Door(netlink.NETFILTER) as door:
            publish.withdraw(door, bridge.directory(paths), table, gone)
    except OSError:
        pass


def _sweep_sockets(folder: str, alive: Callable[[str], bool]) -> None:
    """Of slirp4netns, there only while it is told of its ports."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return
    for name in names:
        if not alive(name):
            _unlink(f"{folder}/{name}")


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
