"""What a container has when nobody says otherwise: mounts, devices, capabilities, guarded paths, namespaces.

They are docker's, because images and habits expect them. The engine puts the parts into a `Spec`.
"""

from __future__ import annotations

from knarr.oci.spec import Capabilities, DeviceRule, IdMap, Mount, Namespace
from knarr.plan.capabilities import cap_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from knarr.plan.facts import HostFacts

CAPABILITIES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
    "CAP_AUDIT_WRITE",
)  # fmt: skip

MASKED_PATHS = (
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
    "/sys/devices/virtual/powercap",
)  # fmt: skip
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

# Which devices may be used at all (config-linux.md, Allowed Device list). Making any node is harmless: the
# node of a device that is not listed cannot be opened.
DEVICE_RULES = (
    DeviceRule(False, "a", None, None, "rwm"),
    DeviceRule(True, "c", None, None, "m"),
    DeviceRule(True, "b", None, None, "m"),
    *(DeviceRule(True, "c", 1, minor, "rwm") for minor in (3, 5, 7, 8, 9)),
    *(DeviceRule(True, "c", 5, minor, "rwm") for minor in (0, 1, 2)),
    DeviceRule(True, "c", 136, None, "rwm"),
)
ALL_DEVICES = (DeviceRule(True, "a", None, None, "rwm"),)

HOSTNAME_MAX = 64
SHM_SIZE_BYTES = 64 << 20


def capabilities(names: Sequence[str]) -> Capabilities:
    """Docker's arrangement: the workload has them if it is root; none is inheritable or ambient, so that a
    change of user gives them up."""
    held = tuple(names)
    return Capabilities(bounding=held, effective=held, permitted=held)


def all_capabilities(facts: HostFacts, *, in_userns: bool) -> tuple[str, ...]:
    """For `--privileged` and `--cap-add ALL`: what this process can give, which is all inside a user namespace."""
    return cap_names((1 << facts.last_cap + 1) - 1 if in_userns else facts.capabilities)


def namespaces(
    *,
    user: bool,
    network: str = "new",
    ipc: str = "new",
    pid: str = "new",
    uts: str = "new",
    cgroup: str = "new",
) -> tuple[Namespace, ...]:
    """Each word is `new`, `host`, or the path of another's namespace file."""
    listed = [
        ("mount", "new"),
        ("network", network),
        ("uts", uts),
        ("pid", pid),
        ("ipc", ipc),
        ("cgroup", cgroup),
    ]
    if user:
        listed.insert(0, ("user", "new"))
    return tuple(Namespace(kind, "" if how == "new" else how) for kind, how in listed if how != "host")


def mounts(
    facts: HostFacts,
    *,
    userns: bool = False,
    gids: Sequence[IdMap] = (),
    network: str = "new",
    ipc: str = "new",
    pid: str = "new",
    cgroup: str = "new",
    privileged: bool = False,
    shm_size_bytes: int = SHM_SIZE_BYTES,
    shm_path: str = "",
) -> tuple[Mount, ...]:
    """/proc /dev /dev/pts /sys /sys/fs/cgroup /dev/mqueue /dev/shm.

    In a user namespace the kernel lets one mount only instances of namespaces that belong to it: what is shared
    with the host is bound from the host instead. `shm_path` is another container's or the host's /dev/shm.
    """
    hidden = ("nosuid", "noexec", "nodev")
    guard = () if privileged else ("ro",)
    shared = userns or facts.rootless
    out = [
        Mount("/proc", "proc", "proc", hidden)
        if pid == "new" or not shared
        else Mount("/proc", "/proc", "bind", ("rbind", *hidden)),
        Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
        Mount("/dev/pts", "devpts", "devpts", _devpts(userns, gids)),
        Mount("/sys", "sysfs", "sysfs", (*hidden, *guard))
        if network == "new" or not shared
        else Mount("/sys", "/sys", "bind", ("rbind", "rslave", *hidden, *(f"r{g}" for g in guard))),
    ]
    if facts.cgroups_v1 or facts.cgroup_v2:
        out.append(Mount("/sys/fs/cgroup", "cgroup", "cgroup", (*hidden, *guard, "relatime")))
    if ipc == "new" or not shared:  # else it would have to be bound from a host that need not have it mounted
        out.append(Mount("/dev/mqueue", "mqueue", "mqueue", hidden))
    out.append(
        Mount("/dev/shm", shm_path, "bind", ("rbind", *hidden))
        if shm_path
        else Mount("/dev/shm", "shm", "tmpfs", (*hidden, "mode=1777", f"size={shm_size_bytes}"))
    )
    return tuple(out)


def _devpts(userns: bool, gids: Sequence[IdMap]) -> tuple[str, ...]:
    """Terminals belong to the group tty, 5, unless that is not mapped in here: the kernel then refuses the mount."""
    options = ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620")
    tty_mapped = not userns or any(m.container_id <= 5 < m.container_id + m.size for m in gids)
    return (*options, "gid=5") if tty_mapped else options


def user_maps(facts: HostFacts) -> tuple[tuple[IdMap, ...], tuple[IdMap, ...], str]:
    """(uid maps, gid maps, what it costs). The caller is root inside; the others are the caller's subordinate ids.
    Without those, or without the helpers that may map them, only root exists: the third value says so in one line."""
    if facts.euid == 0:
        whole = (IdMap(0, 0, 0xFFFFFFFF),)
        return whole, whole, ""
    missing = [tool for tool in ("newuidmap", "newgidmap") if tool not in facts.tools]
    if missing or not facts.subuids or not facts.subgids:
        lacking = " and ".join(missing) or "subordinate ids for this user in /etc/subuid and /etc/subgid"
        cost = f"no {lacking}: the container has one user only (root), files of others cannot be unpacked as theirs"
        return (IdMap(0, facts.euid, 1),), (IdMap(0, facts.egid, 1),), cost
    return _own_and_ranges(facts.euid, facts.subuids), _own_and_ranges(facts.egid, facts.subgids), ""


def _own_and_ranges(own: int, ranges: Sequence[tuple[int, int]]) -> tuple[IdMap, ...]:
    maps = [IdMap(0, own, 1)]
    inside = 1
    for start, count in ranges:
        maps.append(IdMap(inside, start, count))
        inside += count
    return tuple(maps)
