"""A private machine per test process: nothing a test does to mounts, links or nftables reaches the host.

The engine's bridge and its nftables table are machine-wide by design, so tests that run side by side, and
tests on a developer's own machine, need machines of their own. As root each test process (each xdist worker)

    - moves to its own mount namespace (private propagation) and its own network namespace (lo is up),
    - gets its own /etc/{passwd,group,subuid,subgid}, where `user` lives, and a /dev/net/tun users may open,
    - moves to its own cgroup `knarr-test-PID.START` in every hierarchy, and sees it as the root of that hierarchy
      (a cgroup namespace, mounted over /sys/fs/cgroup): what it started is found there, detached or not,
    - keeps everything in one directory `/tmp/knarr-test-PID.START`.

No network but loopback is there: a test that needs the internet fails. Without root only the directory is made.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.capabilities import has

PREFIX = "knarr-test-"
REPOSITORY = Path(__file__).resolve().parents[2]
USER = "knarr-tester"
UID = 47_011
FIRST_SUBID, SUBIDS = 2_000_000, 65_536

_CLONE_NEWNS, _CLONE_NEWNET, _CLONE_NEWCGROUP = 0x20000, 0x40000000, 0x02000000
MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


class Machine(NamedTuple):
    state: Path  # every file of this test process, mode 0711
    cgroups: tuple[
        Path, ...
    ]  # where each hierarchy is mounted that it has a cgroup of its own in; () without root
    controllers: frozenset[str]  # those hierarchies as /proc/PID/cgroup names them; "" is the unified one
    private: bool  # namespaces of its own


class Entered(NamedTuple):
    """A cgroup of our own in one hierarchy, by the paths it has outside of our cgroup namespace."""

    top: Path
    parent: Path
    own: Path
    controllers: str


_machine: Machine | None = None
_entered: list[Entered] = []


@pytest.fixture(scope="session")
def machine() -> Machine:
    """The machine this test process lives in."""
    assert _machine is not None
    return _machine


def identity(pid: int) -> str:
    """`PID.START`: START (field 22 of stat) tells a process from a later one with the same number. "" if gone."""
    try:
        return f"{pid}.{Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[19]}"
    except OSError:
        return ""


def pytest_sessionstart(session: pytest.Session) -> None:
    global _machine
    if session.config.getoption("collectonly") or _only_controls_workers(session.config):
        return
    from harness.clean import sweep

    # A run started in the background of a shell has these ignored, and so would everything the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and so it is below nohup(1)
    sweep()
    state = Path(tempfile.gettempdir(), PREFIX + identity(os.getpid()))
    state.mkdir(mode=0o711)
    private = has("root")
    if private:
        _own_network_and_mounts()
        _private_users(state)
        _open_tun(state)
        for needed in (REPOSITORY, Path(sys.prefix), Path(sys.base_prefix)):
            _make_reachable(needed)
        if not has("systemd"):  # it owns the tree; its scopes are what is tested there
            _enter_cgroups(state.name)
    tops, controllers = tuple(e.top for e in _entered), frozenset(e.controllers for e in _entered)
    _machine = Machine(state, tops, controllers, private)


@pytest.hookimpl(
    trylast=True
)  # after an interrupted test's fixtures, which look below the cgroups that are left here
def pytest_sessionfinish(session: pytest.Session) -> None:
    global _machine
    if _machine is None:
        return
    from harness.clean import remove_state

    for entered in _entered:
        _libc.umount2(str(entered.top).encode(), _MNT_DETACH)
        (entered.parent / "cgroup.procs").write_text(str(os.getpid()))
    remove_state(_machine.state, [entered.own for entered in _entered])
    _machine = None


def is_left() -> bool:
    """From here on the paths of `Machine.cgroups` are the host's, with everybody's processes below them."""
    return _machine is None


def _only_controls_workers(config: pytest.Config) -> bool:
    return not hasattr(config, "workerinput") and bool(getattr(config.option, "numprocesses", None))


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    encoded = (source.encode(), target.encode(), kind.encode() or None, flags, data.encode() or None)
    if _libc.mount(*encoded) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), target)


def _unshare(kinds: int) -> None:
    # The namespaces are the calling thread's; tests run in this thread and its children are born in them.
    if _libc.unshare(kinds) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "unshare")


def _own_network_and_mounts() -> None:
    _unshare(_CLONE_NEWNS | _CLONE_NEWNET)
    mount("none", "/", "", _MS_REC | _MS_PRIVATE)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def _private_users(state: Path) -> None:
    own = state / "etc"
    own.mkdir()
    lines = {
        "passwd": f"{USER}:x:{UID}:{UID}::{state}/home:/bin/sh\n",
        "group": f"{USER}:x:{UID}:\n",
        "subuid": f"{USER}:{FIRST_SUBID}:{SUBIDS}\n",
        "subgid": f"{USER}:{FIRST_SUBID}:{SUBIDS}\n",
    }
    for name, line in lines.items():
        there = Path("/etc", name)
        if not there.exists():
            continue  # without shadow's files no newuidmap either
        text = there.read_text()
        (own / name).write_text(text + ("" if text.endswith("\n") or not text else "\n") + line)
        (own / name).chmod(0o644)
        mount(str(own / name), str(there), "", MS_BIND)


def _open_tun(state: Path) -> None:
    """udev makes it 0666; where no udev runs it is root's, and no user's network program can work."""
    there = Path("/dev/net/tun")
    if has("tun") and stat.S_IMODE(there.stat().st_mode) != 0o666:
        node = state / "tun"
        os.mknod(node, 0o666 | stat.S_IFCHR, there.stat().st_rdev)
        node.chmod(0o666)
        mount(str(node), str(there), "", MS_BIND)


def _make_reachable(path: Path) -> None:
    """A checkout or interpreter below a private directory (/root) is out of a user's reach: show it, and only it."""
    closed = [p for p in reversed(path.parents) if not p.stat().st_mode & 0o001]
    if not closed:
        return
    here = os.getcwd()  # which is now below the mount: go there again
    handle = os.open(path, os.O_PATH | os.O_DIRECTORY)
    try:
        mount("none", str(closed[0]), "tmpfs", 0, "mode=0755")
        path.mkdir(parents=True)
        mount(f"/proc/self/fd/{handle}", str(path), "", MS_BIND | _MS_REC)
    finally:
        os.close(handle)
    os.chdir(here)


