"""Which namespaces a container makes, which it joins, and in what order the setter does so.

config-linux.md, Namespaces. A kind that the spec does not list is inherited from the caller.
"""

from __future__ import annotations

from knarr.errors import UsageError
from knarr.plan.capabilities import SYS_TIME
from knarr.plan.step import Step, key, quoted
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from knarr.oci.spec import Linux
    from knarr.plan.facts import HostFacts

# The specification's name -> the plan's kind. The kinds that clone3 makes, in the order they are printed.
KINDS = {
    "user": "user", "mount": "mnt", "pid": "pid", "network": "net",
    "ipc": "ipc", "uts": "uts", "cgroup": "cgroup", "time": "time",
}  # fmt: skip


class Namespaces(Record):
    """Kinds are the plan's (`mnt`, `net`). `joined` has (kind, path, origin) in the spec's order."""

    new: frozenset[str]
    joined: tuple[tuple[str, str, str], ...]

    def own(self, kind: str) -> bool:
        """Does the container have one of its own, whether new or given by path."""
        return kind in self.new or any(kind == k for k, _, _ in self.joined)


def read_namespaces(linux: Linux) -> Namespaces:
    """Raises `UsageError` for an unknown or doubled type, or one that contradicts other fields."""
    new: list[str] = []
    joined: list[tuple[str, str, str]] = []
    seen: set[str] = set()
    for i, ns in enumerate(linux.namespaces):
        origin = f"linux.namespaces[{i}]"
        kind = KINDS.get(ns.type)
        if kind is None:
            raise UsageError(
                f"{origin}.type: unknown namespace {quoted(ns.type)}", hint=f"one of {' '.join(KINDS)}"
            )
        if kind in seen:
            raise UsageError(f"{origin}.type: a second {ns.type} namespace")
        seen.add(kind)
        if not ns.path:
            new.append(kind)
        elif ns.path[0] != "/":
            raise UsageError(f"{origin}.path: {quoted(ns.path)} is not absolute")
        else:
            joined.append((kind, ns.path, origin))
    if "user" not in new and (linux.uid_mappings or linux.gid_mappings) and "user" not in seen:
        raise UsageError("linux.uidMappings: id mappings need a user namespace in linux.namespaces")
    if linux.time_offsets and "time" not in new:
        raise UsageError("linux.timeOffsets: needs a new time namespace in linux.namespaces")
    return Namespaces(frozenset(new), tuple(joined))


def join_steps(ns: Namespaces, facts: HostFacts) -> Iterator[Step]:
    """The host's root enters the user namespace after the others, while it still has rights over all of them;
    anybody else only gains rights by entering it, so it comes first. `mnt` is last: after it, paths are others'."""
    user_rank = 1 if facts.euid == 0 and facts.initial_userns else -1
    rank = {"user": user_rank, "mnt": 2}
    for kind, path, origin in sorted(ns.joined, key=lambda j: rank.get(j[0], 0)):
        yield Step("join", (kind, path), origin)


def clone_kinds(ns: Namespaces) -> str:
    """`cgroup` is left to the child (its root is the cgroup the *caller* of clone is in, not the one the child
    is born in); `time` is unshared, because clone3 would freeze its offsets before they are written."""
    return ",".join(k for k in KINDS.values() if k in ns.new and k not in ("cgroup", "time"))


def time_steps(ns: Namespaces, linux: Linux, facts: HostFacts, *, in_child: bool) -> Iterator[Step]:
    """A time namespace is entered by the next fork (or, since Linux 6.1, exec) after unshare, and its offsets can be
    written until then. The setter does it where it may; a user only may inside the new user namespace, in the child."""
    if "time" not in ns.new or in_child == facts.has_cap(SYS_TIME):
        return
    yield Step("unshare", ("time",), "linux.namespaces")
    lines: list[str] = []
    for clock, offset in linux.time_offsets.items():
        if clock not in ("monotonic", "boottime"):
            raise UsageError(f"linux.timeOffsets.{key(clock)}: unknown clock", hint="monotonic or boottime")
        if not 0 <= offset.nanosecs < 1_000_000_000:
            raise UsageError(f"linux.timeOffsets.{clock}.nanosecs: {offset.nanosecs} is not below one second")
        lines.append(f"{clock} {offset.secs} {offset.nanosecs}\n")
    if lines:
        yield Step("write", ("/proc/self/timens_offsets", "".join(lines)), "linux.timeOffsets")


def loopback_step() -> Step:
    """Switches `lo` on: RTM_SETLINK for index 1 (rtnetlink(7))."""
    from struct import pack  # in the machine's byte order

    request = pack("=IHHII", 32, 19, 0x5, 0, 0) + pack("=BxHiII", 0, 0, 1, 1, 1)
    return Step("netlink", ("0", request.hex()), "linux.namespaces")
