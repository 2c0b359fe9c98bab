"""Nothing may be left: checked after every end-to-end test, swept after aborted runs.

What counts: mounts of this mount namespace, processes and cgroups below this test process's cgroups, network
links, elements in nftables maps. The engine's bridge and its static nftables table stay by design; they
are removed here between tests, so that each test also starts on a machine without them.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.capabilities import has
from harness.machine import PREFIX, Machine, hierarchies, identity, is_left, remove_tree

KEPT = ("knarr", "tests")
STATIC_SETS = ("bridges", "same", "subnets4", "subnets6")
SETTLE_S = (
    10.0  # what is torn down behind the user's back (a network namespace, a monitor's last step) may take
)


class Traces(NamedTuple):
    mounts: frozenset[str]
    processes: frozenset[str]
    cgroups: frozenset[str]
    links: frozenset[str]
    elements: frozenset[str]

    def beyond(self, before: Traces) -> list[str]:
        return [
            f"{kind}: {name}"
            for kind, now, then in zip(self._fields, self, before, strict=True)
            for name in sorted(now - then)
        ]


@pytest.fixture(autouse=True)
def machine_clean(request: pytest.FixtureRequest) -> Iterator[None]:
    """End-to-end tests leave the machine as it was; the first thing set up, the last thing checked."""
    if "e2e" not in request.path.parts:
        yield
        return
    machine: Machine = request.getfixturevalue("machine")
    before = traces(machine)
    yield
    deadline = time.monotonic() + SETTLE_S
    while left := traces(machine).beyond(before):
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    if machine.private:
        _reset_network()
    if left:
        _end(machine, before)
        pytest.fail("left on the machine:\n  " + "\n  ".join(left), pytrace=False)


def traces(machine: Machine) -> Traces:
    return Traces(
        frozenset(line.split()[4] for line in _lines("/proc/self/mountinfo")),
        frozenset(f"{pid} {_command(pid)}" for pid in _processes(machine)),
        frozenset(str(c) for top in machine.cgroups for c in _below(top)),
        frozenset(name for _, name in socket.if_nameindex() if not _is_bridge(name))
        if machine.private
        else frozenset(),
        frozenset(_nft_elements()) if machine.private and has("nft") else frozenset(),
    )


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _processes(machine: Machine) -> Iterator[int]:
    """Everything this test process has ever started, but for its session-long servers: by cgroup or mount namespace."""
    own = os.getpid()
    namespace = os.readlink("/proc/self/ns/mnt") if machine.private else ""
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == own:
            continue
        try:
            if (_inside(machine, entry) or os.readlink(f"/proc/{entry}/ns/mnt") == namespace) and _alive(
                entry
            ):
                yield int(entry)
        except OSError:
            continue


def _inside(machine: Machine, pid: str) -> bool:
    """Is it in one of our cgroups? Seen from our cgroup namespace all others begin with `/..`."""
    lines = (line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    return any(c in machine.controllers and not path.startswith("/..") for _, c, path in lines)


def _alive(pid: str) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"


def _command(pid: int) -> str:
    """Its words, or its name when it has none any more."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200]
        return words or Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return ""


def _below(top: Path) -> Iterator[Path]:
    """All but the engine's `/knarr`, which it keeps, and the harness's own `/tests`."""
    for folder, names, _ in os.walk(top):
        yield from (Path(folder, name) for name in names if folder != str(top) or name not in KEPT)


def _is_bridge(name: str) -> bool:
    # /sys shows the network namespace it was mounted in, not ours; `ip` asks the kernel.
    shown = subprocess.run(["ip", "-o", "link", "show", "dev", name, "type", "bridge"], capture_output=True)
    return bool(shown.stdout)


def _nft_elements() -> Iterator[str]:
    """What belongs to a container: elements of maps and sets, but for the sets of the static ruleset."""
    shown = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True).stdout
    name = ""
    for line in shown.splitlines():
        words = line.split()
        if words[:1] in (["map"], ["set"]):
            name = words[1]
        elif words[:1] == ["elements"] and name not in STATIC_SETS:
            yield f"{name}: {' '.join(words[2:])}"


def _reset_network() -> None:
    if has("nft"):
        subprocess.run(["nft", "flush", "ruleset"], capture_output=True)
    for _, name in socket.if_nameindex():
        if _is_bridge(name):
            subprocess.run(["ip", "link", "delete", name], capture_output=True)


def _end(machine: Machine, before: Traces) -> None:
    """After a failure: end what is left, each process by its id, so that the next test is judged on its own."""
    if is_left():
        return  # an interrupted run: `sweep` of the next one ends what is in our cgroups
    known = {int(p.split()[0]) for p in before.processes}
    for pid in list(_processes(machine)):
        if pid not in known:
            _kill(pid)
    remove_cgroups(machine)
    for line in reversed(_lines("/proc/self/mountinfo")):
        target = line.split()[4]
        if target not in before.mounts:
            subprocess.run(["umount", "-l", target], capture_output=True)


def remove_cgroups(machine: Machine) -> None:
    """All below this test process's cgroups, and what lives in them, but for the harness's own."""
    for top in machine.cgroups:
        _remove_cgroup(top, keep_top=True)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _remove_cgroup(top: Path, *, keep_top: bool = False) -> None:
    for folder, _, _ in os.walk(top, topdown=False):
        if keep_top and folder in (str(top), f"{top}/tests"):
            continue
        for pid in _lines(f"{folder}/cgroup.procs"):
            if int(pid) not in (0, os.getpid()):
                _kill(int(pid))
        for _ in range(100):
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.02)  # the kernel empties a cgroup a moment after its last process has died
            else:
                break


def remove_state(state: Path, cgroups: list[Path]) -> None:
    for cgroup in cgroups:
        _remove_cgroup(cgroup)
    remove_tree(state)


def sweep() -> None:
    """Directories and cgroups of test processes that no longer exist (SIGKILL, power). Others' are left alone."""
    tops = {hierarchy.top for hierarchy in hierarchies()} if os.geteuid() == 0 else set()
    for top in tops:
        for folder, names, _ in os.walk(top):
            for name in [n for n in names if n.startswith(PREFIX)]:
                if _stale(name):
                    names.remove(name)
                    _remove_cgroup(Path(folder, name))
    for state in Path(tempfile.gettempdir()).glob(PREFIX + "*"):
        if _stale(state.name) and state.stat().st_uid == os.geteuid():
            remove_tree(state)


def _stale(name: str) -> bool:
    pid = name.removeprefix(PREFIX).partition(".")[0]
    return pid.isdigit() and PREFIX + identity(int(pid)) != name
