"""Which cgroup a container of `knarr-runtime` gets: `linux.cgroupsPath` (config-linux.md), or one by its id."""

from __future__ import annotations

from knarr.plan import cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.oci.spec import Spec
    from knarr.plan.cgroup import CgroupPlacement
    from knarr.plan.facts import HostFacts


def place(facts: HostFacts, container_id: str, spec: Spec) -> CgroupPlacement:
    """Absolute paths are below the hierarchies' mounts, relative ones and none below the caller's cgroup."""
    linux = spec.linux
    return cgroup.placement(
        facts,
        container_id,
        path=linux.cgroups_path,
        foreground=not linux.cgroups_path,
        resources=linux.resources,
        every=True,
    )
