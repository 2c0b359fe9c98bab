"""`spec`: a config.json to begin with: a shell in a root filesystem beside it, guarded as a container should be."""

from __future__ import annotations

from knarr.oci.spec import (
    OCI_VERSION,
    Capabilities,
    DeviceRule,
    IdMap,
    Linux,
    Mount,
    Namespace,
    Process,
    Resources,
    Rlimit,
    Root,
    Spec,
)
from knarr.plan.defaults import MASKED_PATHS, READONLY_PATHS

_CAPABILITIES = ("CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE")
_NAMESPACES = ("pid", "network", "ipc", "uts", "mount")


def template(*, unified: bool) -> Spec:
    """For root. `unified`: cgroup v2 alone, where a cgroup namespace is what shows a container only its own part."""
    kinds = (*_NAMESPACES, "cgroup") if unified else _NAMESPACES
    return Spec(
        OCI_VERSION,
        root=Root("rootfs", readonly=True),
        hostname="knarr",
        process=Process(
            "/",
            args=("sh",),
            terminal=True,
            env=("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"),
            capabilities=Capabilities(
                bounding=_CAPABILITIES, effective=_CAPABILITIES, permitted=_CAPABILITIES
            ),
            rlimits=(Rlimit("RLIMIT_NOFILE", hard=1024, soft=1024),),
            no_new_privileges=True,
        ),
        mounts=(
            Mount("/proc", "proc", "proc"),
            Mount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
            Mount("/dev/pts", "devpts", "devpts", (*_DEVPTS, "gid=5")),
            Mount("/dev/shm", "shm", "tmpfs", (*_HIDDEN, "mode=1777", "size=65536k")),
            Mount("/dev/mqueue", "mqueue", "mqueue", _HIDDEN),
            Mount("/sys", "sysfs", "sysfs", (*_HIDDEN, "ro")),
            Mount("/sys/fs/cgroup", "cgroup", "cgroup", (*_HIDDEN, "relatime", "ro")),
        ),
        linux=Linux(
            namespaces=tuple(Namespace(kind) for kind in kinds),
            resources=Resources(devices=(DeviceRule(False, access="rwm"),)),
            masked_paths=MASKED_PATHS,
            readonly_paths=READONLY_PATHS,
        ),
    )


_HIDDEN = ("nosuid", "noexec", "nodev")
_DEVPTS = ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620")


def rootless(spec: Spec, uid: int, gid: int) -> Spec:
    """The same for a user who is root inside: no limits, no group of terminals, the host's /sys and network."""
    mounts = [
        m._replace(options=_DEVPTS)
        if m.type == "devpts"
        else Mount("/sys", "/sys", "none", ("rbind", *_HIDDEN, "ro"))
        if m.destination == "/sys"
        else m
        for m in spec.mounts
        if m.type != "cgroup"
    ]
    kinds = tuple(n for n in spec.linux.namespaces if n.type != "network")
    linux = spec.linux._replace(
        namespaces=(*kinds, Namespace("user")),
        uid_mappings=(IdMap(0, uid, 1),),
        gid_mappings=(IdMap(0, gid, 1),),
        resources=Resources(),
    )
    return spec._replace(mounts=tuple(mounts), linux=linux)
