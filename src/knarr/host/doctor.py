"""What `knarr doctor` says: for all that a container needs, does this machine have it, and the command that mends it.

Each check is a small function from a `Machine` to a `Check`, so that a test can be any machine. The order is that of
the table at the end: what everything stands on comes first.
"""

from __future__ import annotations

from knarr.errors import KnarrError
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from knarr.host.machine import Machine
    from knarr.plan.facts import HostFacts

OK = "ok"
WARN = "warn"  # something is slower, or a feature is missing
MISSING = "missing"  # containers do not run without it

OLDEST_KERNEL = (5, 12)  # mount_setattr(2)
_MIB = 1 << 20


class Check(Record):
    """`meaning`: what is the case and what follows from it. `mend`: the command to type, "" where there is none."""

    name: str
    status: str
    meaning: str
    mend: str = ""


def checks(machine: Machine) -> Iterator[Check]:
    """All checks, one after another; some start a program."""
    for check in _CHECKS:
        yield check(machine)


def kernel(m: Machine) -> Check:
    """The system calls every plan uses."""
    version = ".".join(map(str, m.facts.kernel))
    if m.facts.kernel < OLDEST_KERNEL:
        return Check(
            "kernel", MISSING, f"Linux {version}; knarr needs 5.12 or newer", "install a newer kernel"
        )
    return Check("kernel", OK, f"Linux {version} on {m.facts.arch}")


def native_program(m: Machine) -> Check:
    """Is the executor there, and does it run on this machine."""
    try:
        return Check("native program", OK, m.native())
    except KnarrError as e:
        return Check("native program", MISSING, e.message, e.hint or "install knarr again")


def user_namespaces(m: Machine) -> Check:
    """Needed by everybody but root."""
    name, meaning = "user namespaces", "an ordinary user cannot run containers"
    if not m.exists("/proc/self/ns/user"):
        return Check(
            name, MISSING, f"this kernel has none: {meaning}", "install a kernel with CONFIG_USER_NS"
        )
    if m.sysctl("user.max_user_namespaces") == "0":
        return Check(
            name, _for_users(m), f"none are allowed: {meaning}", _set_sysctl("user.max_user_namespaces=15000")
        )
    if m.sysctl("kernel.unprivileged_userns_clone") == "0":
        return Check(
            name,
            _for_users(m),
            f"only root may make them: {meaning}",
            _set_sysctl("kernel.unprivileged_userns_clone=1"),
        )
    if m.sysctl("kernel.apparmor_restrict_unprivileged_userns") == "1":
        return Check(
            name,
            _for_users(m),
            f"AppArmor takes the rights away in those of ordinary users: {meaning}",
            _set_sysctl("kernel.apparmor_restrict_unprivileged_userns=0"),
        )
    return Check(name, OK, "allowed")


def sub_id_ranges(m: Machine) -> Check:
    """More than one id in a rootless container."""
    from knarr.host.userns import missing

    name = "subordinate ids"
    f = m.facts
    if f.euid == 0 and f.initial_userns:
        return Check(name, OK, "root needs none")
    reason = missing(f)
    who = f.user or str(f.euid)
    if reason.endswith("not installed"):
        return Check(name, WARN, f"{reason}: containers have one user only", m.install("newuidmap"))
    if reason:
        first = _free_range(m.read("/etc/subuid") + "\n" + m.read("/etc/subgid"))
        ids = f"{first}-{first + 65535}"
        mend = f"sudo usermod --add-subuids {ids} --add-subgids {ids} {who}"
        return Check(name, WARN, f"{reason}: containers have one user only", mend)
    total = sum(r[1] for r in f.subuids)
    if total < 65536:
        return Check(name, WARN, f"{total} for {who}: images with larger ids do not unpack", "see subuid(5)")
    return Check(name, OK, f"{total} for {who}")


def _free_range(subids: str) -> int:
    """The first id above everybody's ranges: two users with the same ids could reach each other's files."""
    ends = [100_000]
    for line in subids.split("\n"):
        words = line.strip().split(":")
        if len(words) == 3 and words[1].isdecimal() and words[2].isdecimal():
            ends.append(int(words[1]) + int(words[2]))
    return max(ends)


def id_map_helpers(m: Machine) -> Check:
    """newuidmap is there, but a copied or unpacked file system loses what makes it work."""
    name = "newuidmap, newgidmap"
    if m.facts.euid == 0 and m.facts.initial_userns:
        return Check(name, OK, "root needs none")
    for tool in ("newuidmap", "newgidmap"):
        path = m.facts.tools.get(tool)
        if path is None:
            return Check(
                name, WARN, f"{tool} is not installed: containers have one user only", m.install(tool)
            )
        found = m.stat(path)
        set_uid_root = found is not None and found.st_mode & 0o4000 and found.st_uid == 0
        if not set_uid_root and not m.has_file_caps(path):
            return Check(
                name, WARN, f"{path} is neither set-uid root nor has capabilities", f"sudo chmod u+s {path}"
            )
    return Check(name, OK, "set-uid root, or with capabilities")


