"""Cgroup v2 alone, with and without systemd: limits hold, the caller's too, and nothing is left whoever dies."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.capabilities import has
from harness.command import Knarr
from harness.machine import identity
from harness.wait import soon

pytestmark = pytest.mark.requires("root", "overlay", "cgroup-v2-only")
TOP = Path("/sys/fs/cgroup")


def cgroup_of(cli: Knarr, cid: str) -> Path:
    pid = cli.ok("inspect", "-f", "{{.State.Pid}}", cid)
    return TOP / Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::/")


def ours() -> list[str]:
    """Every cgroup of a container, wherever it is."""
    return [folder for folder, _, _ in os.walk(TOP) if "/knarr-" in folder and "knarr-test" not in folder]


@pytest.fixture
def own_cgroup() -> Iterator[Path]:
    """A cgroup in which a command can be alone."""
    path = TOP / f"knarr-test-own.{identity(os.getpid())}"
    (TOP / "cgroup.subtree_control").write_text("+memory +pids")
    path.mkdir()
    yield path
    assert soon(20, lambda: not (path / "cgroup.procs").read_text())
    assert [entry.name for entry in path.iterdir() if entry.is_dir()] == []
    path.rmdir()


def inside(cli: Knarr, cgroup: Path, *args: str) -> subprocess.Popen[bytes]:
    """The command, in that cgroup from before it begins."""
    entering = ("sh", "-c", 'echo $$ >"$0/cgroup.procs"; exec "$@"', str(cgroup), *cli.argv, *args)
    return subprocess.Popen(entering, env=cli.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_limits_in_front(knarr: Knarr, busybox: str) -> None:
    def read(path: str, *flags: str) -> str:
        return knarr.ok("run", "--rm", "--network", "none", *flags, busybox, "cat", f"/sys/fs/cgroup/{path}")

    assert read("memory.max", "-m", "64m") == str(64 << 20)
    assert read("pids.max", "--pids-limit", "77") == "77"
    assert read("cpu.max", "--cpus", "0.5") == "50000 100000"
    assert read("cpuset.cpus", "--cpuset-cpus", "0") == "0"
    assert soon(20, lambda: not ours())


def test_out_of_memory_is_recorded(knarr: Knarr, busybox: str) -> None:
    flags = ("-m", "16m", "--network", "none", busybox, "tail", "/dev/zero")
    assert knarr("run", "--name", "front", *flags).code == 137
    cid = knarr.ok("run", "-d", *flags)
    assert knarr.ok("wait", cid) == "137"
    for name in ("front", cid):
        assert knarr.ok("inspect", "-f", "{{.State.OOMKilled}}", name) == "true"


def test_a_detached_container_and_its_exec(knarr: Knarr, busybox: str) -> None:
    cid = knarr.ok("run", "-d", "--network", "none", "-m", "64m", busybox, "sleep", "1000")
    cgroup = cgroup_of(knarr, cid)
    assert (cgroup / "memory.max").read_text().strip() == str(64 << 20)
    assert (cgroup / "memory.current").exists() and (cgroup / "cpu.stat").exists()
    if has("systemd"):
        assert cgroup == TOP / f"machine.slice/knarr-{cid}.scope/container"
    knarr.ok("exec", "-d", cid, "sleep", "2000")
    assert soon(20, lambda: len((cgroup / "cgroup.procs").read_text().split()) == 2)
    assert knarr.ok("exec", cid, "cat", "/proc/self/cgroup") == "0::/"
    knarr.ok("pause", cid)
    assert "frozen 1" in (cgroup / "cgroup.events").read_text()
    knarr.ok("unpause", cid)
    knarr.ok("restart", "-t", "0", cid)
    assert cgroup_of(knarr, cid) == cgroup
    knarr.ok("rm", "-f", cid)
    assert soon(20, lambda: not ours())


def test_alone_in_its_cgroup_the_callers_limit_holds(knarr: Knarr, busybox: str, own_cgroup: Path) -> None:
    (own_cgroup / "memory.max").write_text(str(32 << 20))
    words = ("run", "--rm", "--network", "none", "-m", "512m", busybox, "sh", "-c")
    with inside(knarr, own_cgroup, *words, "cat /sys/fs/cgroup/memory.max") as process:
        assert process.communicate(timeout=60) == (f"{512 << 20}\n".encode(), b"")
    with inside(knarr, own_cgroup, *words, "tail /dev/zero") as process:
        process.communicate(timeout=60)
        assert process.returncode == 137
    # No limit asked: nobody moves, and the container is a child without controllers.
    unlimited = ("run", "--rm", "--network", "none", busybox, "sh", "-c", "tail /dev/zero")
    with inside(knarr, own_cgroup, *unlimited) as process:
        process.communicate(timeout=60)
        assert process.returncode == 137


def test_a_limit_that_does_not_hold_is_said(knarr: Knarr, busybox: str, own_cgroup: Path) -> None:
    (own_cgroup / "memory.max").write_text(str(1 << 30))
    with subprocess.Popen(["sleep", "1000"]) as other:
        (own_cgroup / "cgroup.procs").write_text(str(other.pid))
        words = ("run", "--rm", "--network", "none", "--pids-limit", "9", busybox, "true")
        with inside(knarr, own_cgroup, *words) as process:
            _, said = process.communicate(timeout=60)
        assert process.returncode == 0
        assert f"memory.max {1 << 30} of /{own_cgroup.name} does not limit this container" in said.decode()
        other.kill()


@pytest.mark.parametrize("who", ["front", "monitor"])
def test_whoever_is_killed_nothing_is_left(knarr: Knarr, busybox: str, own_cgroup: Path, who: str) -> None:
    words = ("run", "--rm", "--network", "none", "-m", "64m", busybox, "sh", "-c", "echo up; sleep 1000")
    with inside(knarr, own_cgroup, *words) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        victims = {
            Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[1]: int(pid)
            for leaf in own_cgroup.glob("knarr-*/monitor")
            for pid in (leaf / "cgroup.procs").read_text().split()
        }
        assert set(victims) == {b"attach", b"monitor"}
        os.kill(victims[b"attach" if who == "front" else b"monitor"], signal.SIGKILL)
        process.communicate(timeout=60)
    assert soon(20, lambda: knarr.ok("ps", "-aq") == "")
    assert soon(20, lambda: not ours())


@pytest.mark.requires("systemd")
def test_the_monitor_of_a_scope_is_killed(knarr: Knarr, busybox: str) -> None:
    cid = knarr.ok("run", "-d", "--network", "none", busybox, "sleep", "1000")
    monitor = (cgroup_of(knarr, cid).parent / "monitor/cgroup.procs").read_text()
    os.kill(int(monitor), signal.SIGKILL)
    assert soon(20, lambda: not ours())
    assert "Exited (137)" in knarr.ok("ps", "-a")
    knarr.ok("start", cid)
    assert cgroup_of(knarr, cid).name == "container"


@pytest.mark.requires("systemd")
def test_systemd_stops_a_scope(knarr: Knarr, busybox: str) -> None:
    script = "trap 'exit 7' TERM; while :; do sleep 0.05; done"
    cid = knarr.ok("run", "-d", "--network", "none", busybox, "sh", "-c", script)
    knarr.ok("exec", cid, "true")
    subprocess.run(["systemctl", "stop", f"knarr-{cid}.scope"], check=True)
    assert soon(20, lambda: "Exited (7)" in knarr.ok("ps", "-a"))


@pytest.mark.requires("systemd")
@pytest.mark.parametrize("delegate", ["yes", "no"])
def test_a_service_of_knarr_run(knarr: Knarr, busybox: str, delegate: str) -> None:
    """What systemd starts beside the main process starts in the unit's own cgroup, unless that was delegated."""
    name = f"knarr-test-{delegate}.{os.getpid()}"
    properties = (
        "MemoryMax=256M", f"Delegate={delegate}", "RemainAfterExit=yes", "ExecReload=/bin/sh -c 'exit 0'",
        *(f"Environment={key}={value}" for key, value in knarr.env.items()),
    )  # fmt: skip
    words = ("run", "--name", "one", "--network", "none", "-m", "64m", busybox, "sleep", "1000")
    subprocess.run(
        ["systemd-run", f"--unit={name}", *(f"-p{p}" for p in properties), *knarr.argv, *words], check=True
    )
    try:
        assert soon(20, lambda: knarr("exec", "one", "true").code == 0)
        inside = name in str(cgroup_of(knarr, "one"))
        assert inside == (delegate == "yes")
        subprocess.run(["systemctl", "reload", name], check=True)
    finally:
        subprocess.run(["systemctl", "stop", name], check=True)
    assert "Exited" in knarr.ok("ps", "-a")
    assert soon(20, lambda: not ours())


@pytest.mark.requires("systemd")
def test_a_slice_asked_for(knarr: Knarr, busybox: str) -> None:
    flags = ("--network", "none", "--cgroup-parent", "knarrtest-a.slice")
    cid = knarr.ok("run", "-d", *flags, busybox, "sleep", "1000")
    scope = f"knarrtest.slice/knarrtest-a.slice/knarr-{cid}.scope"
    assert cgroup_of(knarr, cid) == TOP / scope / "container"
    # systemd writes its units' files anew: what we wrote is below what it delegated.
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    assert knarr.ok("exec", cid, "echo", "on") == "on"
    knarr.ok("rm", "-f", cid)
    subprocess.run(["systemctl", "stop", "knarrtest.slice"], check=True)
