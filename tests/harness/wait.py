"""Waiting for what comes to pass by itself, but not for ever."""

from __future__ import annotations

import time
from collections.abc import Callable

_BETWEEN_S = 0.01


def soon(within_s: float, true: Callable[[], object]) -> bool:
    """Whether it comes to pass in that time."""
    deadline = time.monotonic() + within_s
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(_BETWEEN_S)
    return True


def until(within_s: float, true: Callable[[], object]) -> None:
    """It must come to pass in that time."""
    assert soon(within_s, true), f"has not come to pass in {within_s:g} s"
