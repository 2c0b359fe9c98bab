"""The machine as `knarr doctor` and `knarr info` ask it: files, settings, programs. A test gives one of its own."""

from __future__ import annotations

import os

from knarr.host import packages
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from knarr.host.paths import Paths
    from knarr.plan.facts import HostFacts


class Machine(Record):
    """What the checks ask. `read` gives a small file's text or ""."""

    facts: HostFacts
    paths: Paths
    read: Callable[[str], str]
    exists: Callable[[str], bool]
    opens: Callable[[str], bool]  # can it be opened for reading and writing
    stat: Callable[[str], os.stat_result | None]
    has_file_caps: Callable[[str], bool]
    free_bytes: Callable[[str], int | None]
    native: Callable[[], str]  # where the native program is, tried; raises `KnarrError`

    def install(self, *tools: str) -> str:
        """The command that installs programs on this distribution."""
        return packages.install_command(self.read("/etc/os-release"), tools)

    def sysctl(self, name: str) -> str:
        """The value of a setting, "" when this kernel does not have it."""
        return self.read(f"/proc/sys/{name.replace('.', '/')}").strip()

    def filesystem_of(self, path: str) -> str:
        """The type of the filesystem a path (that may not exist yet) is on, from /proc/self/mountinfo."""
        best, kind = "", ""
        for line in self.read("/proc/self/mountinfo").split("\n"):
            left, _, right = line.partition(" - ")
            words = left.split(" ")
            if len(words) > 4:
                mount = words[4]
                if (path + "/").startswith(mount.rstrip("/") + "/") and len(mount) >= len(best):
                    best, kind = mount, right.split(" ")[0]
        return kind


def this_machine(facts: HostFacts, paths: Paths) -> Machine:
    """The real one."""
    return Machine(facts, paths, _read, os.path.exists, _opens, _stat, _has_file_caps, _free_bytes, _native)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 22)
    except OSError:
        return ""


def _opens(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _has_file_caps(path: str) -> bool:
    try:
        return bool(os.getxattr(path, "security.capability"))
    except OSError:
        return False


def _free_bytes(path: str) -> int | None:
    """Of the nearest directory that exists."""
    while not os.path.isdir(path) and path != "/":
        path = os.path.dirname(path)
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def _native() -> str:
    from knarr.host.native import execute, program
    from knarr.plan.step import Step

    path = program()
    execute([Step("unlink", (f"/proc/self/no-such-file-{os.getpid()}",), "doctor")])
    return path
