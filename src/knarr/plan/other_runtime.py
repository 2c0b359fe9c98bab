"""A container that another runtime makes (runc, crun, runsc): the room it works in, and what it is asked for.

knarr keeps what it answers for: the root filesystem, the network, the output, the end. So C is not the workload but the
other runtime, in front (`RUNTIME run`), alone in a small machine of the container's own:

 - process 1 of a pid namespace: when it dies, and it dies with its monitor, the kernel ends all that it has made;
 - a mount namespace, in which the layers are mounted where nobody else sees them;
 - the container's network namespace, prepared as for knarr's own containers;
 - a cgroup that it sees as the root of every hierarchy, so that whatever it makes is below, and goes with it.

The specification it gets says so: those namespaces are its own (`/proc/self/ns/…`), and what belongs to them is done.
"""

from __future__ import annotations

from knarr.oci.spec import Namespace
from knarr.plan import cgroup as cg
from knarr.plan.idmap import idmap_steps
from knarr.plan.mount_options import MS_REC, MS_SLAVE, NODEV, NOEXEC, NOSUID
from knarr.plan.namespaces import KINDS, join_steps, read_namespaces
from knarr.plan.rootfs import seed_steps
from knarr.plan.setup import Plan
from knarr.plan.step import Step
from knarr.plan.sysctl import sysctl_path, sysctl_steps
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from knarr.oci.spec import Spec
    from knarr.plan.cgroup import CgroupPlacement
    from knarr.plan.exec import ExecSetting
    from knarr.plan.facts import HostFacts
    from knarr.plan.namespaces import Namespaces
    from knarr.plan.rootfs import Rootfs, Seed

ORIGIN = "runtime"
VERSION = (
    "1.0.2"  # of the specification: the oldest of the runtimes in use knows it, and we write nothing newer
)
# What C has before the runtime starts; the others are the runtime's to make.
_OURS = frozenset(("user", "mnt", "pid", "net"))
# Below the container's cgroup. On v2 one with processes in it cannot give controllers on, so C has its own.
INNER, OUTER = "container", "runtime"
CGROUPS = "/sys/fs/cgroup"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Room(Record):
    """Where the runtime works; `argv` is its whole command line."""

    rootfs: Rootfs
    cgroup: CgroupPlacement
    argv: tuple[str, ...]
    seeds: tuple[Seed, ...] = ()
    network_host_steps: tuple[Step, ...] = ()
    network_child_steps: tuple[Step, ...] = ()
    pauses: tuple[str, ...] = ()
    console_fd: int = -1


def room_plan(spec: Spec, facts: HostFacts, room: Room) -> Plan:
    """The steps that end in `room.argv`. `spec` is the container's as knarr would run it itself."""
    ns = read_namespaces(spec.linux)
    steps = list[Step]()
    add = steps.extend
    # S, on the host.
    add(cg.make_steps(room.cgroup))
    add(cg.join_steps(room.cgroup))
    shown = _shown_cgroups(room.cgroup, facts)
    add(_open_cgroups(shown))
    add(join_steps(ns, facts))
    kinds = [kind for kind in KINDS.values() if kind in ns.new and kind in _OURS]
    steps.append(Step("clone", (",".join(kinds),), "linux.namespaces"))
    add(idmap_steps(spec.linux, facts) if "user" in ns.new else ())
    add(room.network_host_steps)
    add(Step("pause", (label,), "setting.pauses") for label in room.pauses)
    steps.append(Step("enter", (), "linux.namespaces"))
    # C, as root of what it has.
    if ns.own("user"):
        steps.append(Step("become-root", (), "linux.namespaces"))
    steps.append(Step("pdeathsig", ("9",), ORIGIN))  # and with it its pid namespace
    steps.append(Step("new-session", (), ORIGIN))
    steps.append(Step("unshare", ("cgroup",), ORIGIN))
    add(_step_aside(room.cgroup))
    steps.append(Step("propagation", ("/", f"{MS_SLAVE | MS_REC:#x}"), ORIGIN))
    add(room.network_child_steps)
    add(sysctl_steps(_network_sysctls(spec.linux.sysctl), ns))
    add(_show_cgroups(shown, facts))
    if ns.own("pid"):
        steps.append(Step("mount", ("proc", "proc", "/proc", f"{NOSUID | NODEV | NOEXEC:#x}", ""), ORIGIN))
    if room.console_fd >= 0:  # before `root`: of the host's /dev/pts, the runtime makes the container's own
        steps.append(Step("console", (str(room.console_fd), "0", "0", "0"), "process.terminal"))
    r = room.rootfs
    steps.append(Step("overlay", (r.target, r.upper, r.work, ",".join(r.options), *r.lower), "root.path"))
    steps.append(Step("root", (r.target, "0"), "root.path"))
    add(seed_steps(room.seeds))
    steps.append(Step("reap", (), ORIGIN))  # not every runtime waits for processes that it has not started
    add(_program(room.argv))
    return Plan(tuple(steps))


