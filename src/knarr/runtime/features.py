"""`features`: what this runtime recognizes (features.md, features-linux.md), whatever this kernel can do."""

from __future__ import annotations

from knarr.oci.spec import OCI_VERSION
from knarr.plan import mount_options as options
from knarr.plan.bpf import OPERATORS
from knarr.plan.capabilities import NUMBER
from knarr.plan.hooks import KINDS as HOOKS
from knarr.plan.namespaces import KINDS as NAMESPACES
from knarr.plan.scheduling import MEMORY_FLAGS, MEMORY_MODES
from knarr.plan.seccomp import ACTIONS, ARCHITECTURES, FLAGS, FOREIGN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OLDEST_VERSION = "1.0.0"


def features(version: str) -> dict[str, Any]:
    """`version` is the program's own."""
    flags = sorted(FLAGS)
    return {
        "ociVersionMin": OLDEST_VERSION,
        "ociVersionMax": OCI_VERSION,
        "hooks": list(HOOKS.values()),
        "mountOptions": mount_words(),
        "linux": {
            "namespaces": sorted(NAMESPACES),
            "capabilities": list(NUMBER),
            "cgroup": {"v1": True, "v2": True, "systemd": True, "systemdUser": True, "rdma": True},
            "seccomp": {
                "enabled": True,
                "actions": sorted(ACTIONS),
                "operators": sorted(OPERATORS),
                "archs": sorted({*ARCHITECTURES, *FOREIGN}),
                "knownFlags": flags,
                "supportedFlags": flags,
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "memoryPolicy": {"modes": sorted(MEMORY_MODES), "flags": sorted(MEMORY_FLAGS)},
            "intelRdt": {"enabled": True, "schemata": True, "monitoring": True},
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
        },
        # Systemd's units, criu's programs, files and sockets of the host (`run.oci.` is crun's).
        "potentiallyUnsafeConfigAnnotations": ["org.criu.config", "org.systemd.property.", "run.oci."],
        "annotations": {"org.knarr.runtime.version": version},
    }


def mount_words() -> list[str]:
    """Every mount option that is not a filesystem's own data; with those that ask for what happens anyway."""
    attributes = set(options.ATTRIBUTES)
    recursive = {f"r{word}" for word in attributes}
    others = {"bind", "rbind", "remount", "tmpcopyup", "idmap", "ridmap", "defaults"}
    others |= {"silent", "loud", "iversion", "noiversion"}
    return sorted(attributes | recursive | set(options.PROPAGATION) | set(options.SUPERBLOCK) | others)
