"""`update`: other limits for a container that is there (config-linux.md, Control groups)."""

from __future__ import annotations

from knarr.errors import Conflict, HostError
from knarr.host import native
from knarr.plan.cgroup import resource_steps
from knarr.plan.step import Step
from knarr.runtime.status import STOPPED, status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from knarr.oci.spec import IntelRdt, Resources
    from knarr.plan.facts import HostFacts
    from knarr.runtime.state_dir import Container, StateDir


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
        native.execute(_rdt_steps(container, rdt))
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


def _rdt_steps(container: Container, rdt: IntelRdt) -> list[Step]:
    from knarr.plan.intel_rdt import schemata_lines

    if not container.rdt_group:
        raise HostError("linux.intelRdt: this container has no class of resctrl")
    file = f"{container.rdt_group}/schemata"
    return [Step("write", (file, f"{line}\n"), "linux.intelRdt.schemata") for line in schemata_lines(rdt)]
