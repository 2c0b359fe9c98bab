"""When and how long to wait before another attempt: exponential, with jitter, capped, or as the server asked."""

from __future__ import annotations

from knarr.record import Record
from knarr.registry.failures import Cancelled, Transient, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

ASK_MAX_S = 120.0  # a Retry-After longer than this is not waited for: the user is told instead


class Retry(Record):
    """`attempts` in all; the n-th wait is random in [half, whole] of `base_s` * 2**n, at most `cap_s`."""

    attempts: int = 6
    base_s: float = 0.4
    cap_s: float = 20.0

    def pause_s(self, failures: int, asked_s: float | None = None) -> float:
        """How long to wait after the `failures`-th failure (from 1)."""
        import random

        whole = min(self.cap_s, self.base_s * 2.0 ** min(failures - 1, 16))
        drawn = whole * (0.5 + random.random() / 2)
        return max(drawn, asked_s) if asked_s is not None else drawn


DEFAULT_RETRY = Retry()


class Patience:
    """One job's attempts. `again` waits and returns, or raises the failure when it is time to give up."""

    def __init__(self, retry: Retry, cancelled: threading.Event) -> None:
        self._retry = retry
        self._cancelled = cancelled
        self.failures = 0

    def again(self, failure: Transient) -> None:
        self.failures += 1
        asked = failure.after_s
        if self.failures >= self._retry.attempts or (asked is not None and asked > ASK_MAX_S):
            raise failure
        if self._cancelled.wait(self._retry.pause_s(self.failures, asked)):
            raise Cancelled

    def reset(self) -> None:
        """There was progress: the next failure counts as the first."""
        self.failures = 0

    def insist(self, attempt: Callable[[], T]) -> T:
        """Calls until it works or fails for good. Unreachable hosts are not insisted on."""
        while True:
            try:
                return attempt()
            except Unreachable:
                raise
            except Transient as failure:
                self.again(failure)
