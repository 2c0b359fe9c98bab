"""The root filesystem: mounts, nodes, masks; and that no path leads out of it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from native.plans import ALL, Native, Rootfs, step

pytestmark = pytest.mark.requires("root", "overlay", "busybox")

RDONLY, NOSUID, NODEV, NOEXEC = 1, 2, 4, 8
RPRIVATE = 0x44000


def bind(source: Path | str, target: str, kind: str = "auto", **more: int) -> object:
    return step(
        "bind", source, target, kind, more.get("recursive", 0), hex(more.get("on", 0)), hex(more.get("off", 0)),
        hex(more.get("rec_on", 0)), hex(more.get("rec_off", 0)), hex(more.get("propagation", RPRIVATE)),
    )  # fmt: skip


def test_writes_go_to_the_upper_directory(native: Native, rootfs: Rootfs) -> None:
    assert native.init(rootfs.shell("echo new > /file; rm /bin/head")).code == 0
    assert (rootfs.upper / "file").read_text() == "new\n"
    assert not (rootfs.lower / "file").exists()
    assert stat.S_ISCHR((rootfs.upper / "bin/head").lstat().st_mode)


def test_an_overlay_of_many_layers_with_long_names(native: Native, rootfs: Rootfs) -> None:
    """More than a page of option string, more than 256 characters a path, separators in names."""
    layers = []
    for i in range(70):
        layer = rootfs.base / f"{'long' * 55}" / f"layer:{i},with\\odd"
        (layer / f"from-{i}").mkdir(parents=True)
        layers.append(layer)
    plan = [
        s._replace(args=(*s.args[:4], *map(str, layers), *s.args[4:])) if s.op == "overlay" else s
        for s in rootfs.shell("ls -d /from-* | wc -l; ls -d /bin")
    ]
    outcome = native.init(plan)
    assert (outcome.out, outcome.words) == ("70\n/bin\n", [])


def test_an_overlay_without_upper_is_read_only(native: Native, rootfs: Rootfs) -> None:
    plan = [
        s._replace(args=(s.args[0], "", "", "", *s.args[4:], str(rootfs.upper))) if s.op == "overlay" else s
        for s in rootfs.shell("echo x > /file || echo refused")
    ]
    for name in ("proc", "dev"):
        (rootfs.lower / name).mkdir()
    outcome = native.init(plan)
    assert outcome.out == "refused\n", outcome


def test_a_plain_directory_as_root(native: Native, rootfs: Rootfs) -> None:
    plan = [s for s in rootfs.shell("cat /marker; mount | head -1") if s.op != "overlay"]
    (rootfs.lower / "marker").write_text("plain\n")
    plan = [s._replace(args=(str(rootfs.lower), "1")) if s.op == "root" else s for s in plan]
    outcome = native.init(plan)
    assert outcome.out.startswith("plain\n"), outcome
    assert os.listdir(rootfs.lower / "proc") == []


@pytest.mark.parametrize("flags", ["0x84000", "0x44000", "0x104000"])
def test_pivots_whatever_the_propagation(native: Native, rootfs: Rootfs, flags: str) -> None:
    """A shared parent mount would make pivot_root refuse; nothing of ours may show outside."""
    before = Path("/proc/self/mountinfo").read_text()
    plan = [s._replace(args=("/", flags)) if s.op == "propagation" else s for s in rootfs.shell("echo in")]
    outcome = native.init(plan)
    assert outcome.out == "in\n", outcome
    assert Path("/proc/self/mountinfo").read_text() == before


def test_without_pivot(native: Native, rootfs: Rootfs) -> None:
    plan = [step("move-root") if s.op == "pivot" else s for s in rootfs.shell("ls /; cd ..; pwd")]
    assert native.init(plan).out == "bin\ndev\nproc\n/\n"


def test_a_read_only_root(native: Native, rootfs: Rootfs) -> None:
    outcome = native.init(
        rootfs.shell(
            "echo x > /file || echo refused; echo x > /dev/y && echo fine", process=[step("root-attr", 1, 0)]
        )
    )
    assert outcome.out == "refused\nfine\n"


# ---- binds ----


def test_binds(native: Native, rootfs: Rootfs, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").write_text("content\n")
    inside = [
        bind(tmp_path / "data", "/a/b/dir"),
        bind(tmp_path / "data/file", "/a/file", on=RDONLY),
        bind("/dev/null", "/a/null", "file"),
    ]
    script = (
        "cat /a/b/dir/file; echo more >> /a/b/dir/file; echo more >> /a/file || echo refused; "
        "echo x > /a/null; mount | grep ' /a/'"
    )
    outcome = native.init(rootfs.shell(script, inside=inside))
    assert outcome.code == 0, outcome
    assert outcome.out.startswith("content\nrefused\n")
    assert (tmp_path / "data/file").read_text() == "content\nmore\n"


def test_recursive_binds_with_recursive_flags(native: Native, rootfs: Rootfs, tmp_path: Path) -> None:
    inside = [
        step("mount", "tmpfs", "one", "/outer", "0", ""),
        step("mount", "tmpfs", "two", "/outer/inner", "0", ""),
        bind(f"{rootfs.base}/root/outer", "/all", recursive=1, rec_on=RDONLY),
        bind(f"{rootfs.base}/root/outer", "/top", recursive=1, on=RDONLY),
        bind(f"{rootfs.base}/root/outer", "/alone", recursive=0),
    ]
    script = (
        "for d in /all /all/inner /top /top/inner; do echo x > $d/f && echo $d; done; "
        "ls /alone/inner; mount | grep -c ' /alone'"
    )
    outcome = native.init(rootfs.shell(script, inside=inside))
    assert outcome.out.splitlines() == ["/top/inner", "1"], outcome


def test_an_id_mapped_bind(native: Native, rootfs: Rootfs, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").write_text("")
    os.chown(tmp_path / "data/file", 1000, 1000)
    args = (tmp_path / "data", "/m", "dir", 0, 0, 0, 0, 0, hex(RPRIVATE))
    plan = rootfs.shell(
        "stat -c %u:%g /m/file", inside=[step("idmap-bind", *args, "0 5000 1,1000 7000 1", "1000 7001 1", 0)]
    )
    outcome = native.init(plan)
    assert outcome.out == "7000:7001\n", outcome
    bad = native.init(rootfs.plan("true", inside=[step("idmap-bind", *args, "nonsense", "0 0 1", 0)]))
    assert (bad.code, bad.words[0].split()[2]) == (125, "22")


def test_remount_and_propagation_of_what_is_in_place(native: Native, rootfs: Rootfs) -> None:
    inside = [
        step("mount", "tmpfs", "t", "/t", "0", ""),
        step("remount", "/t", hex(RDONLY | NOEXEC), 0, 0),
        step("attach-propagation", "/t", hex(1 << 20)),  # shared
    ]
    outcome = native.init(rootfs.shell("grep ' /t ' /proc/self/mountinfo", inside=inside))
    assert " ro,noexec,relatime shared:" in outcome.out, outcome


def test_the_access_time_flag_can_be_changed(native: Native, rootfs: Rootfs) -> None:
    inside = [step("mount", "tmpfs", "t", "/t", "0x10", ""), step("remount", "/t", "0x20", 0, 0)]
    assert "noatime" not in native.init(rootfs.shell("mount | grep ' /t '", inside=inside)).out


def test_options_with_commas(native: Native, rootfs: Rootfs) -> None:
    outcome = native.init(
        rootfs.plan("true", inside=[step("mount", "tmpfs", "t", "/t", 0, "size=1\\,000,mode=755")])
    )
    assert outcome.code == 125  # the value reached tmpfs as "1,000", which it refuses
    assert "size" in outcome.words[0]


def test_copy_up(native: Native, rootfs: Rootfs) -> None:
    source = rootfs.lower / "var/data"
    (source / "deep/er").mkdir(parents=True)
    (source / "deep/er/file").write_text("copied")
    os.chown(source / "deep/er/file", 12, 34)
    (source / "deep").chmod(0o1777)
    (source / "link").symlink_to("deep/er/file")
    os.mkfifo(source / "pipe")
    inside = [step("copy-up", "/var/data"), step("mount", "tmpfs", "t", "/var/data", "0x1", "")]
    script = (
        "cd /var/data; cat link; echo; stat -c '%a %F' deep pipe; stat -c %u:%g deep/er/file; "
        "echo x > y || echo refused"
    )
    outcome = native.init(rootfs.shell(script, inside=inside))
    assert outcome.out.splitlines() == ["copied", "1777 directory", "644 fifo", "12:34", "refused"], outcome


def test_copy_up_of_nothing(native: Native, rootfs: Rootfs) -> None:
    inside = [step("copy-up", "/not/there"), step("mount", "tmpfs", "t", "/not/there", 0, "")]
    assert native.init(rootfs.shell("ls /not/there", inside=inside)).code == 0


# ---- nodes ----


def test_devices_and_links(native: Native, rootfs: Rootfs) -> None:
    inside = [
        step("device", "/dev/zero", "c", 1, 5, 640, 7, 8),
        step("device", "/dev/zero", "c", 1, 5, 666, 0, 0),  # is there already
        step("device", "/dev/changed", "c", 1, 3, 666, 0, 0),
        step("device", "/dev/changed", "c", 1, 7, 600, 0, 0),  # another of that name
        step("device", "/dev/deep/er/pipe", "p", 0, 0, 622, 0, 0),
        step("make-link", "/dev/fd", "/proc/self/fd"),
        step("make-link", "/dev/fd", "/elsewhere"),
        step("make-dir", "/work/dir", 750, 5, 6),
        step("make-dir", "/bin", 700, 5, 6),  # was there: stays as it is
    ]
    script = (
        "cd /dev; stat -c '%n %a %u:%g %t,%T %F' zero changed deep/er/pipe; readlink fd; "
        "stat -c '%a %u:%g' /work/dir /bin /work"
    )
    outcome = native.init(rootfs.shell(script, inside=inside))
    assert outcome.out.splitlines() == [
        "zero 640 7:8 1,5 character special file",
        "changed 600 0:0 1,7 character special file",
        "deep/er/pipe 622 0:0 0,0 fifo",
        "/proc/self/fd",
        "750 5:6",
        "755 0:0",
        "755 0:0",
    ], outcome


def test_masked_and_read_only(native: Native, rootfs: Rootfs) -> None:
    for name in ("secret", "other", "tree/below"):
        (rootfs.lower / name).mkdir(parents=True)
        (rootfs.lower / name / "file").write_text("hidden")
    inside = [
        step("mask", "/secret"),
        step("mask", "/other"),
        step("mask", "/tree/below/file"),
        step("mask", "/not/there"),
        step("mask", "/tree/below/file/not"),
        step("readonly", "/tree"),
        step("readonly", "/not/there"),
    ]
    script = (
        "ls -a /secret /other | wc -w; echo x > /secret/x || echo refused; "
        "wc -c < /tree/below/file; echo x > /tree/x || echo refused; echo x > /free && echo fine"
    )
    outcome = native.init(rootfs.shell(script, inside=inside))
    assert outcome.out.splitlines() == ["6", "refused", "0", "refused", "fine"], outcome


# ---- hostile root filesystems ----


def links(rootfs: Rootfs, **found: str) -> None:
    for name, target in found.items():
        (rootfs.lower / name).symlink_to(target)


@pytest.mark.parametrize(
    "target", ["{outside}", "../../../../../../../../../..{outside}", "/proc/self/root{outside}"]
)
def test_no_link_leads_out(native: Native, rootfs: Rootfs, tmp_path: Path, target: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("host")
    links(rootfs, evil=target.format(outside=outside))
    inside = [
        step("make-dir", "/evil/made", 755, 0, 0, optional=True),
        step("make-link", "/evil/link", "x", optional=True),
        step("device", "/evil/null", "c", 1, 3, 666, 0, 0, optional=True),
        step("mount", "tmpfs", "t", "/evil/mount", 0, "", optional=True),
        step("mount", "tmpfs", "t", "/evil", 0, "", optional=True),
        bind("/etc", "/evil/bind"),
        step("mask", "/evil/file", optional=True),
        step("readonly", "/evil", optional=True),
    ]
    inside = [s._replace(optional=True) for s in inside]  # type: ignore[attr-defined]
    native.init(rootfs.plan("true", inside=inside))
    assert sorted(os.listdir(outside)) == ["file"]
    assert (outside / "file").read_text() == "host"


def test_a_dangling_link_is_followed_inside(native: Native, rootfs: Rootfs) -> None:
    """/var/run -> /run in an image without /run: the mount point is made where the container will look."""
    (rootfs.lower / "var").mkdir()
    (rootfs.lower / "var/run").symlink_to("/run")
    (rootfs.lower / "var/lock").symlink_to("run/lock")
    inside = [
        step("mount", "tmpfs", "secrets", "/var/run/secrets", 0, ""),
        step("make-dir", "/var/lock/sub", 755, 0, 0),
    ]
    outcome = native.init(
        rootfs.shell("mount | grep -o '/run/secrets'; ls -d /run/lock/sub /var/run/lock/sub", inside=inside)
    )
    assert outcome.out.splitlines() == ["/run/secrets", "/run/lock/sub", "/var/run/lock/sub"], outcome


def test_links_in_a_circle(native: Native, rootfs: Rootfs) -> None:
    links(rootfs, one="two", two="one")
    outcome = native.init(rootfs.plan("true", inside=[step("make-dir", "/one/x", 755, 0, 0)]))
    assert (outcome.code, outcome.words[0].split()[2]) == (125, "40")


def test_proc_is_not_mounted_behind_a_link(native: Native, rootfs: Rootfs) -> None:
    (
        ""
        """What is masked lies at /proc: were /proc a link, the masks could be made to miss it (CVE-2019-19921)."""
    )
    links(rootfs, proc="elsewhere")
    (rootfs.lower / "elsewhere").mkdir()
    outcome = native.init(rootfs.plan("true"))
    assert (outcome.code, outcome.words[0].split()[2]) == (125, "40")


def test_the_working_directory_is_in_the_container(native: Native, rootfs: Rootfs) -> None:
    """A descriptor of the host as working directory would be a way out (CVE-2024-21626)."""
    leak = os.open("/", os.O_PATH)
    try:
        plan = [
            s._replace(args=(f"/proc/self/fd/{leak}",)) if s.op == "chdir" else s
            for s in rootfs.shell("ls /tmp ../../")
        ]
        outcome = native.init(plan, fds=[leak])
    finally:
        os.close(leak)
    assert outcome.code == 125
    assert outcome.words[0].endswith("outside of the container")
    missing = [s._replace(args=("/nowhere",)) if s.op == "chdir" else s for s in rootfs.plan("true")]
    assert native.init(missing).words[0].split()[2] == "2"


def test_a_forged_devpts_gives_no_terminal(native: Native, rootfs: Rootfs) -> None:
    plan = [
        s for s in rootfs.plan("true", inside=[step("console", 0, 24, 80, 1)]) if s.args[:1] != ("devpts",)
    ]
    (rootfs.lower / "dev/pts").mkdir(parents=True)
    plan = [s for s in plan if not (s.op == "mount" and s.args[2] == "/dev")]
    os.mknod(rootfs.lower / "dev/pts/ptmx", 0o666 | stat.S_IFCHR, os.makedev(5, 2))
    outcome = native.init(plan)
    assert outcome.code == 125
    assert "not of a devpts" in outcome.words[0]


def test_a_user_namespace(native: Native, rootfs: Rootfs) -> None:
    maps = "0 100000 65536"
    for path in (rootfs.base, *rootfs.base.rglob("*")):
        os.lchown(path, 100000, 100000)
    for path in rootfs.base.parents:
        if path != Path("/"):
            path.chmod(path.stat().st_mode | 0o111)
    plan = rootfs.shell(
        "id -u; cat /proc/self/uid_map; echo x > /file; stat -c %u /file",
        late=[step("write-child", "uid_map", maps), step("write-child", "gid_map", maps)],
    )
    steps = []
    for s in plan:
        if s.op == "clone":
            s = s._replace(args=(f"user,{ALL}",))
        if s.op == "device":
            continue  # not for root of a user namespace
        steps.append(s)
        if s.op == "enter":
            steps.append(step("become-root"))
    outcome = native.init(steps)
    assert outcome.out.split() == ["0", "0", "100000", "65536", "0"], outcome
    assert (rootfs.upper / "file").stat().st_uid == 100000