class Hierarchy(NamedTuple):
    """A mounted cgroup hierarchy. `own` is this process's cgroup in it, `/` or `/a/b`."""

    top: Path
    own: str
    controllers: str  # as in /proc/self/cgroup: "cpu,cpuacct", "name=systemd", "" for the unified one


def hierarchies() -> list[Hierarchy]:
    found: dict[Path, Hierarchy] = {}  # the last one mounted on a path is the one seen
    own = {c: path for _, c, path in (line.split(":", 2) for line in _read("/proc/self/cgroup"))}
    for line in _read("/proc/self/mounts"):
        _, target, kind, options = line.split()[:4]
        given = set(options.split(","))
        for controllers, path in own.items():
            if (
                kind == ("cgroup" if controllers else "cgroup2")
                and set(controllers.split(",")) - {""} <= given
            ):
                found[Path(target)] = Hierarchy(Path(target), path, controllers)
    return list(found.values())


def _read(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def _enter_cgroups(name: str) -> None:
    for top, path, controllers in hierarchies():
        parent = top / path.lstrip("/")
        ours = parent / name
        try:
            ours.mkdir()
            for setting in ("cpuset.cpus", "cpuset.mems"):
                if (ours / setting).exists():
                    (ours / setting).write_text((parent / setting).read_text())
            (ours / "cgroup.procs").write_text(str(os.getpid()))
        except OSError:
            continue  # a read-only hierarchy: what a container without a cgroup namespace has
        _entered.append(Entered(top, parent, ours, controllers))
    _unshare(_CLONE_NEWCGROUP)
    for top, _, ours, controllers in _entered:
        mount(str(ours), str(top), "", MS_BIND)
        if not controllers:
            # In v2 a cgroup with processes has no controllers for its children: make room at the root.
            (top / "tests").mkdir()
            (top / "tests/cgroup.procs").write_text(str(os.getpid()))


def remove_tree(path: Path) -> None:
    """As shutil.rmtree, for trees with directories that even their owner may not read (overlay's work/work)."""
    if os.geteuid() != 0:
        for folder, _, _ in os.walk(path):
            if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
                os.chmod(folder, 0o700)
    shutil.rmtree(path, ignore_errors=True)
