"""A user who is not root: everything in a user namespace, with one mapped id or with a range of subordinate ones."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.machine import FIRST_SUBID, SUBIDS, UID, Machine
from knarr.plan.step import Step
from native.plans import ALL, Native, Rootfs, gone, step

pytestmark = pytest.mark.requires("root", "userns", "overlay", "busybox")


@pytest.fixture
def own(rootfs: Rootfs, machine: Machine, native: Native) -> Iterator[Rootfs]:
    """The root filesystem where the user can reach it, and theirs."""
    base = machine.state / f"rootless-{os.getpid()}"
    shutil.copytree(rootfs.base, base, symlinks=True)
    for path in (base, *base.rglob("*")):
        os.lchown(path, UID, UID)
    native.user = UID
    yield Rootfs(base)
    shutil.rmtree(base)


def one_id() -> list[Step]:
    return [
        step("write-child", "setgroups", "deny"),
        step("write-child", "uid_map", f"0 {UID} 1"),
        step("write-child", "gid_map", f"0 {UID} 1"),
    ]


def ranges() -> list[Step]:
    maps = ("{pid}", 0, UID, 1, 1, FIRST_SUBID, SUBIDS)
    return [step("spawn", "newuidmap", *maps), step("spawn", "newgidmap", *maps), step("wait-spawned")]


def rootless(plan: list[Step]) -> list[Step]:
    steps = []
    for s in plan:
        match s.op:
            case "clone":
                s = s._replace(args=(f"user,{ALL}",))
            case "overlay":
                s = s._replace(args=(*s.args[:3], "userxattr", *s.args[4:]))
            case "device":
                s = step("bind", "/dev/null", "/dev/null", "file", 0, 0, 0, 0, 0, "0x44000")
            case "mount" if s.args[0] == "devpts":
                s = s._replace(args=(*s.args[:4], "newinstance,ptmxmode=0666,mode=0620"))
        steps.append(s)
        if s.op == "enter":
            steps.append(step("become-root"))
    return steps


@pytest.mark.parametrize("maps", ["one", "range"])
def test_runs(native: Native, own: Rootfs, maps: str) -> None:
    inside = [
        step("mount", "sysfs", "sysfs", "/sys", "0xf", ""),
        step("mount", "mqueue", "mqueue", "/dev/mqueue", "0xe", ""),
        step("mask", "/proc/version"),
        step("readonly", "/proc/sys"),
        step("sysctl", "net/ipv4/ip_forward", "1"),
        step("hostname", "mine"),
    ]
    plan = own.shell(
        "id -u; hostname; echo x > /file && rm /bin/head; wc -c < /proc/version;"
        "cat /proc/sys/net/ipv4/ip_forward; ls /sys",
        late=one_id() if maps == "one" else ranges(),
        inside=inside,
    )
    outcome = native.init(rootless(plan))
    assert outcome.out.split()[:4] == ["0", "mine", "0", "1"], outcome
    assert "kernel" in outcome.out
    assert (own.upper / "file").stat().st_uid == UID


def test_another_user_in_the_range(native: Native, own: Rootfs) -> None:
    process = [step("bounding", 0), step("user", 1000, 1000, "0022", 5), step("caps", 0, 0, 0, 0)]
    plan = own.shell("id -u; id -G; echo again > /proc/self/fd/1", late=ranges(), process=process)
    running = native.monitor(rootless(plan)).started()  # its pipes are the user's, so they can be given away
    out, code = running.output()
    assert (out.split(), code) == ([b"1000", b"1000", b"5", b"again"], 0)


def test_joins_and_gets_a_terminal(native: Native, own: Rootfs) -> None:
    running = native.monitor(rootless(own.shell("exec sleep 30", late=ranges())), primary=False).started()
    start = Path(f"/proc/{running.pid}/stat").read_text().rpartition(")")[2].split()[19]
    plan = [
        step("join-pid", running.pid, start, f"user,{ALL}"),
        step("clone", ""),
        step("enter"),
        step("become-root"),
        step("new-session"),
        step("console", 3, 24, 80, 0),
        step("chdir", "/"),
        step("env", "PATH=/bin"),
        step("exec", "sh", "-c", "id -u; tty; ls /"),
    ]
    second = native.monitor(plan, "tty=1", "rows=24", "cols=80", "exec=1").started()
    out, code = second.output()
    assert (out.split(), code) == ([b"0", b"/dev/pts/0", b"bin", b"dev", b"proc"], 0)
    os.kill(running.pid, 9)
    assert running.wait() == 0


def test_what_mapped_ids_own_is_removed(native: Native, own: Rootfs) -> None:
    """Only root of the user namespace can remove what its other users have made, and the overlay's own directory."""
    plan = own.shell(
        "mkdir -p /d/e; echo x > /d/e/f; chown -R 1000 /d; chmod 0 /d /d/e",
        late=ranges(),
        process=[step("pdeathsig", 9)],
    )
    for name in ("chown", "chmod", "mkdir"):
        (own.lower / "bin" / name).symlink_to("busybox")
    running = native.monitor(
        rootless(plan), "userns=1", teardown=[step("rmtree", own.upper), step("rmtree", own.work)]
    ).started()
    assert running.wait() == 0
    assert gone(running.pid)
    assert sorted(p.name for p in own.base.iterdir()) == ["lower", "root"]
