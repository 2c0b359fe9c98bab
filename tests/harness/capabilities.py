"""What this host can do, and the one way to skip a test: `@pytest.mark.requires("root", "nft")`.

A run's header prints the whole table. In CI (`CI` is set) a skip that does not come from a missing
capability is a failure, and so is a missing capability that `make test` installs.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SKIPPED = "this machine lacks: "
# apt-get installs these in `make test`: on a CI machine their absence is a broken run, not a property of the host.
INSTALLED = (
    "nft",
    "ip",
    "busybox",
    "curl",
    "docker-registry",
    "newuidmap",
    "slirp4netns",
    "cc",
    "strace",
    "crun",
    "runc",
    "runsc",
)
os.environ["PATH"] = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"

TOOLS = (
    "nft ip busybox curl docker-registry newuidmap slirp4netns pasta fuse-overlayfs cc strace musl-gcc "
    "podman docker dockerd containerd runc crun runsc skopeo umoci buildah go"
).split()


def _root() -> bool:
    """Root that may make namespaces: root of a container without CAP_SYS_ADMIN is not."""
    return os.geteuid() == 0 and _runs("unshare", "-m", "-n", "true")


def _cgroup(kind: str) -> bool:
    return any(line.split()[2] == kind for line in Path("/proc/self/mounts").read_text().splitlines())


def _v2_controls(controller: str) -> bool:
    there = Path("/sys/fs/cgroup/cgroup.controllers")
    return there.exists() and controller in there.read_text().split()


def _opens(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _runs(*argv: str) -> bool:
    try:
        return subprocess.run(argv, capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _filesystem(name: str) -> bool:
    """Built in or loaded already, or a module that the first mount would load."""
    return name in Path("/proc/filesystems").read_text().split() or _runs("modprobe", "-n", "-q", name)


def _criu() -> bool:
    """One that works on this kernel: 3.17 and older do not know the vDSO of Linux 6."""
    said = (
        subprocess.run(["criu", "--version"], capture_output=True, text=True).stdout
        if shutil.which("criu")
        else ""
    )
    version = said.partition("Version: ")[2].split(".")
    return (
        len(version) > 1
        and (int(version[0]), int(version[1].split()[0])) >= (3, 19)
        and _runs("criu", "check")
    )


def _has_cap(number: int) -> bool:
    status = Path("/proc/self/status").read_text()
    mask = int(status.partition("CapEff:")[2].split()[0], 16)
    return bool(mask >> number & 1)


PROBES: dict[str, Callable[[], bool]] = {
    "root": _root,
    "userns": lambda: _runs("unshare", "-U", "true"),
    "cgroup-v1": lambda: _cgroup("cgroup"),
    "cgroup-v2": lambda: _cgroup("cgroup2"),
    "cgroup-v2-only": lambda: not _cgroup("cgroup") and _v2_controls("memory"),
    "systemd": lambda: Path("/run/systemd/system").is_dir(),
    "overlay": lambda: _filesystem("overlay"),
    "erofs": lambda: _filesystem("erofs"),
    "fuse": lambda: _opens("/dev/fuse"),
    "tun": lambda: _opens("/dev/net/tun"),
    "kvm": lambda: _opens("/dev/kvm"),
    "ipv6": lambda: Path("/proc/sys/net/ipv6").is_dir(),
    "seccomp": lambda: Path("/proc/sys/kernel/seccomp").is_dir(),
    "apparmor": lambda: Path("/sys/kernel/security/apparmor").is_dir(),
    "selinux": lambda: Path("/sys/fs/selinux/enforce").exists(),
    "sys-resource": lambda: _has_cap(24),
    "criu": _criu,
    "criu-mem-track": lambda: _criu() and _runs("criu", "check", "--feature", "mem_dirty_track"),
} | {tool: functools.partial(lambda name: shutil.which(name) is not None, tool) for tool in TOOLS}


@functools.cache
def has(capability: str) -> bool:
    """Does this machine have it? An unknown name is an error: a typo must not skip a test for ever."""
    if capability not in PROBES:
        raise pytest.UsageError(f"unknown capability {capability!r}; known: {' '.join(PROBES)}")
    return PROBES[capability]()


def in_ci() -> bool:
    return bool(os.environ.get("CI"))


def pytest_report_header(config: pytest.Config) -> list[str]:
    there = [name for name in PROBES if has(name)]
    missing = [name for name in PROBES if not has(name)]
    return [f"this machine has: {' '.join(there)}", f"{SKIPPED}{' '.join(missing) or 'nothing'}"]


def pytest_configure(config: pytest.Config) -> None:
    lacking = [name for name in INSTALLED if in_ci() and not has(name)]
    if lacking:
        raise pytest.UsageError(f"CI machine without {' '.join(lacking)}: `make test` installs them")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        names = [str(name) for mark in item.iter_markers("requires") for name in mark.args]
        missing = sorted({name for name in names if not has(name)})
        if missing:
            item.add_marker(pytest.mark.skip(reason=SKIPPED + " ".join(missing)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[assignment]  # what a hook wrapper is sent
    if report.skipped and not hasattr(report, "wasxfail") and in_ci():
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if SKIPPED not in reason:
            report.outcome = "failed"
            report.longrepr = f"skipped without a missing capability: {reason}; use @pytest.mark.requires(…)"
    return report  # type: ignore[return-value]  # as above
