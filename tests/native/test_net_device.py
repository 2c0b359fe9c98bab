"""A device of the host's network namespace goes over into a container's, with what was to last of it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from knarr.plan.step import Step
from native.plans import ALL, Native, Rootfs, step

pytestmark = pytest.mark.requires("root", "overlay", "busybox")


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A network namespace with a device in it, in which the setter begins; and its name as a file."""
    holder = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE
    )
    assert holder.stdout
    holder.stdout.readline()
    try:
        ip(Path(f"/proc/{holder.pid}/ns/net"), "link add knarrdev type veth peer name knarrpeer")
        yield Path(f"/proc/{holder.pid}/ns/net")
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()


def ip(namespace: Path, words: str) -> str:
    done = subprocess.run(
        ["nsenter", f"--net={namespace}", "ip", *words.split()], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


SHOW = "ip -o addr show; ip -o link show"


@pytest.fixture(autouse=True)
def busybox_ip(rootfs: Rootfs) -> None:
    (rootfs.lower / "bin/ip").symlink_to("busybox")
    (rootfs.lower / "bin/sed").symlink_to("busybox")


def plan(rootfs: Rootfs, outside: Path, late: Sequence[Step], script: str = SHOW) -> list[Step]:
    return rootfs.shell(script, host=[step("join", "net", outside)], late=late)


def test_it_keeps_what_was_to_last(native: Native, rootfs: Rootfs, outside: Path) -> None:
    for words in (
        "addr add 10.1.2.3/24 brd 10.1.2.254 dev knarrdev", "addr add 10.1.9.9/32 dev knarrdev",
        "addr add fd00::7/64 dev knarrdev", "addr add 10.1.8.8/24 dev knarrdev scope link",
        "addr add 10.1.7.7/24 dev knarrdev valid_lft 100 preferred_lft 100", "link set knarrdev up mtu 1400",
    ):  # fmt: skip
        ip(outside, words)
    outcome = native.init(plan(rootfs, outside, [step("net-device", "knarrdev", "inside0")]))
    assert (outcome.code, outcome.words) == (0, []), outcome
    assert "inet 10.1.2.3/24 brd 10.1.2.254 scope global inside0" in outcome.out
    assert "inet 10.1.9.9/32 scope global inside0" in outcome.out
    assert "inet6 fd00::7/64 scope global" in outcome.out
    assert "10.1.8.8" not in outcome.out
    assert "10.1.7.7" not in outcome.out
    assert re.search(r"inside0@\S*: <[^>]*\bUP\b", outcome.out), outcome
    assert "mtu 1400" in outcome.out
    assert "knarrdev" not in ip(outside, "-o link show")


def test_a_name_that_is_taken_is_refused_before_anything_changes(
    native: Native, rootfs: Rootfs, outside: Path
) -> None:
    ip(outside, "addr add 10.1.2.3/24 dev knarrdev")
    outcome = native.init(plan(rootfs, outside, [step("net-device", "knarrdev", "lo")]))
    assert outcome.words[0].endswith(" 17 lo")
    assert "10.1.2.3" in ip(outside, "-o addr show dev knarrdev")


def test_the_kernel_finds_a_number(native: Native, rootfs: Rootfs, outside: Path) -> None:
    ip(outside, "link add other type veth peer name otherpeer")
    late = [step("net-device", "knarrdev", "in%d"), step("net-device", "other", "in%d")]
    outcome = native.init(plan(rootfs, outside, late, "ip -o link show | sed 's/@.*//;s/: <.*//'"))
    assert [line.split()[-1] for line in outcome.out.splitlines()] == ["lo", "in0", "in1"], outcome


def test_into_a_namespace_by_its_path(native: Native, rootfs: Rootfs, outside: Path) -> None:
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE
    ) as inside:
        assert inside.stdout
        inside.stdout.readline()
        path = f"/proc/{inside.pid}/ns/net"
        host = [
            step("join", "net", outside),
            step("net-device", "knarrdev", "inside0", path),
            step("join", "net", path),
        ]
        outcome = native.init(rootfs.shell(SHOW, host=host, clone=ALL.replace("net,", "")))
        inside.kill()
    assert "inside0@" in outcome.out, outcome


@pytest.mark.parametrize(
    ("args", "errno"),
    [
        (("nodev", "x"), 19),
        (("knarrdev", "a/b"), 22),
        (("knarrdev", "x" * 16), 22),
        (("x" * 16, "y"), 22),
        (("knarrdev", "x", "/nowhere"), 2),
        (("knarrdev", "x", "/proc/self/ns/mnt"), 22),
    ],
)
def test_refuses(native: Native, rootfs: Rootfs, outside: Path, args: tuple[str, ...], errno: int) -> None:
    outcome = native.init(plan(rootfs, outside, [step("net-device", *args)]))
    assert (outcome.code, outcome.words[0].split()[2]) == (125, str(errno))


def test_a_group_of_resctrl_is_made_or_has_to_be_as_asked(native: Native, tmp_path: Path) -> None:
    """On plain directories: what the kernel says to the schemata is its own affair."""
    made = tmp_path / "made"
    assert native.init([step("resctrl-group", made)]).words == []
    assert made.is_dir()
    assert native.init([step("resctrl-group", made)]).words == []
    (made / "schemata").write_text("    MB:0=100;1=100\n    L3:0=7ff;1=7ff\n")
    there = step("resctrl-group", made, "L3:0=7ff;1=7ff", "MB:0=100; 1=100")
    assert native.init([there]).words == []
    other = step("resctrl-group", made, "L3:0=7ff;1=7ff", "MB:0=50;1=100")
    assert native.init([other]).words == ["fail 0 17 without MB:0=50;1=100"]
    assert native.init([step("resctrl-group", tmp_path / "a/b", "x")]).words == ["fail 0 2 "]
    assert native.init([step("resctrl-group", tmp_path / "new", "x")]).words == ["fail 0 2 schemata"]


def test_a_memory_policy(native: Native, rootfs: Rootfs) -> None:
    for args, shown in (
        ((2, "0"), " bind:0 "),
        ((4, ""), " local "),
        ((1 | 1 << 15, "0"), " prefer=static:0 "),
    ):
        outcome = native.init(rootfs.shell("cat /proc/self/numa_maps", process=[step("mempolicy", *args)]))
        if not outcome.out and not outcome.words:
            pytest.skip("this machine lacks: numa_maps")
        assert shown in outcome.out, outcome
    for args in ((2, "x"), (2, "1024"), (2, "3-1"), (99, "0"), (2, "")):
        assert native.init(rootfs.plan("true", process=[step("mempolicy", *args)])).code == 125
