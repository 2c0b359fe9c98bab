"""Reads `HostFacts` from the kernel: a dozen small files of /proc, less than a millisecond.

Every command that starts a container pays for this, so nothing is asked that no plan needs, nothing is
started, and what is rarely wanted (where a helper program lies) is looked up when it is asked for.
"""

from __future__ import annotations

import os
import pwd

from knarr.plan.facts import CgroupV1, CgroupV2, HostFacts, SubIds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# PROC_USER_INIT_INO of the kernel's include/linux/proc_ns.h: the initial user namespace has this number by contract.
INITIAL_USERNS = "user:[4026531837]"

# Where administrators' programs live; an ordinary user's PATH often lacks them.
_EXTRA_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"

_RANGES = 339  # the kernel takes a map of 340 lines, and one is the user's own id


def read_facts() -> HostFacts:
    """This machine as this process sees it. Never fails: what cannot be read is absent."""
    uname = os.uname()
    euid = os.geteuid()
    egid = os.getegid()
    owner = range_owner(euid)
    user = user_name(owner)
    mountinfo = _read("/proc/self/mountinfo")
    v1, v2 = cgroup_hierarchies(mountinfo, _read("/proc/self/cgroup"))
    return HostFacts(
        kernel=kernel_version(uname.release),
        arch=uname.machine,
        euid=euid,
        egid=egid,
        user=user,
        capabilities=effective_capabilities(_read("/proc/self/status")),
        last_cap=_number(_read("/proc/sys/kernel/cap_last_cap"), 40),
        cgroups_v1=v1,
        cgroup_v2=_with_controllers(v2) if v2 else None,
        systemd=os.path.isdir("/run/systemd/system"),
        nofile_hard=open_files_limit(_read("/proc/self/limits")),
        subuids=sub_ids(_read("/etc/subuid"), user, owner, euid),
        subgids=sub_ids(_read("/etc/subgid"), user, owner, egid),
        tools=Tools(os.environ.get("PATH", "")),
        apparmor=_read("/sys/module/apparmor/parameters/enabled").startswith("Y"),
        selinux=os.path.exists("/sys/fs/selinux/enforce"),
        resctrl=mounted(mountinfo, "resctrl"),
        initial_userns=in_initial_userns(),
    )


