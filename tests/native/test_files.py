"""Operations on the host's files: what is absent, hostile, deep; cgroups; netlink."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.machine import Machine
from knarr.plan.step import Step
from native.plans import Native, step

pytestmark = pytest.mark.requires("root")


def only(native: Native, *steps: Step) -> list[str]:
    outcome = native.init(steps)
    assert outcome.code == (125 if any(r.startswith("fail") for r in outcome.reports) else 0), outcome
    return outcome.reports


def test_directories(native: Native, tmp_path: Path) -> None:
    d = tmp_path / "d"
    assert only(native, step("mkdir", d, 751), step("mkdir", d, 700)) == []
    assert d.stat().st_mode & 0o777 == 0o751
    (d / "file").touch()
    assert only(native, step("mkdir", d / "file", 700)) == ["fail 0 20 "]
    assert only(native, step("mkdir", tmp_path / "no/way", 700)) == ["fail 0 2 "]
    assert only(native, step("rmdir", d)) == ["fail 0 39 "]
    assert (
        only(
            native, step("unlink", d / "file"), step("unlink", d / "file"), step("rmdir", d), step("rmdir", d)
        )
        == []
    )
    assert not d.exists()


def test_links_and_names(native: Native, tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    assert only(native, step("symlink", "somewhere", a), step("rename", a, b)) == []
    assert os.readlink(b) == "somewhere"
    assert only(native, step("symlink", "x", b)) == ["fail 0 17 "]


def test_write_neither_creates_nor_truncates(native: Native, tmp_path: Path) -> None:
    file = tmp_path / "file"
    assert only(native, step("write", file, "x")) == ["fail 0 2 "]
    file.write_text("abc")
    assert only(native, step("write", file, "X")) == []
    assert file.read_text() == "Xbc"


def test_write_file_replaces(native: Native, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    assert only(native, step("write-file", file, 640, "new\nlines")) == []
    assert (file.read_text(), file.stat().st_mode & 0o777, os.listdir(tmp_path).count("file")) == (
        "new\nlines",
        0o640,
        1,
    )
    assert only(native, step("write-file", tmp_path / "no/file", 640, "")) == ["fail 0 2 "]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "findings"]


def test_umount_of_what_is_not_mounted(native: Native, tmp_path: Path) -> None:
    assert only(native, step("umount", tmp_path), step("umount", tmp_path / "no")) == []


def test_umount(native: Native, tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path], check=True)
    try:
        assert only(native, step("umount", tmp_path)) == []
        assert not os.path.ismount(tmp_path)
    finally:
        if os.path.ismount(tmp_path):
            subprocess.run(["umount", tmp_path], check=True)


# ---- rmtree ----


def test_rmtree_takes_everything_but_what_links_point_to(native: Native, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    tree = tmp_path / "tree"
    (tree / "locked/below").mkdir(parents=True)
    (tree / "locked/below/file").touch()
    (tree / "link").symlink_to(kept)
    (tree / "locked/link").symlink_to("/")
    os.mkfifo(tree / "pipe")
    for i in range(500):
        (tree / f"file-{i}").touch()
    (tree / "locked").chmod(0)
    assert only(native, step("rmtree", tree), step("rmtree", tree)) == []
    assert not tree.exists()
    assert (kept / "file").exists()


def test_rmtree_of_a_link_or_a_file_removes_that(native: Native, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (tmp_path / "link").symlink_to(kept)
    (tmp_path / "file").touch()
    assert only(native, step("rmtree", tmp_path / "link"), step("rmtree", tmp_path / "file")) == []
    assert kept.is_dir()


def test_rmtree_of_a_very_deep_tree(native: Native, tmp_path: Path) -> None:
    """Deeper than there are descriptors, and than a path can name."""
    at = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    os.mkdir("deep", dir_fd=at)
    for _ in range(3000):
        below = os.open("deep", os.O_RDONLY | os.O_DIRECTORY, dir_fd=at)
        os.close(at)
        at = below
        os.mkdir("deep", dir_fd=at)
        os.close(os.open("file", os.O_CREAT, dir_fd=at))
    os.close(at)
    assert only(native, step("rlimit", "nofile", 256, 256), step("rmtree", tmp_path / "deep")) == []
    assert not (tmp_path / "deep").exists()


def test_rmtree_stops_at_a_mount(native: Native, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "mounted").mkdir(parents=True)
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    subprocess.run(["mount", "--bind", kept, tree / "mounted"], check=True)
    try:
        reports = only(native, step("rmtree", tree))
    finally:
        subprocess.run(["umount", tree / "mounted"], check=True)
    assert reports[0].startswith("fail 0 16 ") or reports[0].startswith("fail 0 18 ")
    assert (kept / "file").exists()


# ---- cgroups ----


def busy(cgroup: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(["sleep", "60"])
    (cgroup / "cgroup.procs").write_text(str(process.pid))
    return process


@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_a_cgroup_is_emptied_and_removed(native: Native, machine: Machine, kind: str) -> None:
    mine = next((c for c in machine.cgroups if (c / "cgroup.kill").exists() == (kind == "v2")), None)
    if mine is None:
        pytest.skip(f"this machine lacks: cgroup-{kind}")
    group = mine / "native-test"
    (group / "below/deeper").mkdir(parents=True)
    processes = [
        busy(group / "below"),
        busy(group / "below/deeper"),
        *([busy(group)] if kind == "v1" else []),
    ]
    try:
        assert (
            only(native, step("cgroup-kill", group), step("rmdir", group), step("cgroup-kill", group)) == []
        )
        assert not group.exists()
        assert [process.wait(5) for process in processes] == [-9] * len(processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.requires("cgroup-v2")
def test_c_is_born_in_its_cgroup(native: Native, machine: Machine) -> None:
    mine = next(c for c in machine.cgroups if (c / "cgroup.kill").exists())
    group = mine / "born"
    plan = [
        step("mkdir", group, 755), step("cgroup-v2", group), step("clone", "cgroup,pid"), step("enter"),
        step("env", "PATH=/usr/bin:/bin"), step("exec", "grep", "^0:", "/proc/self/cgroup"),
    ]  # fmt: skip
    try:
        # Its namespace's root is the cgroup that it is in.
        assert native.init(plan).out == "0::/\n"
    finally:
        group.rmdir()


@pytest.mark.requires("cgroup-v2")
def test_device_rules_on_v2(native: Native, machine: Machine) -> None:
    mine = next(c for c in machine.cgroups if (c / "cgroup.kill").exists())
    group = mine / "devices"
    refuse_all = (b"\xb7\0\0\0" + b"\0\0\0\0" + b"\x95\0\0\0" + b"\0\0\0\0").hex()  # r0 = 0; exit
    plan = [
        step("mkdir", group, 755), step("cgroup-devices", group, refuse_all), step("cgroup-v2", group),
        step("clone", ""), step("enter"), step("env", "PATH=/usr/bin:/bin"),
        step("exec", "sh", "-c", "cat /dev/zero || echo refused"),
    ]  # fmt: skip
    try:
        outcome = native.init(plan)
        assert outcome.out == "refused\n", outcome
        bad = native.init([step("cgroup-devices", group, "0102")])
        assert bad.reports == ["fail 0 22 a program of 2 bytes"]
    finally:
        group.rmdir()


# ---- netlink ----

NEWLINK, ACK, REQUEST = 16, 4, 1


def link_up(index: int, *, flags: int = 1, kind: int = NEWLINK) -> bytes:
    body = struct.pack("=BxHiII", 0, 0, index, flags, 1)
    return struct.pack("=IHHII", 16 + len(body), kind, REQUEST | ACK, 7, 0) + body


def test_netlink_waits_for_every_answer(native: Native) -> None:
    messages = link_up(1, flags=0) + link_up(1) + link_up(1)
    assert only(native, step("unshare", "net"), step("netlink", 0, messages.hex())) == []


def test_netlink_tells_what_the_kernel_said(native: Native) -> None:
    messages = link_up(1) + link_up(4711)
    report = only(native, step("unshare", "net"), step("netlink", 0, messages.hex()))[0]
    assert report.startswith("fail 1 19 ")
    assert only(native, step("netlink", 0, messages[:-1].hex())) == ["fail 0 22 a netlink message is cut off"]
    assert only(native, step("netlink", 0, "0x")) == ["fail 0 22 binary data is not hexadecimal"]


def test_netlink_patches_the_process_in(native: Native) -> None:
    """A veth of which one end is born in C's namespace: IFLA_NET_NS_PID is the container's process."""
    name = f"kn{os.getpid()}"

    def attribute(number: int, data: bytes) -> bytes:
        size = 4 + len(data)
        return struct.pack("=HH", size, number) + data + b"\0" * (-size % 4)

    peer = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + attribute(3, b"inside\0") + attribute(19, b"\xff" * 4)
    body = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + attribute(3, name.encode() + b"\0")
    body += attribute(18, attribute(1, b"veth") + attribute(2, attribute(1, peer)))
    message = struct.pack("=IHHII", 16 + len(body), NEWLINK, REQUEST | ACK | 0x600, 7, 0) + body
    offset = message.index(b"\xff" * 4)
    plan = [
        step("clone", "net"), step("netlink", 0, message.hex(), offset), step("enter"),
        step("env", "PATH=/usr/bin:/bin"), step("exec", "cat", "/proc/self/net/dev"),
    ]  # fmt: skip
    outcome = native.init(plan)
    assert "inside:" in outcome.out, outcome
    deadline = time.monotonic() + 10  # the pair goes with the namespace, in its own time
    while name in {name for _, name in socket.if_nameindex()} and time.monotonic() < deadline:
        time.sleep(0.05)
    assert name not in {name for _, name in socket.if_nameindex()}


def test_the_first_file_that_there_is(native: Native, tmp_path: Path) -> None:
    for name in "bc":
        (tmp_path / name).write_text("-")
    pairs = [word for name, value in (("a", 1), ("b", 2), ("c", 3)) for word in (tmp_path / name, value)]
    assert native.init([step("write-first", *pairs)]).words == []
    assert [(tmp_path / name).read_text() for name in "bc"] == ["2", "-"]
    assert native.init([step("write-first", *pairs[:2])]).words == ["fail 0 2 "]


def test_two_values_in_the_order_that_is_taken(native: Native, tmp_path: Path) -> None:
    """A new cgroup takes any order; what was set before may stand in the way of either."""
    cgroup = Path("/sys/fs/cgroup/memory") / f"knarr-test-{os.getpid()}"
    memory, swap = (cgroup / f"memory.{name}limit_in_bytes" for name in ("", "memsw."))
    if not swap.parent.parent.joinpath(swap.name).exists():
        pytest.skip("this machine lacks: swap accounting of cgroup v1")
    cgroup.mkdir()
    try:
        for size in (1 << 24, 1 << 26, 1 << 23):
            assert native.init([step("write-both", memory, size, swap, 2 * size)]).words == []
            assert [int(memory.read_text()), int(swap.read_text())] == [size, 2 * size]
        outcome = native.init([step("write-both", memory, "x", swap, 1 << 24)])
        assert outcome.words[0].startswith("fail 0 22 ")
        assert native.init([step("write-both", cgroup / "no", 1, swap, 1)]).words[0].startswith("fail 0 2 ")
    finally:
        cgroup.rmdir()


def test_a_cgroup_is_given_away_with_what_is_safe_to_give(native: Native) -> None:
    top = next(
        (p for p in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup") if Path(p, "cgroup.procs").exists()), ""
    )
    if not top or not Path(top, "cgroup.controllers").exists():
        pytest.skip("this machine lacks: cgroup v2")
    cgroup = Path(top, f"knarr-test-{os.getpid()}")
    cgroup.mkdir()
    try:
        assert native.init([step("cgroup-own", cgroup, 4242)]).words == []
        owners = {name: (cgroup / name).stat().st_uid for name in ("", "cgroup.procs", "cgroup.freeze")}
        assert owners == {"": 4242, "cgroup.procs": 4242, "cgroup.freeze": 0}
        assert native.init([step("cgroup-own", "/nowhere", 1)]).words == ["fail 0 2 "]
    finally:
        cgroup.rmdir()


def test_two_may_remove_the_same_tree(native: Native, tmp_path: Path) -> None:
    """A removal goes on where another command has begun it: neither minds that something has gone meanwhile."""
    tree = tmp_path / "tree"
    removals = [[step("rmtree", tree)]] * 4
    for _ in range(10):
        for i in range(40):
            (tree / f"a{i}/b/c").mkdir(parents=True)
            (tree / f"a{i}/b/file").touch()
        with ThreadPoolExecutor(4) as pool:
            outcomes = list(pool.map(native.init, removals))
        assert [outcome.code for outcome in outcomes] == [0] * 4, outcomes
        assert not tree.exists()
