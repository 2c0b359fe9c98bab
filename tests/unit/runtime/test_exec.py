"""Where `exec --cgroup` puts a process."""

from __future__ import annotations

import pytest

from knarr.errors import UsageError
from knarr.plan.cgroup import CgroupPlacement, V1Place
from knarr.runtime.exec import entrance
from knarr.runtime.state_dir import Container

HYBRID = CgroupPlacement(
    v1=(V1Place(("cpu", "cpuacct"), "/c/cpu/x"), V1Place(("memory",), "/c/memory/x")), v2="/c/unified/x"
)


def entered(*below: str) -> tuple[str, ...]:
    place = entrance(Container("c1", "/b", "/r", "", "1.2.0", place=HYBRID), below)
    return (*(v.directory for v in place.v1), place.v2)


def test_a_path_is_below_the_container_in_every_hierarchy() -> None:
    assert entered("/a/b") == ("/c/cpu/x/a/b", "/c/memory/x/a/b", "/c/unified/x/a/b")
    assert entered("/") == entered() == ("/c/cpu/x", "/c/memory/x", "/c/unified/x")


def test_a_path_of_controllers_is_in_their_hierarchies_alone() -> None:
    assert entered("cpuacct:a") == ("/c/cpu/x/a", "/c/memory/x", "/c/unified/x")
    assert entered("cpu,cpuacct:/a", "memory:b") == ("/c/cpu/x/a", "/c/memory/x/b", "/c/unified/x")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("../x", "bad sub cgroup path: '../x' is not below the container's"),
        ("cpu,net_cls:a", "bad sub cgroup path: 'cpu,net_cls:a': the container has no cgroup of net_cls"),
    ],
)
def test_what_is_no_cgroup_of_the_container(word: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        entered(word)
    assert raised.value.message == message
