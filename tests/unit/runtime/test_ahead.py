"""What `create` leaves for the launcher: only what needs no decision any more."""

from __future__ import annotations

import pytest

from knarr.oci.spec import Hook, Hooks, Process, Spec
from knarr.plan.cgroup import CgroupPlacement, V1Place
from knarr.runtime.ahead import written_ahead
from knarr.runtime.state_dir import Container

PLACE = CgroupPlacement((V1Place(("memory",), "/m/c"),), "/u/c")
MADE = Container("c", "/b", "/b/rootfs", "", "1.2.0", pid=5, pid_start=7, place=PLACE)
SPEC = Spec("1.2.0", process=Process("/", ("true",)))


def test_what_is_plain_is_written() -> None:
    assert written_ahead(MADE, SPEC).splitlines() == [
        "knarr-runtime 1", "pid 5 7", "start", "delete", "rmdir /u/c", "rmdir /m/c",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        (SPEC._replace(process=None), "start"),
        (SPEC._replace(hooks=Hooks(poststart=(Hook("/h"),))), "start"),
        (SPEC._replace(hooks=Hooks(poststop=(Hook("/h"),))), "delete"),
    ],
)
def test_a_hook_or_an_error_is_pythons(spec: Spec, word: str) -> None:
    assert word not in written_ahead(MADE, spec).splitlines()


@pytest.mark.parametrize(
    "made",
    [
        MADE._replace(place=PLACE._replace(scope="a.scope")),
        MADE._replace(host_mount=3),
        MADE._replace(rdt_group="/g"),
        MADE._replace(place=PLACE._replace(v2="/u/a\nb")),
        MADE._replace(place=PLACE._replace(origin="/u", ours="/u/t/monitor")),
    ],
)
def test_what_has_more_to_undo_is_pythons(made: Container) -> None:
    assert not any(line.startswith(("delete", "rmdir")) for line in written_ahead(made, SPEC).splitlines())
