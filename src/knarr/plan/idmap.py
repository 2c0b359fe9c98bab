"""User and group id maps of a new user namespace (user_namespaces(7), config-linux.md User namespace mappings)."""

from __future__ import annotations

from knarr.errors import HostError, UsageError
from knarr.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from knarr.oci.spec import IdMap, Linux
    from knarr.plan.facts import HostFacts

LARGEST_ID = 0xFFFFFFFF
CAP_SETGID, CAP_SETUID = 6, 7


def idmap_steps(linux: Linux, facts: HostFacts) -> Iterator[Step]:
    """Writes the maps from outside. Three ways, by what the caller may do:
    with CAP_SETUID and CAP_SETGID directly; a map of only oneself directly, with setgroups denied;
    anything else through the set-uid helpers newuidmap and newgidmap, which read /etc/subuid and /etc/subgid."""
    uids, gids = linux.uid_mappings, linux.gid_mappings
    check_maps(uids, "linux.uidMappings")
    check_maps(gids, "linux.gidMappings")
    if facts.has_cap(CAP_SETUID) and facts.has_cap(CAP_SETGID):
        yield Step("write-child", ("uid_map", map_text(uids)), "linux.uidMappings")
        yield Step("write-child", ("gid_map", map_text(gids)), "linux.gidMappings")
        return
    spawned = False
    if only_self(uids, facts.euid):
        yield Step("write-child", ("uid_map", map_text(uids)), "linux.uidMappings")
    else:
        yield _helper("newuidmap", uids, facts, "linux.uidMappings")
        spawned = True
    if only_self(gids, facts.egid):
        # The kernel wants this before an unprivileged gid_map: else a process could leave a group
        # that files deny rights to (user_namespaces(7)).
        yield Step("write-child", ("setgroups", "deny"), "linux.gidMappings")
        yield Step("write-child", ("gid_map", map_text(gids)), "linux.gidMappings")
    else:
        yield _helper("newgidmap", gids, facts, "linux.gidMappings")
        spawned = True
    if spawned:
        yield Step("wait-spawned", (), "linux.uidMappings")  # the two ran in parallel until here


def denies_setgroups(linux: Linux, facts: HostFacts) -> bool:
    """Will supplementary groups be out of reach inside? True for the map of only oneself."""
    if facts.has_cap(CAP_SETUID) and facts.has_cap(CAP_SETGID):
        return False
    return only_self(linux.gid_mappings, facts.egid)


def only_self(maps: Sequence[IdMap], own: int) -> bool:
    return len(maps) == 1 and maps[0].size == 1 and maps[0].host_id == own


def map_text(maps: Sequence[IdMap]) -> str:
    return "".join(f"{m.container_id} {m.host_id} {m.size}\n" for m in maps)


def map_triples(maps: Sequence[IdMap]) -> str:
    """As `idmap-bind` takes them: `c h n` separated by commas."""
    return ",".join(f"{m.container_id} {m.host_id} {m.size}" for m in maps)


def is_mapped(maps: Sequence[IdMap], container_id: int) -> bool:
    return any(m.container_id <= container_id < m.container_id + m.size for m in maps)


def host_id(maps: Sequence[IdMap], container_id: int, origin: str) -> int:
    for m in maps:
        if m.container_id <= container_id < m.container_id + m.size:
            return m.host_id + container_id - m.container_id
    raise UsageError(f"{origin}: {container_id} does not exist in the container's user namespace")


def check_maps(maps: Sequence[IdMap], origin: str) -> None:
    """Raises `UsageError` for what the kernel would refuse as a whole with EINVAL."""
    if not maps:
        raise UsageError(f"{origin}: a new user namespace needs at least one mapping")
    if len(maps) > 340:
        raise UsageError(f"{origin}: {len(maps)} mappings, the kernel takes 340")
    for i, m in enumerate(maps):
        if m.size < 1 or m.container_id < 0 or m.host_id < 0:
            raise UsageError(f"{origin}[{i}]: {m.container_id} {m.host_id} {m.size} is not a range of ids")
        if max(m.container_id, m.host_id) + m.size - 1 >= LARGEST_ID:
            raise UsageError(f"{origin}[{i}]: reaches past the largest id")
        for other in maps[:i]:
            if _overlap(m.container_id, other.container_id, m.size, other.size) or _overlap(
                m.host_id, other.host_id, m.size, other.size
            ):
                raise UsageError(f"{origin}[{i}]: overlaps an earlier mapping")


def _overlap(a: int, b: int, a_size: int, b_size: int) -> bool:
    return a < b + b_size and b < a + a_size


def _helper(tool: str, maps: Sequence[IdMap], facts: HostFacts, origin: str) -> Step:
    path = facts.tools.get(tool)
    if not path:
        raise HostError(
            f"{origin}: needs {tool}, which this machine does not have",
            hint="apt-get install uidmap, or map only your own id",
        )
    words = [str(n) for m in maps for n in (m.container_id, m.host_id, m.size)]
    return Step("spawn", (path, "{pid}", *words), origin)