def exec_room_plan(
    pid: int,
    started: int,
    kinds: tuple[str, ...],
    place: CgroupPlacement,
    argv: tuple[str, ...],
    where: ExecSetting,
) -> Plan:
    """The runtime once more in the room of process `pid`: `RUNTIME exec`. `kinds` are those that differ from ours."""
    steps = [Step("pause", (cg.SCOPE_PAUSE,), "exec")] if where.enter_scope else []
    steps += _enter(place)
    steps.append(Step("join-pid", (str(pid), str(started), ",".join(kinds)), "exec"))
    steps += [Step("clone", ("",), "exec"), Step("enter", (), "exec")]
    if "user" in kinds:
        steps.append(Step("become-root", (), "exec"))
    steps.append(Step("new-session", (), "exec"))
    if where.console_fd >= 0:
        steps.append(Step("console", (str(where.console_fd), "0", "0", "0"), "process.terminal"))
    if where.pdeathsig:
        steps.append(Step("pdeathsig", ("9",), "exec"))
    steps += _program(argv)
    return Plan(tuple(steps))


def asked_of_runtime(spec: Spec, place: CgroupPlacement) -> Spec:
    """The specification for the runtime: what the room has is not made again."""
    ns = read_namespaces(spec.linux)
    linux = spec.linux._replace(
        namespaces=tuple(_namespaces(ns, spec.linux.namespaces)),
        uid_mappings=(),
        gid_mappings=(),
        sysctl={k: v for k, v in spec.linux.sysctl.items() if not _of_network(k)},
        cgroups_path=f"/{INNER}" if place.directories else "",
    )
    return spec._replace(oci_version=VERSION, linux=linux)


def _namespaces(ns: Namespaces, listed: tuple[Namespace, ...]) -> Iterator[Namespace]:
    """A pid and a mount namespace are made below the room's; a network is the room's, whoever made it."""
    for namespace in listed:
        kind = KINDS[namespace.type]
        if kind == "user":
            continue
        if kind == "net" or (namespace.path and kind != "mnt"):
            yield Namespace(namespace.type, f"/proc/self/ns/{kind}")
        else:
            yield Namespace(namespace.type)


def inner(place: CgroupPlacement) -> CgroupPlacement:
    """Where the runtime puts the container. It removes that itself: whether memory ran out is only seen above, which
    v2 tells and v1 does not."""
    return place._replace(
        v1=tuple(p._replace(directory=f"{p.directory}/{INNER}") for p in place.v1),
        v2=f"{place.v2}/{INNER}" if place.v2 else "",
    )


def _step_aside(place: CgroupPlacement) -> Iterator[Step]:
    """C leaves the container's cgroup on v2 for one below it, and then has controllers for the runtime to give on. Not
    earlier: the cgroup it is in when it unshares is the root of what it may move processes in (`nsdelegate`)."""
    if not place.v2:
        return
    yield Step("mkdir", (f"{place.v2}/{OUTER}", "755"), cg.ORIGIN)
    yield Step("write", (f"{place.v2}/{OUTER}/cgroup.procs", "0"), cg.ORIGIN)
    if place.v2_controllers:
        give = " ".join(f"+{c}" for c in place.v2_controllers)
        yield Step("write", (f"{place.v2}/cgroup.subtree_control", give), cg.ORIGIN, optional=True)


def _enter(place: CgroupPlacement) -> Iterator[Step]:
    return cg.join_steps(place._replace(v2=f"{place.v2}/{OUTER}" if place.v2 else ""))


def _shown_cgroups(place: CgroupPlacement, facts: HostFacts) -> list[tuple[str, str]]:
    """(the container's cgroup, where that hierarchy is mounted). Of a hybrid machine only v1 is shown: its v2 side has
    no use here, and crun refuses such a mixture."""
    if not facts.cgroups_v1:
        return [(place.v2, facts.cgroup_v2.mount)] if facts.cgroup_v2 and place.v2 else []
    found = ((place.path_of(h.controllers), h.mount) for h in facts.cgroups_v1)
    return [(directory, mount) for directory, mount in found if directory]


def _open_cgroups(shown: list[tuple[str, str]]) -> Iterator[Step]:
    for slot, (directory, _) in enumerate(shown):
        yield Step("open-tree", (str(slot), directory, "dir", "0", "0x0"), cg.ORIGIN)


def _show_cgroups(shown: list[tuple[str, str]], facts: HostFacts) -> Iterator[Step]:
    """What is mounted there goes first: runsc stumbles over mounts from outside of its cgroup namespace. Twice, for who
    has mounted something over it already."""
    attributes = f"{NOSUID | NODEV | NOEXEC:#x}"
    if not shown:
        if facts.cgroup_v2 and facts.cgroups_v1:  # a user's: covered, what is mounted there is locked
            yield Step("mount", ("tmpfs", "tmpfs", facts.cgroup_v2.mount, attributes, "mode=755"), cg.ORIGIN)
        return
    for _ in range(2):
        yield Step("umount", (CGROUPS,), cg.ORIGIN, optional=True)
    if shown[0][1] != CGROUPS:
        yield Step("mount", ("tmpfs", "tmpfs", CGROUPS, attributes, "mode=755"), cg.ORIGIN)
    for slot, (_, mount) in enumerate(shown):
        yield Step("bind", (f"@{slot}", mount, "dir", "0", "0x0", "0x0", "0x0", "0x0", "0x0"), cg.ORIGIN)


def _of_network(name: str) -> bool:
    return sysctl_path(name).startswith("net/")


def _network_sysctls(sysctls: Mapping[str, str]) -> dict[str, str]:
    """Runtimes refuse them for a namespace that they have not made."""
    return {name: value for name, value in sysctls.items() if _of_network(name)}


def _program(argv: tuple[str, ...]) -> Iterator[Step]:
    yield Step("env", (_PATH, "HOME=/"), ORIGIN)
    yield Step("exec", argv, ORIGIN)
