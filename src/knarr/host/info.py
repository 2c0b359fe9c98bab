"""What `knarr info` tells about the machine: names and values, no judgement (that is the doctor's)."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.host.machine import Machine


def machine_info(m: Machine) -> dict[str, str]:
    """In the order they are printed. Sizes are in bytes, as text; what is unknown is absent."""
    f = m.facts
    found = {
        "kernel": ".".join(map(str, f.kernel)),
        "operating system": os_name(m.read("/etc/os-release")),
        "architecture": f.arch,
        "cpus": str(len(os.sched_getaffinity(0))),
        "memory bytes": memory_total(m.read("/proc/meminfo")),
        "user": f"{f.user or f.euid} ({'rootless' if f.rootless else 'root'})",
        "root": m.paths.root,
        "run": m.paths.run,
        "filesystem": m.filesystem_of(m.paths.root),
        "free bytes": str(m.free_bytes(m.paths.root) or ""),
        "cgroups": cgroup_layout(m),
        "systemd": "yes" if f.systemd else "no",
        "security": " ".join(security(m)),
        "subordinate ids": str(sum(r[1] for r in f.subuids)) if f.rootless else "",
    }
    return {name: value for name, value in found.items() if value}


def cgroup_layout(m: Machine) -> str:
    """`v2`, `v1`, `hybrid` (v1, with v2 beside it) or `none`."""
    if m.facts.cgroup_v2:
        return "hybrid" if m.facts.cgroups_v1 else "v2"
    return "v1" if m.facts.cgroups_v1 else "none"


def security(m: Machine) -> list[str]:
    """docker's SecurityOptions, as words."""
    words = ["seccomp"] if "\nSeccomp:" in m.read("/proc/self/status") else []
    words += ["apparmor"] if m.facts.apparmor else []
    words += ["selinux"] if m.facts.selinux else []
    return words + (["rootless"] if m.facts.rootless else [])


def os_name(os_release: str) -> str:
    """PRETTY_NAME of os-release(5)."""
    for line in os_release.split("\n"):
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip("\"' ")
    return ""


def memory_total(meminfo: str) -> str:
    """MemTotal of /proc/meminfo in bytes."""
    for line in meminfo.split("\n"):
        words = line.split()
        if len(words) == 3 and words[0] == "MemTotal:" and words[1].isdecimal():
            return str(int(words[1]) * 1024)
    return ""
