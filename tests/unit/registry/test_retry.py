"""Patience: how often, how long, and when it ends."""

from __future__ import annotations

import threading

import pytest

from knarr.registry.failures import Cancelled, Transient, Unreachable
from knarr.registry.retry import Patience, Retry

QUICK = Retry(attempts=3, base_s=0.0)


class Failing:
    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return "done"


def patience(retry: Retry = QUICK) -> Patience:
    return Patience(retry, threading.Event())


def test_it_works_in_the_end() -> None:
    job = Failing(Transient("a"), Transient("b"))
    assert patience().insist(job) == "done"
    assert job.calls == 3


def test_the_last_failure_is_told() -> None:
    job = Failing(*(Transient(str(n)) for n in range(9)))
    with pytest.raises(Transient, match="2"):
        patience().insist(job)
    assert job.calls == 3


@pytest.mark.parametrize("failure", [Unreachable("x"), ValueError("x")])
def test_what_is_not_insisted_on(failure: Exception) -> None:
    job = Failing(failure)
    with pytest.raises(type(failure)):
        patience().insist(job)
    assert job.calls == 1


def test_a_long_wait_is_refused() -> None:
    job = Failing(Transient("x", after_s=100_000.0))
    with pytest.raises(Transient):
        patience().insist(job)
    assert job.calls == 1


def test_a_wait_can_be_given_up() -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(Cancelled):
        Patience(Retry(base_s=1000.0, cap_s=1000.0), cancelled).insist(Failing(Transient("x")))


def test_progress_renews_patience() -> None:
    found = patience()
    for _ in range(5):
        found.again(Transient("x"))
        found.reset()
    found.again(Transient("x"))
    found.again(Transient("x"))
    with pytest.raises(Transient):
        found.again(Transient("x"))


def test_pauses_grow_to_a_cap_and_respect_what_was_asked() -> None:
    retry = Retry(base_s=1.0, cap_s=10.0)
    for failures, whole in ((1, 1.0), (2, 2.0), (4, 8.0), (5, 10.0), (10_000, 10.0)):
        for _ in range(20):
            assert whole / 2 <= retry.pause_s(failures) <= whole
    assert retry.pause_s(1, 30.0) == 30.0
    assert retry.pause_s(5, 0.0) >= 5.0
