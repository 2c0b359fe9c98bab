"""Which cgroup a container of `knarr-runtime` gets: `linux.cgroupsPath` (config-linux.md), or one by its id. Or a scope
of systemd, where that is to manage it."""

from __future__ import annotations

import os

from knarr.errors import Conflict
from knarr.plan import cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.oci.spec import Spec
    from knarr.plan.cgroup import CgroupPlacement
    from knarr.plan.facts import HostFacts


def place(facts: HostFacts, container_id: str, spec: Spec, *, systemd: bool = False) -> CgroupPlacement:
    """Absolute paths are below the hierarchies' mounts, relative ones and none below the caller's cgroup."""
    if systemd:
        from knarr.runtime import scope  # and D-Bus

        return scope.place(facts, container_id, spec)
    linux = spec.linux
    return cgroup.placement(
        facts,
        container_id,
        path=linux.cgroups_path,
        foreground=not linux.cgroups_path,
        resources=linux.resources,
        every=True,
    )


def check_free(place: CgroupPlacement) -> None:
    """A cgroup that is there already must be nobody's: `delete` kills what is in it, and a frozen one would hold our
    own process before it could say anything. Raises `Conflict`."""
    for directory in place.directories:
        if not os.path.isdir(directory):
            continue
        from knarr.host.cgroups import frozen, processes

        if count := len(processes(directory)):
            raise Conflict(
                f"linux.cgroupsPath: container's cgroup is not empty: {count} process(es) found in {directory}"
            )
        if frozen(directory):
            raise Conflict(f"linux.cgroupsPath: container's cgroup unexpectedly frozen: {directory}")
