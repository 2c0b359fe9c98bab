"""HostFacts: what a plan must know of the machine. A value; `knarr.host.facts` reads it from the kernel."""

from __future__ import annotations

from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class CgroupV1(Record):
    """One mounted cgroup v1 hierarchy. `controllers` as in its mount options (`cpu,cpuacct` gives two)."""

    controllers: tuple[str, ...]  # a named hierarchy: ("name=systemd",)
    mount: str  # "/sys/fs/cgroup/memory"
    own: str  # this process's cgroup in it, "/" or "/a/b", relative to the mount


class CgroupV2(Record):
    """The unified hierarchy, whether alone or beside v1 hierarchies (hybrid)."""

    controllers: tuple[str, ...]  # cgroup.controllers at its root
    mount: str  # "/sys/fs/cgroup" or "/sys/fs/cgroup/unified"
    own: str
    own_controllers: tuple[str, ...] = ()  # available to children of `own`: its cgroup.controllers
    own_writable: bool = False  # may this process make children of `own`
    whole: bool = True  # the mount shows the hierarchy's true root, not a part of it (as in a container)


class SubIds(Record):
    start: int
    count: int  # type: ignore[assignment]  # shadows tuple.count, which nobody calls


class HostFacts(Record):
    """Everything is read once per command; nothing here is policy."""

    kernel: tuple[int, int]  # (6, 18)
    arch: str  # os.uname().machine: x86_64, aarch64
    euid: int
    egid: int
    user: str = ""  # name of euid, "" when passwd has none
    capabilities: int = 0  # effective set, as a bit mask
    last_cap: int = 40
    cgroups_v1: tuple[CgroupV1, ...] = ()
    cgroup_v2: CgroupV2 | None = None
    systemd: bool = False  # /run/systemd/system exists
    nofile_hard: int = 1 << 20
    subuids: tuple[SubIds, ...] = ()
    subgids: tuple[SubIds, ...] = ()
    tools: Mapping[str, str] = {}  # found helper programs: newuidmap newgidmap nft slirp4netns pasta …
    apparmor: bool = False
    selinux: bool = False
    resctrl: str = ""  # where it is mounted
    initial_userns: bool = True  # is this the initial user namespace

    def has_cap(self, number: int) -> bool:
        return bool(self.capabilities >> number & 1)

    @property
    def rootless(self) -> bool:
        """Not root, or root of a user namespace only: devices and cgroups of the host are out of reach."""
        return self.euid != 0 or not self.initial_userns
