"""Where a container lives in the cgroup hierarchies, and the steps that make, join and remove that place.

A *foreground* container lives below the caller's own cgroup, so that a limit on the caller limits it:
`<own>/knarr-ID`. Of v1 hierarchies only those are entered that carry a limit or are used to look at the container:
in the others it simply stays where its caller is. A *detached* one must not keep its caller's cgroups alive:
`/knarr/ID` in every hierarchy. A path in the spec wins: absolute from the hierarchy's root, relative from the caller's.

Where systemd runs it owns the tree (version 2 alone): a detached container's place is a scope asked of it, see
`knarr.plan.cgroup_scope`. A cgroup of our own beside its units would lose its controllers at systemd's next change.

Version 2 has the rule that a cgroup with processes in it cannot give controllers to its children, and the caller's
own cgroup has the caller in it. So, for a foreground container:
 - caller at the root of the hierarchy: the rule does not hold there; a child, controllers are given to it;
 - no limit asked: a child without controllers. The caller's limits hold for it, kill and freeze work;
 - a limit asked, and nobody else in the caller's cgroup: we step aside, see `_aside`. The caller's limits hold;
 - a limit asked, others in it, and systemd runs: a scope in the caller's slice;
 - else, as root: a *sibling* of the caller's cgroup, which has the same controllers without asking. Every limit above
   the caller still holds. (Moving others away into a leaf is not ours to do.)
 - else, as a user: a child, and giving it controllers is tried. Where it fails each limit warns.
"""

from __future__ import annotations

from knarr.errors import UsageError
from knarr.oci.spec import Resources
from knarr.plan.step import Step, quoted
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from knarr.plan.facts import HostFacts

# v1 controllers a container is looked at or stopped through.
USED = frozenset(("memory", "cpuacct", "pids", "freezer", "devices"))
# The leaf's name below a scope or `knarr-ID`.
OURS = "monitor"
# v2 controllers a detached container gets for its statistics even if nothing is limited.
WATCHED = ("cpu", "io", "memory", "pids")
NO_RESOURCES = Resources()
_LONGEST_PATH = 4096  # PATH_MAX of limits.h


class V1Place(Record):
    """The container's cgroup in one v1 hierarchy. `parents` are directories above it that may have to be made."""

    controllers: tuple[str, ...]
    directory: str
    parents: tuple[str, ...] = ()


class CgroupPlacement(Record):
    """Absolute paths. Empty when the caller may make no cgroup at all. Survives on disk beside the container."""

    v1: tuple[V1Place, ...] = ()
    v2: str = ""
    v2_parents: tuple[str, ...] = ()
    v2_controllers: tuple[
        str, ...
    ] = ()  # that the container's v2 cgroup has, or will have if `v2_give` succeeds
    v2_give: tuple[
        str, ...
    ] = ()  # directories, from the top, whose children are to be given `v2_controllers`
    certain: bool = True  # False: giving the controllers may be refused, limits are then only tried
    devices: bool = True  # device rules can be applied
    ours: str = (
        ""  # leaf beside the container's where the monitor is, and whoever else of us must not be above it
    )
    origin: str = ""  # the caller's own cgroup, which we left for `ours` and go back to
    scope: str = ""  # the systemd unit that all of this is in, and its slice
    slice: str = ""

    def path_of(self, controllers: tuple[str, ...]) -> str:
        """The directory in the v1 hierarchy with exactly these controllers, or ""."""
        return next((p.directory for p in self.v1 if p.controllers == controllers), "")

    def v1_of(self, controller: str) -> str:
        return next((p.directory for p in self.v1 if controller in p.controllers), "")

    @property
    def directories(self) -> tuple[str, ...]:
        """All of the container's cgroups, v2 first."""
        return (*((self.v2,) if self.v2 else ()), *(p.directory for p in self.v1))

    @property
    def main(self) -> str:
        """The one to list and kill processes in, or ""."""
        return (
            self.v2
            or self.v1_of("freezer")
            or self.v1_of("pids")
            or (self.v1[0].directory if self.v1 else "")
        )

    @property
    def procs_file(self) -> str:
        return f"{self.main}/cgroup.procs" if self.main else ""

    @property
    def freezer_file(self) -> str:
        """v1: write FROZEN or THAWED. v2: write 1 or 0. On a hybrid machine either works; v2's is taken."""
        if self.v2:
            return f"{self.v2}/cgroup.freeze"
        freezer = self.v1_of("freezer")
        return f"{freezer}/freezer.state" if freezer else ""

    @property
    def oom_file(self) -> str:
        """The file with an `oom_kill N` line."""
        memory = self.v1_of("memory")
        if memory:
            return f"{memory}/memory.oom_control"
        return f"{self.v2}/memory.events" if self.v2 and "memory" in self.v2_controllers else ""


