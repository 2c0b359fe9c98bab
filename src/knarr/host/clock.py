"""Timestamps as RFC 3339 text with nanoseconds, UTC, as every container tool writes them; without `datetime`."""

from __future__ import annotations

import time

_NANO = 1_000_000_000


def now() -> str:
    """`2026-01-31T12:00:00.123456789Z`."""
    return text(time.time_ns())


def text(ns: int) -> str:
    """A time in nanoseconds since 1970 as text."""
    whole, fraction = divmod(ns, _NANO)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{fraction:09d}Z"


def parse(stamp: str) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time in UTC or with an offset. Raises `ValueError`."""
    date, _, rest = stamp.replace(" ", "T", 1).partition("T")
    year, month, day = (int(p) for p in date.split("-"))
    offset_s = 0
    if rest.endswith(("Z", "z")):
        rest = rest[:-1]
    elif len(rest) > 6 and rest[-6] in "+-":
        offset_s = (int(rest[-5:-3]) * 3600 + int(rest[-2:]) * 60) * (1 if rest[-6] == "+" else -1)
        rest = rest[:-6]
    clock, _, fraction = rest.partition(".")
    hour, minute, second = (*map(int, clock.split(":")), 0, 0, 0)[:3] if clock else (0, 0, 0)
    return (_days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset_s) * _NANO + int(
        (fraction + "0" * 9)[:9]
    )


def _days(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 of a date in the Gregorian calendar (years counted from March)."""
    if not (1 <= month <= 12 and 1 <= day <= 31):
        raise ValueError(f"no such date: {year}-{month}-{day}")
    year -= month < 3
    era, of_era = divmod(year, 400)
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


def ago(ns: int, reference_ns: int) -> str:
    """`5 minutes`: how docker words an age."""
    seconds = max(0, reference_ns - ns) // _NANO
    if seconds < 1:
        return "Less than a second"
    if seconds < 60:
        return f"{seconds} second{'s' * (seconds != 1)}"
    minutes = seconds // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = (seconds + 1800) // 3600
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    days = hours // 24
    if days < 14:
        return f"{days} days"
    if days < 60:
        return f"{days // 7} weeks"
    return f"{days // 30} months" if days < 730 else f"{days // 365} years"
