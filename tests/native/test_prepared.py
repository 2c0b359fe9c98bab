"""What the setter opens for a process in a user namespace of its own, which could not open or make it itself."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from knarr.plan.step import Step
from native.plans import ALL, Native, Rootfs, step

pytestmark = pytest.mark.requires("root", "overlay", "busybox")

HOST, COUNT = 200000, 1000
USER = f"user,{ALL}"


def bound(source: str, target: str, kind: str = "auto") -> Step:
    return step("bind", source, target, kind, 0, 0, 0, 0, 0, 0)


def maps() -> list[Step]:
    return [step("write-child", name, f"0 {HOST} {COUNT}\n") for name in ("uid_map", "gid_map")]


def plan(rootfs: Rootfs, script: str, host: list[Step], inside: list[Step]) -> list[Step]:
    """In a user namespace: its root owns what it writes in, and /dev/null is made by nobody here."""
    steps = rootfs.shell(script, clone=USER, host=host, late=maps(), inside=inside)
    steps = [s for s in steps if not (s.op == "device" and s.args[0] == "/dev/null") and s.op != "overlay"]
    steps = [step("root", rootfs.base / "lower", 1) if s.op == "root" else s for s in steps]
    steps.insert(next(i for i, s in enumerate(steps) if s.op == "enter") + 1, step("become-root"))
    return steps


@pytest.fixture(autouse=True)
def owned(rootfs: Rootfs, tmp_path: Path) -> None:
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_uid == os.geteuid() and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o711)
    for path in (rootfs.lower, *rootfs.lower.rglob("*")):
        os.chown(path, HOST, HOST, follow_symlinks=False)


def test_a_directory_behind_one_that_is_closed_to_it(native: Native, rootfs: Rootfs, tmp_path: Path) -> None:
    (tmp_path / "closed/data").mkdir(parents=True)
    (tmp_path / "closed/data/file").write_text("content\n")
    (tmp_path / "closed").chmod(0)
    source = tmp_path / "closed/data"
    host = [step("open-tree", 3, source, "auto", 0, "0x84000")]
    outcome = native.init(plan(rootfs, "cat /m/file", host, [bound("@3", "/m")]))
    assert outcome.out == "content\n", outcome
    alone = native.init(plan(rootfs, "cat /m/file", [], [bound(str(source), "/m")]))
    assert alone.words[0].split()[2] == "13"


def test_ids_are_mapped_of_a_filesystem_that_is_the_hosts(
    native: Native, rootfs: Rootfs, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").touch()
    os.chown(tmp_path / "data/file", 0, 1)
    ids = f"0 {HOST} {COUNT}"
    host = [step("open-tree", 0, tmp_path / "data", "auto", 0, "0x84000", ids, ids, 1)]
    outcome = native.init(plan(rootfs, "stat -c %u:%g /m/file", host, [bound("@0", "/m")]))
    assert outcome.out == "0:1\n", outcome


def test_what_is_mounted_in_it_does_not_show_outside(native: Native, rootfs: Rootfs, tmp_path: Path) -> None:
    (tmp_path / "data/deep").mkdir(parents=True)
    before = Path("/proc/self/mountinfo").read_text()
    host = [step("open-tree", 0, tmp_path / "data", "auto", 1, "0x84000")]
    inside = [bound("@0", "/m"), step("mount", "tmpfs", "t", "/m/deep", 0, "")]
    outcome = native.init(plan(rootfs, "grep -c ' /m' /proc/mounts", host, inside))
    assert outcome.out == "2\n", outcome
    assert Path("/proc/self/mountinfo").read_text() == before


@pytest.mark.parametrize(
    ("kind", "expected"), [("c 1 5 640 {} {}", "640 7:8"), ("p 0 0 600 {} {}", "600 7:8")]
)
def test_a_node_that_it_may_not_make(native: Native, rootfs: Rootfs, kind: str, expected: str) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    words = kind.format(HOST + 7, HOST + 8).split()
    inside = [bound("@5", "/dev/node", "file")]
    script = "stat -c '%a %u:%g' /dev/node"
    if words[0] == "c":
        script += "; head -c 3 /dev/node | wc -c"
    outcome = native.init(plan(rootfs, script, [step("open-node", 5, *words)], inside))
    assert outcome.out.splitlines() == [expected, *(["3"] if words[0] == "c" else [])], outcome
    assert Path("/proc/self/mountinfo").read_text() == before


@pytest.mark.parametrize(
    ("host", "inside"),
    [
        ([], [bound("@3", "/m")]),
        ([], [bound("@", "/m")]),
        ([], [bound("@99999", "/m")]),
        ([step("open-tree", 1024, "/", "auto", 0, 0)], []),
        ([step("open-tree", -1, "/", "auto", 0, 0)], []),
        ([step("open-tree", 1, "/nowhere", "auto", 0, 0)], []),
        ([step("open-tree", 1, "/", "auto", 0, 0, "0 0 1")], []),
        ([step("open-node", 1, "x", 1, 3, 666, 0, 0)], []),
        ([step("open-node", 1, "c", 1, 3, 666, "x", 0)], []),
        ([step("open-tree", 1, "/usr", "auto", 0, 0)], [bound("@1", "/m"), bound("@1", "/n")]),
    ],
)
def test_refuses(native: Native, rootfs: Rootfs, host: list[Step], inside: list[Step]) -> None:
    assert native.init(rootfs.plan("true", host=host, inside=inside)).code == 125


def test_links_at_either_end_of_a_bind(native: Native, rootfs: Rootfs, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content\n")
    (tmp_path / "link").symlink_to("file")
    (rootfs.lower / "there").symlink_to("nowhere")
    (rootfs.lower / "copied").symlink_to("file")
    source = str(tmp_path / "link")

    def out(kind: str, target: str, script: str) -> str:
        outcome = native.init(rootfs.shell(script, inside=[bound(source, target, kind)]))
        return outcome.out or outcome.words[0]

    assert out("auto,target-link", "/there", "readlink /there; cat /there") == "content\n"
    assert out("auto,source-link,target-link", "/there", "readlink /there") == "file\n"
    assert out("auto,copy-link", "/new/link", "readlink /new/link") == "file\n"
    assert out("auto,copy-link", "/copied", "readlink /copied") == "file\n"
    assert out("auto,copy-link", "/there", "").endswith(" 17 link")
    # What a process's links lead to is the kernel's to say.
    assert out("auto,source-link,target-link", "/proc/self", "").endswith(" 1 mount point")


def test_a_filesystem_in_place_of_the_root(native: Native, rootfs: Rootfs, tmp_path: Path) -> None:
    """What follows is made in it, and it is what the workload sees."""
    other = tmp_path / "other"
    (other / "proc").mkdir(parents=True)
    (other / "marker").touch()
    (other / "bin").mkdir()
    steps = rootfs.shell("ls /; ls -d /proc/self; ls /dev/null")
    at = next(i for i, s in enumerate(steps) if s.op == "root") + 1
    steps[at:at] = [
        bound(str(other), "/"),
        bound(str(rootfs.lower / "bin"), "/bin"),
    ]
    outcome = native.init(steps)
    assert outcome.out.split() == ["bin", "dev", "marker", "proc", "/proc/self", "/dev/null"], outcome


def test_a_directory_lends_its_mode_to_a_tmpfs_that_has_none(native: Native, rootfs: Rootfs) -> None:
    (rootfs.lower / "there").mkdir()
    (rootfs.lower / "there").chmod(0o2712)
    inside = [
        step("mount", "tmpfs", "t", "/there", 0, "size=1m", 1),
        step("mount", "tmpfs", "t", "/new", 0, "", 1),
    ]
    assert native.init(rootfs.shell("stat -c %a /there /new", inside=inside)).out == "2712\n1777\n"


def test_a_remount_changes_the_filesystem(native: Native, rootfs: Rootfs) -> None:
    inside = [
        step("mount", "tmpfs", "t", "/t", 0, "size=64k"),
        step("remount", "/t", "0x8", 0, 0, "size=128k"),
    ]
    out = native.init(rootfs.shell("grep ' /t ' /proc/mounts", inside=inside)).out
    assert "noexec" in out
    assert "size=128k" in out
    bad = native.init(rootfs.plan("true", inside=[inside[0], step("remount", "/t", 0, 0, 0, "colour=red")]))
    assert "Unknown parameter 'colour'" in bad.words[0]


def test_a_device_where_something_else_is(native: Native, rootfs: Rootfs) -> None:
    (rootfs.lower / "file").touch()
    os.mknod(rootfs.lower / "same", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    for path, exact, words in (("/file", 1, 17), ("/same", 1, None), ("/file", 0, None)):
        outcome = native.init(rootfs.plan("true", inside=[step("device", path, "c", 1, 5, 666, 0, 0, exact)]))
        assert [int(w.split()[2]) for w in outcome.words] == ([words] if words else [])


def test_a_root_that_is_a_slave_sees_what_the_host_mounts_in_it(native: Native, rootfs: Rootfs) -> None:
    def tags(*more: str) -> str:
        steps = rootfs.shell("grep ' / / ' /proc/self/mountinfo || head -1 /proc/self/mountinfo")
        steps = [s for s in steps if s.op != "overlay"]
        steps = [step("root", rootfs.base / "lower", 1, *more) if s.op == "root" else s for s in steps]
        steps.insert(0, step("unshare", "mnt"))
        steps.insert(1, step("propagation", "/", "0x104000"))  # as systemd leaves a host: all shared
        return native.init(steps).out.partition(" - ")[0]

    assert "master:" in tags("0x80000")
    assert "master:" not in tags()


def test_a_path_that_must_not_be_a_link(native: Native, rootfs: Rootfs) -> None:
    (rootfs.lower / "link").symlink_to("bin")
    for path, words in (("/bin", None), ("/nowhere", None), ("/link", 40), ("/link/sh", 40)):
        outcome = native.init(rootfs.plan("true", inside=[step("no-link", path)]))
        assert [int(w.split()[2]) for w in outcome.words] == ([words] if words else [])


def test_ids_as_a_namespace_maps_them(native: Native, rootfs: Rootfs, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").touch()
    with subprocess.Popen(
        ["unshare", "--user", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout
        holder.stdout.readline()
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{holder.pid}/{name}").write_text("0 5000 10\n")
        path = f"/proc/{holder.pid}/ns/user"
        args = (tmp_path / "data", "/m", "auto", 0, 0, 0, 0, 0, 0, path, "", 0)
        outcome = native.init(rootfs.shell("stat -c %u:%g /m/file", inside=[step("idmap-bind", *args)]))
        holder.kill()
    assert outcome.out == "5000:5000\n", outcome


def test_a_bind_has_the_attributes_it_asks_for(native: Native, rootfs: Rootfs) -> None:
    """And, where they protect the host, those of its source."""

    def flags(kind: str, on: str, off: str = "0x0") -> str:
        inside = [
            step("mount", "tmpfs", "t", "/t", "0xf", ""),
            step("bind", rootfs.base / "root/t", "/m", kind, 0, on, off, 0, 0, 0),
        ]
        outcome = native.init(rootfs.shell("grep ' /m ' /proc/mounts", inside=inside))
        return outcome.out.split()[3] if outcome.out else outcome.words[0]

    assert flags("auto", "0x8") == "ro,nosuid,nodev,noexec,relatime"
    assert flags("auto,exact", "0x8") == "rw,noexec,relatime"
    assert flags("auto,exact,locked", "0x8") == "ro,nosuid,nodev,noexec,relatime"
    assert flags("auto,exact,locked", "0x8", "0x1").endswith(" 1 attributes of the source")