def overlay(m: Machine) -> Check:
    """Layers are mounted over each other."""
    listed = "\toverlay" in m.read("/proc/filesystems") or m.exists("/sys/module/overlay")
    if not listed:
        status = MISSING if m.facts.euid == 0 else WARN
        return Check(
            "overlay",
            status,
            "not loaded; it may load by itself when root mounts one",
            "sudo modprobe overlay",
        )
    kind = m.filesystem_of(m.paths.root)
    if kind in ("overlay", "nfs", "nfs4", "vfat", "exfat", "9p"):
        return Check(
            "overlay", MISSING, f"{m.paths.root} is on {kind}, which cannot hold layers",
            "put knarr's root elsewhere: --root, or KNARR_ROOT",
        )  # fmt: skip
    if m.facts.rootless and m.facts.kernel < (5, 11):
        return Check("overlay", WARN, "not in user namespaces before Linux 5.11", "install a newer kernel")
    return Check("overlay", OK, f"on {kind or 'an unknown filesystem'}")


def cgroups(m: Machine) -> Check:
    """Which hierarchy, and may this user make cgroups."""
    f = m.facts
    controllers = _controllers(f)
    wanted = [c for c in ("cpu", "memory", "pids", "cpuset", "freezer") if c not in controllers]
    if f.cgroup_v2 and not f.cgroups_v1:
        layout = "v2"
        wanted = [c for c in wanted if c != "freezer"]
    elif f.cgroup_v2:
        layout = "v1, with v2 beside it"
    elif f.cgroups_v1:
        layout = "v1"
    else:
        return Check(
            "cgroups",
            WARN,
            "none are mounted: no limit can be applied",
            "mount -t cgroup2 none /sys/fs/cgroup",
        )
    if wanted:
        return Check("cgroups", WARN, f"{layout}; missing controllers: {' '.join(wanted)}", "see cgroups(7)")
    return Check("cgroups", OK, f"{layout}: {' '.join(sorted(controllers))}")


def cgroup_delegation(m: Machine) -> Check:
    """A user's cgroups: only v2, only where somebody gave them a part of it."""
    name, f = "cgroup delegation", m.facts
    if not f.rootless:
        return Check(name, OK, "root needs none")
    what = "limits (--memory, --cpus, --pids-limit) of rootless containers are not applied"
    if f.cgroups_v1:
        return Check(
            name,
            WARN,
            f"cgroup v1 is root's: {what}",
            "boot with systemd.unified_cgroup_hierarchy=1 on the kernel's line",
        )
    given = f.cgroup_v2.own_controllers if f.cgroup_v2 and f.cgroup_v2.own_writable else ()
    if f.systemd and not given:
        # A login session's cgroup is not the user's; their own systemd hands out parts of what it has got.
        given = tuple(
            m.read(
                f"/sys/fs/cgroup/user.slice/user-{f.euid}.slice/user@{f.euid}.service/cgroup.controllers"
            ).split()
        )
    lacking = [c for c in ("cpu", "memory", "pids") if c not in given]
    if lacking:
        return Check(
            name,
            WARN,
            f"{' '.join(lacking)} not delegated: {what}",
            _DELEGATE if f.systemd else "see cgroups(7)",
        )
    return Check(name, OK, " ".join(given))


_DELEGATE = (
    "sudo mkdir -p /etc/systemd/system/user@.service.d && "
    "printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' | "
    "sudo tee /etc/systemd/system/user@.service.d/delegate.conf && sudo systemctl daemon-reload"
)


def systemd(m: Machine) -> Check:
    """Nothing needs it; where it is, it owns the cgroups."""
    return Check("systemd", OK, "running" if m.facts.systemd else "not running; not needed")


def firewall(m: Machine) -> Check:
    """Published ports and the way out of the default network, for root."""
    if m.facts.rootless:
        return Check("nftables", OK, "not needed without root")
    if "nft" in m.facts.tools:
        return Check("nftables", OK, m.facts.tools["nft"])
    what = "no network of containers reaches the outside, no port is published"
    if "iptables" in m.facts.tools:
        what += " (iptables alone is not used)"
    return Check("nftables", WARN, f"nft is not installed: {what}", m.install("nft"))


