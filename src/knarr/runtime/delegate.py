"""`run.oci.delegate-cgroup`, an annotation of crun's: the container's process lives one cgroup lower than its limits.

That one belongs to the container's root, who may make others beside it. It is entered when the cgroup namespace is
there: the upper one stays the root of that, and its files, with the limits in them, remain the host's.
"""

from __future__ import annotations

import os

from knarr.errors import HostError, UsageError
from knarr.plan.step import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from knarr.oci.spec import IdMap, Spec
    from knarr.plan.cgroup import CgroupPlacement

ANNOTATION = "run.oci.delegate-cgroup"
# What a cgroup's owner must own (cgroups(7), delegation).
_FILES = ("", "/cgroup.procs", "/cgroup.threads", "/cgroup.subtree_control")


def delegated(annotations: Mapping[str, str], place: CgroupPlacement) -> str:
    """The cgroup's directory, "" for none. Raises `UsageError`, `HostError`."""
    path = annotations.get(ANNOTATION, "").strip("/")
    if not path:
        return ""
    if any(word in ("", ".", "..") for word in path.split("/")):
        raise UsageError(
            f"annotations: {ANNOTATION}: {quoted(path)} is not a path below the container's cgroup"
        )
    if place.v1 or not place.v2:
        raise HostError(f"annotations: {ANNOTATION}: needs cgroup v2 alone")
    return f"{place.v2}/{path}"


def move_down(directory: str, place: CgroupPlacement, spec: Spec) -> None:
    """Everything in the container's cgroup: its process, and the setter where a scope has it. Raises `OSError`."""
    os.makedirs(directory, 0o755, exist_ok=True)
    with open(f"{place.v2}/cgroup.procs") as file:
        pids = file.read().split()
    for pid in pids:
        with open(f"{directory}/cgroup.procs", "w") as file:
            file.write(pid)
    at = place.v2
    give = " ".join(f"+{name}" for name in place.v2_controllers)
    for word in ("", *directory.removeprefix(place.v2).strip("/").split("/")[:-1]):
        at = f"{at}/{word}" if word else at
        with open(f"{at}/cgroup.subtree_control", "w") as file:
            file.write(give)
    owner, group = _root(spec.linux.uid_mappings), _root(spec.linux.gid_mappings)
    if (owner, group) != (-1, -1):
        for name in _FILES:
            os.chown(directory + name, owner, group)


def _root(maps: Sequence[IdMap]) -> int:
    """Who the container's root is outside; -1 without a user namespace."""
    return next((m.host_id for m in maps if m.container_id == 0), -1)
