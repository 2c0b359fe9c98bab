"""`update`: other limits for a container that is there (config-linux.md, Control groups)."""

from __future__ import annotations

from knarr.errors import Conflict, HostError
from knarr.host import native
from knarr.plan.cgroup import resource_steps
from knarr.runtime.status import STOPPED, status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from knarr.oci.spec import IntelRdt, Resources
    from knarr.plan.facts import HostFacts
    from knarr.runtime.state_dir import StateDir


def update(
    directory: StateDir,
    resources: Resources,
    rdt: IntelRdt | None,
    facts: HostFacts,
    warn: Callable[[str], None],
) -> None:
    """Apply limits. Raises `Conflict` for a container that has stopped, and what a step raises that fails."""
    container = directory.container()
    status = status_of(directory, container)
    if container is None or status == STOPPED:
        raise Conflict(f"cannot update container {directory.id!r}: it is {status}")
    if rdt:
        raise HostError("linux.intelRdt: this container has no group of resctrl")
    warnings: list[str] = []
    before, after = resource_steps(
        resources._replace(devices=()), container.place, facts, warnings, strict=True
    )
    for text in warnings:
        warn(text)
    if container.place.scope:
        from knarr.runtime import scope

        scope.change(container.place, resources, user=container.users_systemd)
    if before or after:
        native.execute([*before, *after])
