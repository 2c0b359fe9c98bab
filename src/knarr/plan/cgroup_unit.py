"""A container of `knarr-runtime` as a unit of systemd: its name from the specification, and where its cgroups are.

With systemd as the manager `linux.cgroupsPath` is no path but `SLICE:PREFIX:NAME`, as callers of runc and crun do:

    SLICE/PREFIX-NAME.scope/       the container lives in it; limits are properties of the unit and files in here
        SUBGROUP/                  or lives in here, where an annotation of crun's asks for that

`PREFIX-NAME.scope` is delegated to us and lives as long as a process is in it (systemd.scope(5)). Nobody of ours stays:
unlike the engine's scopes (`knarr.plan.cgroup_scope`) these need no place beside the container.
"""

from __future__ import annotations

from knarr.errors import UsageError
from knarr.plan import cgroup
from knarr.plan.cgroup_scope import slice_path
from knarr.plan.step import quoted
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from knarr.oci.spec import Resources
    from knarr.plan.cgroup import CgroupPlacement
    from knarr.plan.facts import HostFacts

SUBGROUP = "run.oci.systemd.subgroup"
SYSTEM_SLICE, USER_SLICE = "system.slice", "user.slice"
_FORM = "slice:prefix:name"
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_.")


class Unit(Record):
    name: str  # PREFIX-NAME.scope
    slice: str
    subgroup: str = ""


def unit_of(path: str, container_id: str, annotations: Mapping[str, str], *, rootless: bool) -> Unit:
    """`path` is the spec's `linux.cgroupsPath`. Raises `UsageError` for one that names no scope in a slice."""
    if path:
        words = path.split(":")
        if not 2 <= len(words) <= 3 or "/" in path:
            raise UsageError(
                f"{cgroup.ORIGIN}: {quoted(path)} is not {_FORM}, which systemd's cgroups are named by",
                hint="a path of cgroups is taken without --systemd-cgroup",
            )
        slice_name, name = words[0], "-".join(words[1:])
        if name.endswith(".slice"):
            raise UsageError(f"{cgroup.ORIGIN}: {quoted(name)}: a slice holds no processes, a scope does")
    else:
        slice_name, name = "", f"knarr-{_escaped(container_id)}"
    subgroup = annotations.get(SUBGROUP, "").strip("/")
    if any(word in ("", ".", "..") for word in subgroup.split("/")) and subgroup:
        raise UsageError(f"annotations: {SUBGROUP}: {quoted(subgroup)} is not a path below the scope")
    return Unit(f"{name}.scope", _slice(slice_name, rootless=rootless), subgroup)


def _slice(name: str, *, rootless: bool) -> str:
    if not name:
        return USER_SLICE if rootless else SYSTEM_SLICE
    if name in ("-", "-.slice"):
        return "-.slice"  # the root of all
    stem = name.removesuffix(".slice")
    if stem == name or "" in stem.split("-"):
        raise UsageError(
            f"{cgroup.ORIGIN}: {quoted(name)} is not a slice",
            hint="like machine.slice; a-b.slice lies in a.slice",
        )
    return name


def _escaped(text: str) -> str:
    """What a unit's name may not have, as systemd-escape(1) writes it."""
    return "".join(c if c in _PLAIN or c == "-" else f"\\x{ord(c):02x}" for c in text)


def unit_placement(
    facts: HostFacts, container_id: str, unit: Unit, root: str, resources: Resources
) -> CgroupPlacement:
    """`root` is the cgroup of the manager itself: "" for the system's. systemd makes the directories it knows of on v1,
    the plan makes those of the other controllers."""
    scope = f"{root}{slice_path(unit.slice)}/{unit.name}"
    path = f"{scope}/{unit.subgroup}" if unit.subgroup else scope
    v2 = facts.cgroup_v2
    if not facts.rootless:
        at = cgroup.placement(facts, container_id, path=path, resources=resources, every=True)
        return at._replace(scope=unit.name, slice=unit.slice)
    mount = v2.mount if v2 else ""
    give = (mount + scope,) if unit.subgroup else ()
    return cgroup.CgroupPlacement(
        v2=mount + path,
        v2_controllers=v2.own_controllers if v2 else (),
        v2_give=give,
        devices=False,
        scope=unit.name,
        slice=unit.slice,
    )