def placement(
    facts: HostFacts,
    container_id: str,
    *,
    path: str = "",
    foreground: bool = False,
    resources: Resources = NO_RESOURCES,
    alone: bool = False,
    every: bool = False,
) -> CgroupPlacement:
    """Where the container goes. `path` is the spec's `linux.cgroupsPath`; `alone` says that nobody else is in the
    caller's v2 cgroup, so that it may be left for a leaf; `every` that it is to have all controllers there are, because
    limits may be asked for later, and below the caller's cgroup is named as the container is.

    Raises `UsageError` for a path that climbs (`..`) or is too long.
    """
    if ".." in path.split("/"):
        raise UsageError(f"linux.cgroupsPath: {quoted(path)} climbs out of its place")
    if len(path) >= _LONGEST_PATH:
        raise UsageError(f"linux.cgroupsPath: {quoted(path)} is longer than a path may be")
    if path and not path.strip("/."):
        # Everything of the machine, or of the caller, would be the container's, and end with it.
        raise UsageError(f"linux.cgroupsPath: {quoted(path)} names no cgroup of its own")
    needed = controllers_needed(resources)
    name = container_id if every else f"knarr-{container_id}"  # below the caller's cgroup
    v1: list[V1Place] = []
    if not facts.rootless:  # v1 is never safely delegated to users
        for hierarchy in facts.cgroups_v1:
            if (
                foreground
                and not path
                and not every
                and not any(c in USED or c in needed for c in hierarchy.controllers)
            ):
                continue
            base, below = _place(container_id, path, name if foreground else "", hierarchy.own)
            directory, parents = _directories(hierarchy.mount, base, below)
            v1.append(V1Place(hierarchy.controllers, directory, parents))
    on_v1 = {c for place in v1 for c in place.controllers}
    if every and facts.cgroup_v2:
        needed = needed.union(facts.cgroup_v2.controllers)
    return _with_v2(facts, container_id, path, name, foreground, needed - on_v1, tuple(v1), alone)


def _with_v2(
    facts: HostFacts,
    container_id: str,
    path: str,
    name: str,
    foreground: bool,
    needed: frozenset[str],
    v1: tuple[V1Place, ...],
    alone: bool,
) -> CgroupPlacement:
    v2 = facts.cgroup_v2
    devices = not facts.rootless
    if v2 is None or (facts.rootless and not v2.own_writable):
        return CgroupPlacement(v1, devices=devices)
    if facts.rootless and not path.startswith("/"):
        foreground = True  # a user has no place at the root of the hierarchy
    base, below = _place(container_id, path, name if foreground else "", v2.own)
    at_root = base == "/"
    available = v2.controllers if at_root else v2.own_controllers
    wanted = needed if foreground and not path else needed.union(WATCHED)
    controllers = tuple(c for c in available if c in wanted)
    if alone and base == v2.own and foreground and not path and controllers and not (at_root and v2.whole):
        return _aside(v1, _join(v2.mount, base), below, controllers, devices)
    if foreground and not path and not at_root and controllers and not facts.rootless:
        base = base.rpartition("/")[0] or "/"
        directory, parents = _directories(v2.mount, base, below)
        return CgroupPlacement(v1, directory, parents, controllers, (), True, devices)
    directory, parents = _directories(v2.mount, base, below)
    give: tuple[str, ...] = (_join(v2.mount, base), *parents) if controllers else ()
    return CgroupPlacement(v1, directory, parents, controllers, give, at_root and v2.whole, devices)


def _aside(
    v1: tuple[V1Place, ...], own: str, below: str, controllers: tuple[str, ...], devices: bool
) -> CgroupPlacement:
    """The caller's own cgroup gives controllers once we have left it for `<own>/knarr-ID/ours`. The container is beside
    that, one level lower than it could be: systemd takes the controllers away from children of a unit that it has not
    delegated, and the kernel refuses that (EBUSY) while a child gives them on."""
    top = f"{own}/{below}"
    return CgroupPlacement(
        v1,
        f"{top}/container",
        (top,),
        controllers,
        (own, top),
        True,
        devices,
        ours=f"{top}/{OURS}",
        origin=own,
    )


def _place(container_id: str, path: str, below_own: str, own: str) -> tuple[str, str]:
    """(cgroup that is there, path to make below it), from the hierarchy's root."""
    if path:
        return ("/" if path.startswith("/") else own), path.strip("/")
    if below_own:
        return own, below_own
    return "/", f"knarr/{container_id}"


def _directories(mount: str, base: str, below: str) -> tuple[str, tuple[str, ...]]:
    at = _join(mount, base)
    made: list[str] = []
    for name in below.split("/"):
        at = f"{at}/{name}"
        made.append(at)
    return at, tuple(made[:-1])


def _join(mount: str, path: str) -> str:
    return mount if path == "/" else mount + path


