"""What a container's cgroups have counted, from the files of version 2."""

from __future__ import annotations

from pathlib import Path

from knarr.host.cgroup_stats import statistics
from knarr.plan.cgroup import CgroupPlacement, V1Place

FILES = {
    "cpu.stat": "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 1\nnr_throttled 1\nthrottled_usec 4\n",
    "memory.current": "4096\n",
    "memory.max": "max\n",
    "memory.stat": "file 1024\nanon 8\n",
    "memory.events": "low 0\nmax 7\noom_kill 0\n",
    "pids.current": "2\n",
    "pids.max": "9\n",
    "io.stat": "8:0 rbytes=10 wbytes=20 rios=1 wios=2\n8:16\n",
}


def test_version_2(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    place = CgroupPlacement(v2=str(tmp_path), v2_controllers=("cpu", "io", "memory", "pids"))
    found = statistics(place)
    assert found["cpu"]["usage"]["total"] == 5000 and found["cpu"]["throttling"]["throttledPeriods"] == 1
    assert found["memory"]["usage"]["usage"] == 4096 and found["memory"]["usage"]["failcnt"] == 7
    assert found["pids"] == {"current": 2, "limit": 9}
    assert found["blkio"]["ioServiceBytesRecursive"][:2] == [
        {"major": 8, "minor": 0, "op": "Read", "value": 10},
        {"major": 8, "minor": 0, "op": "Write", "value": 20},
    ]


def test_processors_of_version_1(tmp_path: Path) -> None:
    (tmp_path / "cpuacct.usage_all").write_text("cpu user system\n0 5 1\n1 6 2\n")
    (tmp_path / "cpuacct.usage_percpu").write_text("6 8 \n")
    for name, text in (("cpus", "0-1,3"), ("mems", "0"), ("sched_relax_domain_level", "-1")):
        (tmp_path / f"cpuset.{name}").write_text(f"{text}\n")
    found = statistics(CgroupPlacement(v1=(V1Place(("cpuset", "cpuacct"), str(tmp_path)),)))
    usage = found["cpu"]["usage"]
    assert (usage["percpu"], usage["percpu_user"], usage["percpu_kernel"]) == ([6, 8], [5, 6], [1, 2])
    assert (found["cpuset"]["cpus"], found["cpuset"]["mems"]) == ([0, 1, 3], [0])
    assert found["cpuset"]["sched_relax_domain_level"] == -1
