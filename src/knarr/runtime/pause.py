"""`pause` and `resume`: the container's cgroup is frozen, and goes on."""

from __future__ import annotations

from knarr.errors import Conflict, HostError
from knarr.host.cgroups import freeze, thaw
from knarr.runtime import ahead
from knarr.runtime.status import CREATED, PAUSED, RUNNING, status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.runtime.state_dir import Container, StateDir


def pause(directory: StateDir) -> None:
    """Raises `Conflict` for a container that does not run, `HostError` where nothing can be frozen."""
    container = directory.container()
    status = status_of(directory, container)
    if container is None or status not in (RUNNING, CREATED):
        raise Conflict(f"container {directory.id!r} is not running: {status}")
    freezer = _freezer(container)
    if status == CREATED:
        directory.take(ahead.NAME)  # the launcher's `start` would wait for a frozen process
    freeze(freezer)


def resume(directory: StateDir) -> None:
    """Raises `Conflict` for a container that is not paused."""
    container = directory.container()
    status = status_of(directory, container)
    if container is None or status != PAUSED:
        raise Conflict(f"container {directory.id!r} is not paused: {status}")
    thaw(_freezer(container))


def _freezer(container: Container) -> str:
    freezer = container.place.freezer_file
    if not freezer:
        raise HostError(
            f"container {container.id!r} has no cgroup that could be frozen",
            hint="it needs cgroup v2, or the freezer of v1",
        )
    return freezer.rpartition("/")[0]
