"""Addresses leased by making a symbolic link."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Thread

import pytest

from knarr.errors import Conflict, UsageError
from knarr.network import leases
from knarr.network.address import subnet

WIDE = subnet("10.77.0.0/16")
NARROW = subnet("10.77.0.0/29")  # .2 to .6


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return str(tmp_path / "networks/bridge")


def test_a_lease_is_a_link_with_the_owners_id(directory: str) -> None:
    assert leases.take(directory, WIDE, "abc") == 2
    assert os.readlink(f"{directory}/10.77.0.2") == "abc"
    assert list(leases.leases(directory)) == [("10.77.0.2", "abc")]


def test_an_address_just_given_back_is_not_the_next(directory: str) -> None:
    leases.take(directory, WIDE, "a")
    leases.release(directory, "10.77.0.2", "a")
    assert leases.take(directory, WIDE, "b") == 3


def test_at_the_end_it_begins_again(directory: str) -> None:
    assert [leases.take(directory, NARROW, str(n)) for n in range(5)] == [2, 3, 4, 5, 6]
    with pytest.raises(Conflict, match=r"no free address in 10\.77\.0\.0/29"):
        leases.take(directory, NARROW, "more")
    leases.release(directory, "10.77.0.4", "2")
    assert leases.take(directory, NARROW, "again") == 4


def test_only_the_owner_gives_back(directory: str) -> None:
    leases.take(directory, WIDE, "a")
    leases.release(directory, "10.77.0.2", "b")
    leases.release(directory, "10.77.0.9", "a")
    assert list(leases.leases(directory)) == [("10.77.0.2", "a")]


def test_one_address_by_name(directory: str) -> None:
    assert leases.take_this(directory, WIDE, "10.77.1.0", "a") == 256
    with pytest.raises(Conflict, match="already in use"):
        leases.take_this(directory, WIDE, "10.77.1.0", "b")


@pytest.mark.parametrize(
    "ip", ["10.77.0.0", "10.77.0.1", "10.77.255.255", "10.78.0.2", "fd00::2", "nonsense"]
)
def test_addresses_that_are_no_containers(directory: str, ip: str) -> None:
    with pytest.raises(UsageError):
        leases.take_this(directory, WIDE, ip, "a")


@pytest.mark.parametrize("last", ["", "nonsense", "99999999", "-5"])
def test_a_damaged_hint_is_only_a_hint(directory: str, last: str) -> None:
    os.makedirs(directory)
    if last:
        os.symlink(last, f"{directory}/.last")
    assert leases.take(directory, WIDE, "a") == 2


def test_many_at_once_get_different_ones(directory: str) -> None:
    found: list[int] = []
    threads = [
        Thread(target=lambda n=n: found.append(leases.take(directory, WIDE, str(n)))) for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 20