def controllers_needed(resources: Resources) -> frozenset[str]:
    """Controllers, by their names in both versions, that the asked limits need."""
    r = resources
    needed: set[str] = set()
    if r.memory and any(v is not None for v in (r.memory.limit, r.memory.reservation, r.memory.swap)):
        needed.add("memory")
    if r.memory and (r.memory.swappiness is not None or r.memory.disable_oom_killer):
        needed.add("memory")
    if r.memory and (r.memory.kernel or r.memory.kernel_tcp or r.memory.use_hierarchy is not None):
        needed.add("memory")
    if r.cpu:
        if r.cpu.cpus or r.cpu.mems:
            needed.add("cpuset")
        if any(v is not None for v in (r.cpu.shares, r.cpu.quota, r.cpu.period, r.cpu.burst, r.cpu.idle)):
            needed.add("cpu")
        if r.cpu.realtime_runtime is not None or r.cpu.realtime_period is not None:
            needed.add("cpu")
    if r.pids and r.pids.limit is not None:
        needed.add("pids")
    if r.block_io and any(r.block_io):
        needed.update(("blkio", "io"))
    if r.hugepage_limits:
        needed.add("hugetlb")
    if r.network:
        if r.network.class_id is not None:
            needed.add("net_cls")
        if r.network.priorities:
            needed.add("net_prio")
    if r.rdma:
        needed.add("rdma")
    needed.update(key.partition(".")[0] for key in r.unified)
    return frozenset(needed)


ORIGIN = "linux.cgroupsPath"
SCOPE_PAUSE = "scope"  # the engine has systemd make the scope, and moves S and its parent to `ours`


def make_steps(place: CgroupPlacement) -> Iterator[Step]:
    """Directories, from the top, with what a child must be given before it can be used."""
    if place.scope:
        yield Step("pause", (SCOPE_PAUSE,), ORIGIN)
    for v1 in place.v1:
        chain = (*v1.parents, v1.directory)
        if "cpuset" in v1.controllers:
            # A new cpuset is empty and takes no process, unless its parent says that it copies its own.
            yield Step("write", (f"{chain[0].rpartition('/')[0]}/cgroup.clone_children", "1"), ORIGIN)
        for directory in chain:
            yield Step("mkdir", (directory, "755"), ORIGIN)
    if not place.v2:
        return
    give = " ".join(f"+{c}" for c in place.v2_controllers)
    above = place.v2_give[:1]
    for directory in above:
        yield Step("write", (f"{directory}/cgroup.subtree_control", give), ORIGIN, optional=True)
    for directory in place.v2_parents:
        yield Step("mkdir", (directory, "755"), ORIGIN)
        if directory in place.v2_give:
            yield Step("write", (f"{directory}/cgroup.subtree_control", give), ORIGIN, optional=True)
    yield Step("mkdir", (place.v2, "755"), ORIGIN)


def join_steps(place: CgroupPlacement) -> Iterator[Step]:
    """The setter enters the v1 cgroups itself, its child is born in them. Writing a pid to `cgroup.procs` would wait
    for an RCU grace period (9 ms for four hierarchies); a single thread that writes 0 to `tasks` does not."""
    for v1 in place.v1:
        yield Step("write", (f"{v1.directory}/tasks", "0"), ORIGIN)
    if place.v2:
        yield Step("cgroup-v2", (place.v2,), ORIGIN)


def teardown_steps(place: CgroupPlacement) -> Iterator[Step]:
    """Kills what is left, then removes the container's cgroups. What was made above them stays:
    another container may be about to use it."""
    if place.main:
        yield Step("cgroup-kill", (place.main,), ORIGIN)
    for directory in place.directories:
        yield Step("rmdir", (directory,), ORIGIN, optional=True)
    if not place.origin:
        return  # a scope's other cgroups are removed by systemd when its last process, the monitor, has ended
    top = place.ours.rpartition("/")[0]
    take = " ".join(f"-{c}" for c in place.v2_controllers)
    for directory in (top, place.origin):
        yield Step("write", (f"{directory}/cgroup.subtree_control", take), ORIGIN, optional=True)
    yield Step("cgroup-move", (place.ours, place.origin), ORIGIN, optional=True)
    for directory in (place.ours, top):
        yield Step("rmdir", (directory,), ORIGIN, optional=True)


def resource_steps(
    resources: Resources,
    place: CgroupPlacement,
    facts: HostFacts,
    warnings: list[str],
    *,
    strict: bool = False,
) -> tuple[list[Step], list[Step]]:
    """(steps before the setter enters, steps once the container's process exists).

    The number of processes is limited last: the setter itself is one of them until then.
    A limit that no controller can hold is a warning that names it and what would mend it; `strict`: a `HostError`.
    """
    before: list[Step] = []
    if resources == NO_RESOURCES:
        return before, []
    from knarr.plan.cgroup_limits import limit_steps  # most containers have no limits

    limits = limit_steps(resources, place, facts, warnings, strict=strict)
    after = [step for step in limits if step.args[0].endswith("/pids.max")]
    before = [step for step in limits if not step.args[0].endswith("/pids.max")]
    return before, after
