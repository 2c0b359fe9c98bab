"""What criu is told of a container's parts that are the host's."""

from __future__ import annotations

from pathlib import Path

import pytest

from knarr.errors import HostError, UsageError
from knarr.oci.spec import Linux, Mount, Spec
from knarr.plan.cgroup import CgroupPlacement, V1Place
from knarr.runtime.criu_options import (
    CriuFlags,
    bind_mounts,
    cgroup_mounts,
    fields,
    masked,
    read_descriptors,
    resolved,
    write_descriptors,
)


def test_links_are_resolved_inside(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "var").mkdir()
    (tmp_path / "var/run").symlink_to("/run")
    (tmp_path / "up").symlink_to("../../../var/run/x")
    (tmp_path / "loop").symlink_to("loop")
    assert resolved(str(tmp_path), "/var/run/lock") == "/run/lock"
    assert resolved(str(tmp_path), "up") == "/run/x"
    assert resolved(str(tmp_path), "/a/../../b/.//c") == "/b/c"
    with pytest.raises(HostError, match="too many links"):
        resolved(str(tmp_path), "/loop")


def test_bind_mounts(tmp_path: Path) -> None:
    binds = (Mount("/a", "/x", "none", ("rbind",)), Mount("/p", "proc", "proc"), Mount("/b", "/y", "bind"))
    spec = Spec("1.2.0", mounts=binds)
    assert [(at, m.source) for at, m in bind_mounts(spec, str(tmp_path))] == [("/a", "/x"), ("/b", "/y")]
    refused = Spec("1.2.0", mounts=(Mount("/a", "/x", "bind", ("bind", "src-nofollow")),))
    with pytest.raises(UsageError, match=r"mounts\[0\]: criu cannot"):
        list(bind_mounts(refused, str(tmp_path)))


def test_cgroups_of_version_1() -> None:
    spec = Spec("1.2.0", mounts=(Mount("/sys/fs/cgroup", "cgroup", "cgroup"),))
    place = CgroupPlacement(
        (V1Place(("cpu", "cpuacct"), "/sys/fs/cgroup/cpu,cpuacct/c"),), "/sys/fs/cgroup/unified/c"
    )
    assert list(cgroup_mounts(spec, place)) == [
        ("/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct/c"),
        ("/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified/c"),
    ]
    assert not list(cgroup_mounts(spec, CgroupPlacement(v2="/sys/fs/cgroup/c")))


def test_masked_files() -> None:
    spec = Spec("1.2.0", linux=Linux(masked_paths=("/proc/kcore", "/proc/acpi", "/proc/none")))
    mounts = {"/proc/kcore": "devtmpfs", "/proc/acpi": "tmpfs"}
    assert list(masked(spec, mounts)) == [("/proc/kcore", "/dev/null")]


def test_the_flags() -> None:
    flags = CriuFlags(
        "/i", shell_job=True, cgroups_mode="ignore", network_lock="skip", empty_namespaces=("network",)
    )
    found = dict(fields(flags, {"org.criu.config": "/c"}, "x.log"))
    assert (found[7], found[34], found[64], found[38], found[10]) == (True, 0, 3, 0x40000000, "x.log")
    assert found[51] == "/c"
    assert 51 not in dict(fields(flags, {"org.criu.config": ""}, "x.log"))


def test_descriptors(tmp_path: Path) -> None:
    write_descriptors(str(tmp_path), ("pipe:[1]", "/dev/null"))
    assert read_descriptors(str(tmp_path)) == ["pipe:[1]", "/dev/null"]
    with pytest.raises(HostError, match="holds no checkpoint"):
        read_descriptors(str(tmp_path / "none"))
