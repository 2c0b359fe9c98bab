"""Reading cgroups, from directories that look like v1 and v2."""

from __future__ import annotations

from pathlib import Path

import pytest

from knarr.errors import HostError
from knarr.host import cgroups


def folder(path: Path, files: dict[str, str]) -> str:
    path.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (path / name).write_text(text)
    return str(path)


def test_processes_of_a_tree(tmp_path: Path) -> None:
    top = folder(tmp_path, {"cgroup.procs": "10\n11\n"})
    folder(tmp_path / "a", {"cgroup.procs": "12\n10\n"})
    folder(tmp_path / "a/b", {"cgroup.procs": "0\n13\n"})  # 0: a process of another pid namespace
    assert sorted(cgroups.processes(top)) == [10, 11, 12, 13]
    assert cgroups.processes(str(tmp_path / "gone")) == []


def test_populated(tmp_path: Path) -> None:
    v2 = folder(tmp_path / "v2", {"cgroup.events": "populated 1\nfrozen 0\n"})
    assert cgroups.populated(v2)
    (tmp_path / "v2/cgroup.events").write_text("populated 0\nfrozen 0\n")
    assert not cgroups.populated(v2)
    assert cgroups.populated(folder(tmp_path / "v1", {"cgroup.procs": "7\n"}))
    assert not cgroups.populated(folder(tmp_path / "e", {"cgroup.procs": ""}))


def test_usage_of_v2(tmp_path: Path) -> None:
    path = folder(
        tmp_path,
        {
            "cpu.stat": "usage_usec 1500\nuser_usec 1000\n",
            "memory.current": "10000\n",
            "memory.stat": "anon 1\ninactive_file 4000\n",
            "memory.max": "max\n",
            "memory.events": "low 0\noom 2\noom_kill 1\n",
            "pids.current": "3\n",
        },
    )
    assert cgroups.usage([path]) == cgroups.Usage(1_500_000, 6000, None, 3, 1)


def test_usage_of_v1_is_gathered_from_its_hierarchies(tmp_path: Path) -> None:
    cpu = folder(tmp_path / "cpu", {"cpu.stat": "nr_periods 0\n"})
    acct = folder(tmp_path / "acct", {"cpuacct.usage": "123\n"})
    memory = folder(
        tmp_path / "memory",
        {
            "memory.usage_in_bytes": "500\n",
            "memory.stat": "cache 1\ntotal_inactive_file 600\n",
            "memory.limit_in_bytes": "4096\n",
            "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n",
        },
    )
    assert cgroups.usage([cpu, acct, memory]) == cgroups.Usage(123, 0, 4096, None, 4)
    assert cgroups.usage([]) == cgroups.Usage()
    (tmp_path / "memory/memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert cgroups.usage([memory]).memory_limit_bytes is None


def test_frozen(tmp_path: Path) -> None:
    assert cgroups.frozen(folder(tmp_path / "2", {"cgroup.freeze": "1\n"}))
    assert not cgroups.frozen(folder(tmp_path / "2", {"cgroup.freeze": "0\n"}))
    # Its parent is frozen, it is not paused itself.
    assert not cgroups.frozen(
        folder(tmp_path / "1", {"freezer.state": "FROZEN\n", "freezer.self_freezing": "0\n"})
    )
    assert cgroups.frozen(
        folder(tmp_path / "1", {"freezer.state": "FREEZING\n", "freezer.self_freezing": "1\n"})
    )
    assert not cgroups.frozen(str(tmp_path / "gone"))


def test_freeze_and_thaw_of_v2(tmp_path: Path) -> None:
    path = folder(tmp_path, {"cgroup.freeze": "0\n", "cgroup.events": "populated 1\nfrozen 1\n"})
    cgroups.freeze(path)
    assert (tmp_path / "cgroup.freeze").read_text().startswith("1")
    cgroups.thaw(path)
    assert (tmp_path / "cgroup.freeze").read_text().startswith("0")


def test_a_cgroup_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"cannot freeze cgroup .*: no such file or directory"):
        cgroups.freeze(str(tmp_path / "gone"))
    with pytest.raises(HostError, match="cannot thaw cgroup"):
        cgroups.thaw(str(tmp_path / "gone"))