class Tools(dict[str, str]):
    """Helper programs by name, each searched for when it is first asked for: in PATH, then where administrators' lie.

    As with any mapping, a program that is not there is a missing key. Iterating gives the programs found so far.
    """

    # A dict, not a `Mapping`: that is an import of 0.6 ms in each command.
    __slots__ = ("_asked", "_path")

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = tuple(d for d in dict.fromkeys(f"{path}:{_EXTRA_PATH}".split(":")) if d[:1] == "/")
        self._asked: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        if name not in self._asked:
            if path := self._search(name):
                self[name] = path
            self._asked.add(name)  # last: another thread that asks meanwhile searches as well
        return super().get(name, default)

    def __getitem__(self, name: str) -> str:
        self.get(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def _search(self, name: str) -> str:
        for directory in self._path:
            candidate = f"{directory}/{name}"
            if os.access(candidate, os.X_OK) and os.path.isfile(candidate):
                return candidate
        return ""


def range_owner(euid: int) -> int:
    """The user whose subordinate ids and directories count: inside the user namespace knarr made, the one outside."""
    outer = os.environ.get("KNARR_USERNS", "")
    return int(outer) if euid == 0 and outer.isdecimal() and not in_initial_userns() else euid


def user_name(uid: int) -> str:
    """The name of a user of this machine, "" when there is none."""
    if uid == 0:
        return "root"  # half a millisecond of name service modules that nobody needs
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return ""


def in_initial_userns() -> bool:
    """Is this the machine's first user namespace. (An identity uid_map proves nothing: a nested one can have it.)"""
    try:
        return os.readlink("/proc/self/ns/user") == INITIAL_USERNS
    except OSError:
        return True  # a kernel without user namespaces


def kernel_version(release: str) -> tuple[int, int]:
    """`6.18.44-amd64` → (6, 18); (0, 0) for what is no version."""
    major, _, rest = release.partition(".")
    minor = rest[: next((i for i, c in enumerate(rest) if not c.isdecimal()), len(rest))]
    return (int(major), int(minor or 0)) if major.isdecimal() else (0, 0)


def effective_capabilities(status: str) -> int:
    """The effective set in /proc/PID/status as a mask."""
    return _field(status, "\nCapEff:", 16)


def open_files_limit(limits: str) -> int:
    """The hard limit of open files in /proc/PID/limits (the `resource` module costs a millisecond to load)."""
    at = limits.find("Max open files")
    words = limits[at : limits.find("\n", at)].split() if at >= 0 else []
    return int(words[4]) if len(words) > 4 and words[4].isdecimal() else 1 << 20


def sub_ids(text: str, user: str, uid: int, own: int) -> tuple[SubIds, ...]:
    """The ranges that /etc/subuid or /etc/subgid gives a user, by name or number (subuid(5)), as they can be mapped
    beside the user's `own` id: the kernel refuses a map as a whole when two of its lines overlap."""
    names = {user, str(uid)} - {""}
    found: list[SubIds] = []
    room = (1 << 32) - 2  # id 4294967295 is nobody's, and 0 inside is the user
    for line in text.split("\n"):
        fields = line.strip().split(":")
        if len(fields) == 3 and fields[0] in names and fields[1].isdecimal() and fields[2].isdecimal():
            start, count = int(fields[1]), min(int(fields[2]), room)
            taken = any(start < t + n and t < start + count for t, n in ((own, 1), *found))
            if count > 0 and start + count < 1 << 32 and not taken and len(found) < _RANGES:
                found.append(SubIds(start, count))
                room -= count
    return tuple(found)


def cgroup_hierarchies(mountinfo: str, own: str) -> tuple[tuple[CgroupV1, ...], CgroupV2 | None]:
    """The mounted hierarchies and this process's place in each, from /proc/self/mountinfo and /proc/self/cgroup.

    The same hierarchy may be mounted more than once; one below /sys/fs/cgroup is preferred, and of those on the same
    path the last is the one that is seen.
    """
    places = _places(own)
    v1: dict[str, CgroupV1] = {}
    v2: CgroupV2 | None = None
    for line in mountinfo.split("\n"):
        if " - cgroup" not in line:
            continue
        left, _, right = line.partition(" - ")
        words, (kind, _, options) = left.split(" "), (right.split(" ") + ["", ""])[:3]
        root, mount = _unescape(words[3]), _unescape(words[4])
        if kind == "cgroup2":
            if v2 is None or _preferred(mount, v2.mount):
                v2 = CgroupV2((), mount, _below(root, places.get("", "/")))
        elif kind == "cgroup":
            given = set(options.split(","))
            for names, place in places.items():
                controllers = tuple(names.split(","))
                if names and given.issuperset(controllers):
                    if names not in v1 or _preferred(mount, v1[names].mount):
                        v1[names] = CgroupV1(controllers, mount, _below(root, place))
    return tuple(v1.values()), v2


def mounted(mountinfo: str, kind: str) -> str:
    """Where a filesystem of that type is mounted, "" when it is nowhere."""
    before, found, _ = mountinfo.partition(f" - {kind} ")
    return _unescape(before.rpartition("\n")[2].split(" ")[4]) if found else ""


def _preferred(mount: str, earlier: str) -> bool:
    usual = "/sys/fs/cgroup"
    return mount == earlier or (mount.startswith(usual) and not earlier.startswith(usual))


def _places(text: str) -> dict[str, str]:
    """/proc/PID/cgroup: controllers, as `cpu,cpuacct`, to the cgroup; the unified hierarchy is ""."""
    found = {}
    for line in text.split("\n"):
        fields = line.split(":", 2)
        if len(fields) == 3:
            found[fields[1]] = fields[2].removesuffix(" (deleted)")
    return found


def _below(root: str, place: str) -> str:
    """A cgroup's path below its mount point, where the mount may show only a part of the hierarchy (in a container).

    A place outside of what is mounted, or of the cgroup namespace (`/../x`), is taken as the mount's root.
    """
    if root != "/":
        if place != root and not place.startswith(root + "/"):
            return "/"
        place = place[len(root) :] or "/"
    return "/" if place.startswith("/..") else place


def _with_controllers(v2: CgroupV2) -> CgroupV2:
    own = v2.mount + v2.own.rstrip("/")
    return v2._replace(
        controllers=tuple(_read(f"{v2.mount}/cgroup.controllers").split()),
        own_controllers=tuple(_read(f"{own}/cgroup.controllers").split()),
        # Both: a child is made in the directory, processes are moved through cgroup.procs (cgroups(7), delegation).
        own_writable=os.access(own, os.W_OK | os.X_OK) and os.access(f"{own}/cgroup.procs", os.W_OK),
        whole=not os.path.exists(f"{v2.mount}/cgroup.type"),  # which every cgroup but the true root has
    )


def _unescape(word: str) -> str:
    """mountinfo writes blanks, newlines and backslashes as three octal digits."""
    if "\\" not in word:
        return word
    for code in (" ", "\t", "\n", "\\"):
        word = word.replace(f"\\{ord(code):03o}", code)
    return word


def _field(text: str, name: str, base: int) -> int:
    at = text.find(name)
    if at < 0:
        return 0
    words = text[at + len(name) : at + len(name) + 40].split()
    return int(words[0], base) if words else 0


def _number(text: str, default: int) -> int:
    text = text.strip()
    return int(text) if text.isdecimal() else default


def _read(path: str) -> str:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        chunks = []
        while chunk := os.read(fd, 65536):
            chunks.append(chunk)
    except OSError:
        return ""
    finally:
        os.close(fd)
    return b"".join(chunks).decode("utf-8", "surrogateescape")
