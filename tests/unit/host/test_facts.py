"""Facts from the text the kernel gives: three kinds of cgroup machine, capabilities, ranges, limits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from knarr.host import facts
from knarr.plan.facts import CgroupV1, CgroupV2, SubIds

HYBRID_MOUNTS = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:5 - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/a,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
HYBRID_OWN = """\
9:name=systemd:/user.slice
4:memory:/process_api/2a
1:cpu,cpuacct:/
0::/x
"""


def test_hybrid() -> None:
    v1, v2 = facts.cgroup_hierarchies(HYBRID_MOUNTS, HYBRID_OWN)
    assert set(v1) == {
        CgroupV1(("cpu", "cpuacct"), "/sys/fs/cgroup/cpu,cpuacct", "/"),
        CgroupV1(("memory",), "/sys/fs/cgroup/memory", "/process_api/2a"),
        CgroupV1(("name=systemd",), "/sys/fs/cgroup/systemd", "/user.slice"),
    }
    assert v2 == CgroupV2((), "/sys/fs/cgroup/unified", "/x")


def test_unified() -> None:
    mounts = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
    v1, v2 = facts.cgroup_hierarchies(mounts, "0::/user.slice/user-1000.slice/session-2.scope\n")
    assert v1 == ()
    assert v2 == CgroupV2((), "/sys/fs/cgroup", "/user.slice/user-1000.slice/session-2.scope")


def test_nothing_mounted() -> None:
    assert facts.cgroup_hierarchies("22 27 0:21 / /proc rw - proc proc rw\n", "0::/\n") == ((), None)
    assert facts.cgroup_hierarchies("", "") == ((), None)


@pytest.mark.parametrize(
    ("root", "place", "own"),
    [
        ("/", "/a/b", "/a/b"),
        ("/docker/1", "/docker/1", "/"),  # a container without a cgroup namespace sees its own part only
        ("/docker/1", "/docker/1/x", "/x"),
        ("/docker/1", "/docker/12", "/"),  # not below what is mounted
        ("/", "/../other", "/"),  # outside of the cgroup namespace
        ("/", "/gone (deleted)", "/gone"),
    ],
)
def test_own_cgroup_is_relative_to_the_mount(root: str, place: str, own: str) -> None:
    mounts = f"30 23 0:26 {root} /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
    _, v2 = facts.cgroup_hierarchies(mounts, f"0::{place}\n")
    assert v2 is not None
    assert v2.own == own


def test_the_usual_place_is_preferred_and_blanks_are_unescaped() -> None:
    mounts = (
        "1 1 0:1 / /my\\040cgroups rw - cgroup2 cgroup2 rw\n2 1 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
        "3 1 0:2 / /other\\134x rw - cgroup cgroup rw,pids\n"
    )
    v1, v2 = facts.cgroup_hierarchies(mounts, "2:pids:/\n0::/\n")
    assert v2 is not None
    assert v2.mount == "/sys/fs/cgroup"
    assert v1[0].mount == "/other\\x"


def test_of_mounts_on_the_same_path_the_last_is_seen() -> None:
    mounts = (
        "1 1 0:1 /.. /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
        "2 1 0:1 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
        "3 1 0:2 /.. /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
        "4 1 0:2 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
    )
    v1, v2 = facts.cgroup_hierarchies(mounts, "2:pids:/b\n0::/a\n")
    assert v2 is not None
    assert (v2.own, v1[0].own) == ("/a", "/b")


def test_capabilities() -> None:
    status = "Name:\tCapEff:\nCapPrm:\t0000000000000001\nCapEff:\t000001fffeffffff\nCapBnd:\t0\n"
    assert facts.effective_capabilities(status) == 0x1FFFEFFFFFF
    assert facts.effective_capabilities("") == 0


@pytest.mark.parametrize(
    ("release", "version"),
    [("6.18.44-amd64", (6, 18)), ("5.10", (5, 10)), ("6.1-rc2", (6, 1)), ("7", (7, 0)), ("what", (0, 0))],
)
def test_kernel_version(release: str, version: tuple[int, int]) -> None:
    assert facts.kernel_version(release) == version


def test_open_files_limit() -> None:
    text = (
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max open files            1024                 20000                files     \n"
    )
    assert facts.open_files_limit(text) == 20000
    assert facts.open_files_limit(text.replace("20000    ", "unlimited")) == 1 << 20
    assert facts.open_files_limit("") == 1 << 20


def test_sub_ids_by_name_and_number() -> None:
    text = (
        "# comment\npeer:100000:65536\n1000:300000:10\nother:5:5\npeer:bad:1\npeer:4294967290:6\npeer:7:0\n\n"
    )
    assert facts.sub_ids(text, "peer", 1000, 1000) == (SubIds(100000, 65536), SubIds(300000, 10))
    assert facts.sub_ids(text, "", 0, 0) == ()


def test_ranges_that_cannot_be_mapped_together_are_left_out() -> None:
    """500-1499 holds the user's own id, 100005 belongs to the first range already."""
    text = "p:100000:10\np:500:1000\np:100005:10\np:300000:5\n"
    assert facts.sub_ids(text, "p", 1000, 1000) == (SubIds(100000, 10), SubIds(300000, 5))
    assert facts.sub_ids(text, "p", 1000, 7)[1] == SubIds(500, 1000)  # a group's number is another matter
    assert facts.sub_ids("p:0:4294967295\n", "p", 1000, 1000) == ()
    many = "".join(f"p:{n * 10 + 5000}:5\n" for n in range(1000))
    assert len(facts.sub_ids(many, "p", 1000, 1000)) == 339


def test_tools_are_looked_up_when_asked_for(tmp_path: Path) -> None:
    (tmp_path / "mytool").write_text("#!/bin/sh\n")
    (tmp_path / "mytool").chmod(0o755)
    (tmp_path / "notes").write_text("")
    (tmp_path / "folder").mkdir()
    tools = facts.Tools(f"relative:{tmp_path}")
    assert list(tools) == []
    assert tools["mytool"] == f"{tmp_path}/mytool"
    assert tools.get("notes") is None
    assert "folder" not in tools
    assert tools.get("no-such-tool-anywhere", "x") == "x"
    assert list(tools) == ["mytool"]
    assert len(tools) == 1


def test_this_machine() -> None:
    found = facts.read_facts()
    assert found.kernel >= (4, 0)
    assert found.euid == os.geteuid()
    assert found.last_cap >= 37
    assert found.arch == os.uname().machine
    assert found.nofile_hard > 0


def test_inside_our_user_namespace_the_ranges_are_the_outer_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """KNARR_USERNS counts for root of a user namespace only: anybody can set a variable."""
    monkeypatch.setenv("KNARR_USERNS", "1234")
    assert facts.range_owner(1000) == 1000
    assert facts.range_owner(0) == (0 if facts.in_initial_userns() else 1234)


def test_where_a_filesystem_is_mounted() -> None:
    text = (
        "22 1 8:1 / / rw - ext4 /dev/sda rw\n"
        "30 22 0:26 / /sys/fs/re\\040ctrl rw,nosuid shared:9 - resctrl resctrl rw\n"
    )
    assert facts.mounted(text, "resctrl") == "/sys/fs/re ctrl"
    assert facts.mounted(text, "ext4") == "/"
    assert facts.mounted(text, "ext") == ""
    assert facts.mounted("", "ext4") == ""
