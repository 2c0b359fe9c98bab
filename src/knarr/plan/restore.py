"""restore_plan: what stands ready when criu brings a container back: its cgroup, and its root filesystem as a mount.

C of this plan is criu itself. It is born in the container's cgroup, so that whatever it brings back is. The caller is
in a mount namespace of its own, which takes the root's mount with it.
"""

from __future__ import annotations

from knarr.plan import cgroup as cg
from knarr.plan.mount_options import read_options
from knarr.plan.mounts import in_root
from knarr.plan.setup import Plan
from knarr.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from knarr.oci.spec import Mount, Spec
    from knarr.plan.cgroup import CgroupPlacement
    from knarr.plan.facts import HostFacts

_FROM_THE_HOST_ALONE = 0x4000 | 0x80000  # MS_REC | MS_SLAVE


def restore_plan(
    spec: Spec,
    facts: HostFacts,
    place: CgroupPlacement,
    rootfs: str,
    *,
    argv: Sequence[str],
    env: Sequence[str],
    descriptors: int,
    files: frozenset[str],
) -> tuple[Plan, tuple[Step, ...]]:
    """The plan, and the limits for when the container is back: the number of processes, criu's are counted before.

    `descriptors` after the standard ones are criu's. `files` are the bind mounts' sources that are no directories.
    """
    warnings: list[str] = []
    strict = bool(facts.cgroups_v1 or facts.cgroup_v2)
    limits, last = cg.resource_steps(spec.linux.resources, place, facts, warnings, strict=strict)
    steps = [
        *cg.make_steps(place),
        *limits,
        *cg.join_steps(place),
        Step("clone", ("",), "restore"),
        Step("enter", (), "restore"),
        Step("propagation", ("/", f"{_FROM_THE_HOST_ALONE:#x}"), "restore"),
        Step("root", (rootfs, "1"), "root.path"),  # criu wants a mount point
        *_mount_points(spec.mounts, files),
        Step("close-fds", (str(3 + descriptors),), "restore"),
        Step("env", tuple(env), "restore"),
        Step("exec", tuple(argv), "restore"),
    ]
    return Plan(tuple(steps), tuple(warnings)), tuple(last)


def _mount_points(mounts: Sequence[Mount], files: frozenset[str]) -> Iterator[Step]:
    """What the container's creation had made in the root filesystem, which may be another now. A tmpfs comes back with
    everything in it; what is below a bind mount is its source's."""
    covering = [m.destination.rstrip("/") for m in mounts if m.type == "tmpfs" or is_bind(m)]
    for i, mount in enumerate(mounts):
        origin = f"mounts[{i}].destination"
        target = in_root(mount.destination, origin)
        if mount.type in ("cgroup", "cgroup2") or any(target.startswith(f"{c}/") for c in covering):
            continue
        if is_bind(mount) and mount.source in files:
            yield Step("make-file", (target, "755"), origin)
        else:
            yield Step("make-dir", (target, "755", "0", "0"), origin)


def is_bind(mount: Mount) -> bool:
    options = read_options(mount.options, "mounts")
    return (options.bind or mount.type == "bind") and not options.remount
