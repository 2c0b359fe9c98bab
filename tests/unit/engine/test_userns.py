"""`--userns`: what the caller's ids are inside, and that everybody else stays who they are."""

from __future__ import annotations

import pytest

from knarr.engine.options import ContainerOptions
from knarr.engine.userns import id_maps, kept, with_own_user
from knarr.errors import UsageError
from knarr.oci.spec import IdMap
from knarr.plan.facts import HostFacts, SubIds

ROOT = HostFacts((6, 1), "x86_64", 0, 0, "root", 0, 40, (), None, False, 1024)
USER = ROOT._replace(
    euid=1000,
    egid=1001,
    user="me",
    subuids=(SubIds(100000, 65536),),
    subgids=(SubIds(200000, 10),),
    tools={"newuidmap": "x", "newgidmap": "x"},
)


def outside(maps: tuple[IdMap, ...], number: int) -> int:
    return next(host + number - inside for inside, host, count in maps if inside <= number < inside + count)


def test_keep_id_changes_two_ids_only() -> None:
    usual, _ = id_maps("auto", USER, [])
    own, groups = id_maps("keep-id", USER, [])
    assert outside(own, 1000) == 1000
    assert outside(own, 0) == outside(usual, 1000)
    for number in (1, 999, 1001, 65536):
        assert outside(own, number) == outside(usual, number)
    assert sum(m[2] for m in own) == sum(m[2] for m in usual)
    # A number beyond the range: the last of the range is root.
    assert groups == (IdMap(0, 200009, 1), IdMap(1, 200000, 9), IdMap(1001, 1001, 1))


@pytest.mark.parametrize("own", [1, 2, 3, 4, 5])
def test_at_the_edges_of_ranges(own: int) -> None:
    maps = (IdMap(0, 7, 1), IdMap(1, 100, 2), IdMap(3, 200, 2))
    found = kept(maps, own)
    numbers = [n for inside, _, count in found for n in range(inside, inside + count)]
    hosts = [n for _, host, count in found for n in range(host, host + count)]
    assert len(set(numbers)) == len(numbers) and len(set(hosts)) == len(hosts)
    assert outside(found, own) == 7
    assert 0 in numbers


def test_the_process_is_the_caller() -> None:
    options = ContainerOptions("image")
    asked = options._replace(security=options.security._replace(userns="keep-id"))
    assert with_own_user(asked, USER).user == "1000:1001"
    assert with_own_user(asked._replace(user="alice"), USER).user == "alice"
    assert with_own_user(options, USER).user == ""
    assert with_own_user(asked, ROOT).user == ""


@pytest.mark.parametrize(
    ("asked", "facts", "said"),
    [
        ("keep-id", ROOT, "users who are not root"),
        ("nomap", USER, "nobody but root"),
        ("keep-id", USER._replace(subuids=()), "needs subordinate ids"),
        ("private", USER, "invalid --userns"),
    ],
)
def test_refusals(asked: str, facts: HostFacts, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        id_maps(asked, facts, [])
