"""The default id maps of an ordinary user, and what keeps them from having more than one id."""

from __future__ import annotations

import pytest

from knarr.errors import HostError
from knarr.host.userns import missing, namespace_steps, outer_uid, single_id_warning, uid_maps
from knarr.oci.spec import IdMap
from knarr.plan.facts import HostFacts, SubIds

TOOLS = {"newuidmap": "/usr/bin/newuidmap", "newgidmap": "/usr/bin/newgidmap"}
USER = HostFacts(
    kernel=(6, 1),
    arch="x86_64",
    euid=1000,
    egid=1001,
    user="peer",
    subuids=(SubIds(100000, 65536),),
    subgids=(SubIds(200000, 65536),),
    tools=TOOLS,
)


def test_maps() -> None:
    uids, gids, single = uid_maps(USER)
    assert uids == (IdMap(0, 1000, 1), IdMap(1, 100000, 65536))
    assert gids == (IdMap(0, 1001, 1), IdMap(1, 200000, 65536))
    assert not single
    assert single_id_warning(USER) == ""


def test_several_ranges_follow_each_other() -> None:
    uids, _, _ = uid_maps(USER._replace(subuids=(SubIds(100000, 10), SubIds(300000, 5))))
    assert uids == (IdMap(0, 1000, 1), IdMap(1, 100000, 10), IdMap(11, 300000, 5))


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (USER._replace(tools={}), "newuidmap is not installed"),
        (USER._replace(tools={"newuidmap": "/x"}), "newgidmap is not installed"),
        (USER._replace(subuids=()), "/etc/subuid has no range for peer"),
        (USER._replace(subgids=(), user=""), "/etc/subgid has no range for 1000"),
    ],
)
def test_single_id_map(facts: HostFacts, reason: str) -> None:
    uids, gids, single = uid_maps(facts)
    assert (uids, gids, single) == ((IdMap(0, 1000, 1),), (IdMap(0, 1001, 1),), True)
    assert missing(facts) == reason
    assert single_id_warning(facts)
    assert "\n" not in single_id_warning(facts)


def test_namespace_plan() -> None:
    assert [str(s) for s in namespace_steps(USER)] == [
        "clone user,mnt",
        "spawn /usr/bin/newuidmap {pid} 0 1000 1 1 100000 65536",
        "spawn /usr/bin/newgidmap {pid} 0 1001 1 1 200000 65536",
        "wait-spawned",
        "enter",
        "become-root",
        "pdeathsig 9",
    ]


def test_namespace_plan_of_a_single_id() -> None:
    assert [s.op for s in namespace_steps(USER._replace(tools={}))] == [
        "clone",
        "write-child",
        "write-child",
        "write-child",
        "enter",
        "become-root",
        "pdeathsig",
    ]


def test_outer_uid() -> None:
    assert outer_uid({}) is None
    assert outer_uid({"KNARR_USERNS": "1000"}) == 1000
    with pytest.raises(HostError, match="is not a user id"):
        outer_uid({"KNARR_USERNS": "me"})
