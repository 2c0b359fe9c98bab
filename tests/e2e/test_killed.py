"""SIGKILL at every step of run, start, stop and rm, and of the monitor: nothing lost, the next command mends."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from harness.command import Knarr
from harness.kill import kills

pytestmark = [pytest.mark.requires("root", "overlay", "strace"), pytest.mark.timeout(600)]


def settle(cli: Knarr) -> None:
    """Monitors that lost their command end by themselves; give them the time."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        rows = cli.ok("ps", "-a", "--format", "{{.State}}").split()
        if "starting" not in rows:
            return
        time.sleep(0.05)


def left(cli: Knarr) -> list[str]:
    """What is there when no container is."""
    found = [f"{d}/{name}" for d in ("containers", "names", "volumes") for name in os.listdir(cli.root / d)]
    found += [f"run/{name}" for name in os.listdir(cli.run / "containers")]
    for network in (cli.run / "networks").glob("*/*"):
        if network.is_symlink() and not network.name.startswith("."):  # a hint where to look next
            found.append(str(network))
    for parent, names, _ in os.walk("/sys/fs/cgroup"):  # which does not mind that some go meanwhile
        found += [f"{parent}/{name}" for name in names if name.startswith("knarr-") and len(name) > 60]
    return found


def clean_up(cli: Knarr, how: str) -> None:
    settle(cli)
    for cid in cli.ok("ps", "-aq").split():
        cli.ok("rm", "-f", cid)
    nothing_left(cli, how)


def nothing_left(cli: Knarr, how: str) -> None:
    """Other commands mend what was left; none was told to remove anything."""
    deadline = time.monotonic() + 15
    while left(cli) and time.monotonic() < deadline:
        cli.ok("ps", "-a")
        time.sleep(0.05)
    assert left(cli) == [], how


def test_run(knarr: Knarr, busybox: str, tmp_path: Path) -> None:
    for how in kills(knarr, tmp_path, "run", "-d", "--name", "one", "-p", "0:80", busybox, "sleep", "1000"):
        settle(knarr)
        states = knarr.ok("ps", "-a", "--format", "{{.State}}").split()
        assert states in ([], ["created"], ["running"]), how
        if states == ["running"]:
            assert knarr.ok("exec", "one", "echo", "works") == "works", how
        clean_up(knarr, how)


def test_run_in_front(knarr: Knarr, busybox: str, tmp_path: Path) -> None:
    words = ("run", "--rm", "--name", "one", "--network", "none", "-v", "/data", busybox, "sleep", "0.01")
    for how in kills(knarr, tmp_path, *words):
        nothing_left(knarr, how)


def test_start(knarr: Knarr, busybox: str, tmp_path: Path) -> None:
    cid = knarr.ok("create", "--name", "one", "--network", "none", busybox, "sleep", "1000")
    for how in kills(knarr, tmp_path, "start", "one"):
        settle(knarr)
        assert knarr.ok("ps", "-aq", "--no-trunc") == cid, how
        knarr.ok("stop", "-t", "0", "one")
        knarr.ok("start", "one")
        assert knarr.ok("exec", "one", "echo", "works") == "works", how
        knarr.ok("stop", "-t", "0", "one")


def test_stop(knarr: Knarr, busybox: str, tmp_path: Path) -> None:
    cid = knarr.ok("run", "-d", "--name", "one", "--network", "none", busybox, "sleep", "1000")
    knarr.ok("exec", "one", "sh", "-c", "echo kept >/file")
    for how in kills(knarr, tmp_path, "stop", "-t", "0", "one"):
        assert knarr.ok("ps", "-aq", "--no-trunc") == cid, how
        knarr.ok("stop", "-t", "0", "one")
        knarr.ok("start", "one")
        assert knarr.ok("exec", "one", "cat", "/file") == "kept", how


def test_rm(knarr: Knarr, busybox: str, tmp_path: Path) -> None:
    knarr.ok("create", "--name", "one", "--network", "none", busybox, "true")
    for how in kills(knarr, tmp_path, "rm", "-f", "one"):
        states = knarr.ok("ps", "-a", "--format", "{{.Names}} {{.State}}").splitlines()
        assert states in ([], ["one created"]), how
        clean_up(knarr, how)
        knarr.ok("create", "--name", "one", "--network", "none", busybox, "true")


def runs(pid: str) -> bool:
    """Process 1 of a machine may take its time to collect what has ended: a zombie does not run."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_monitor(knarr: Knarr, busybox: str) -> None:
    cid = knarr.ok("run", "-d", "--name", "one", "-p", "0:80", busybox, "sleep", "1000")
    knarr.ok("exec", "one", "sh", "-c", "echo kept >/file")
    record = dict(line.split() for line in (knarr.run / "containers" / cid / "pid").read_text().splitlines())
    os.kill(int(record["monitor"]), signal.SIGKILL)
    deadline = time.monotonic() + 10
    while runs(record["pid"]) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not runs(record["pid"])
    assert "Exited (137)" in knarr.ok("ps", "-a")
    knarr.ok("start", "one")
    assert knarr.ok("exec", "one", "cat", "/file") == "kept"
    clean_up(knarr, "the monitor was killed")