def forwarding(m: Machine) -> Check:
    """knarr switches it on with its first bridge; something else may switch it off again."""
    if m.facts.rootless:
        return Check("ip forwarding", OK, "not needed without root")
    if m.sysctl("net.ipv4.ip_forward") == "1":
        return Check("ip forwarding", OK, "on")
    return Check("ip forwarding", OK, "off; the first container on a bridge switches it on")


def user_network(m: Machine) -> Check:
    """The network of rootless containers."""
    found = [tool for tool in ("pasta", "slirp4netns") if tool in m.facts.tools]
    if found and m.opens("/dev/net/tun"):
        return Check("rootless network", OK, ", ".join(m.facts.tools[t] for t in found))
    if found:
        return Check(
            "rootless network",
            WARN if m.facts.rootless else OK,
            "/dev/net/tun cannot be opened",
            "sudo modprobe tun && sudo chmod 666 /dev/net/tun",
        )
    status = WARN if m.facts.rootless else OK
    return Check(
        "rootless network", status, "neither pasta nor slirp4netns: --network none and host are all a user has",
        m.install("slirp4netns"),
    )  # fmt: skip


def seccomp(m: Machine) -> Check:
    """System calls are filtered."""
    if "\nSeccomp:" in m.read("/proc/self/status"):
        return Check("seccomp", OK, "filters are supported")
    return Check(
        "seccomp",
        WARN,
        "this kernel has none: containers run without a filter",
        "use a kernel with CONFIG_SECCOMP_FILTER",
    )


def security_modules(m: Machine) -> Check:
    """Not needed; said because it explains refusals."""
    active = [name for name, on in (("AppArmor", m.facts.apparmor), ("SELinux", m.facts.selinux)) if on]
    return Check("security modules", OK, ", ".join(active) or "none")


def fuse(m: Machine) -> Check:
    """fuse-overlayfs and lazy pulling."""
    if m.opens("/dev/fuse"):
        return Check("fuse", OK, "/dev/fuse")
    return Check("fuse", OK, "/dev/fuse cannot be opened; only lazy pulling and fuse-overlayfs want it")


def kvm(m: Machine) -> Check:
    """Runtimes that are virtual machines."""
    if m.opens("/dev/kvm"):
        return Check("kvm", OK, "/dev/kvm")
    return Check("kvm", OK, "/dev/kvm cannot be opened; only runtimes that are virtual machines want it")


def rights(m: Machine) -> Check:
    """Root in a container is less than root."""
    f = m.facts
    if f.euid != 0:
        return Check("privileges", OK, f"user {f.user or f.euid}: rootless")
    if not f.initial_userns:
        return Check("privileges", OK, "root of a user namespace: rootless")
    lacking = [
        name for name, number in (("CAP_SYS_ADMIN", 21), ("CAP_NET_ADMIN", 12)) if not f.has_cap(number)
    ]
    if lacking:
        return Check(
            "privileges",
            MISSING,
            f"root without {', '.join(lacking)}",
            "start knarr outside of the container it is in",
        )
    if not f.has_cap(24):
        return Check(
            "privileges", WARN, "root without CAP_SYS_RESOURCE: limits cannot be raised above knarr's own"
        )
    return Check("privileges", OK, "root")


def space(m: Machine) -> Check:
    """Room for images."""
    free = m.free_bytes(m.paths.root)
    if free is None:
        return Check(
            "disk space", WARN, f"{m.paths.root} cannot be looked at", "choose another place with --root"
        )
    text = f"{free // _MIB} MiB free in {m.paths.root}"
    return (
        Check("disk space", WARN, text, "knarr rmi IMAGE")
        if free < 1024 * _MIB
        else Check("disk space", OK, text)
    )


_CHECKS = (
    kernel, native_program, rights, user_namespaces, sub_id_ranges, id_map_helpers, overlay, space, cgroups,
    cgroup_delegation, systemd, firewall, forwarding, user_network, seccomp, security_modules, fuse, kvm,
)  # fmt: skip


def _for_users(m: Machine) -> str:
    """What only an ordinary user needs is no fault of a machine where knarr is root's."""
    return MISSING if m.facts.euid != 0 else WARN


def _set_sysctl(setting: str) -> str:
    return f"echo {setting} | sudo tee /etc/sysctl.d/99-knarr.conf && sudo sysctl --system"


def _controllers(f: HostFacts) -> set[str]:
    """The controllers this machine offers, by their names of v1 (v2's io is blkio)."""
    found = {c for h in f.cgroups_v1 for c in h.controllers if "=" not in c}
    if f.cgroup_v2:
        found.update("blkio" if c == "io" and f.cgroups_v1 else c for c in f.cgroup_v2.controllers)
    return found
