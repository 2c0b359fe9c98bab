"""Sizes, times, signals, mounts and names as people write them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knarr.engine import mount_forms, quantities
from knarr.engine.container_names import checked_name, draw_name, new_id
from knarr.engine.options import MountRequest
from knarr.errors import UsageError
from knarr.host import clock, signals


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("512", 512),
        ("1k", 1024),
        ("64m", 64 << 20),
        ("1.5g", 3 << 29),
        ("10MiB", 10 << 20),
        ("2GB", 2 << 30),
    ],
)
def test_sizes(text: str, count: int) -> None:
    assert quantities.size(text, "x") == count


@pytest.mark.parametrize("text", ["", "m", "-1", "1x", "1e5", "nan", "inf", "1 0", "9" * 400, "٣"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(UsageError):
        quantities.size(text, "x")


@given(st.text(max_size=12))
def test_any_text_is_a_size_or_refused(text: str) -> None:
    try:
        assert quantities.size(text, "x") >= 0
    except UsageError:
        pass


@pytest.mark.parametrize(("text", "value"), [("90", 90), ("1h30m", 5400), ("1.5s", 1.5), ("250ms", 0.25)])
def test_durations(text: str, value: float) -> None:
    assert quantities.seconds(text, "x") == value


@given(st.integers(min_value=0, max_value=4_000_000_000 * 10**9))
def test_a_timestamp_reads_back(ns: int) -> None:
    assert clock.parse(clock.text(ns)) == ns
    assert clock.text(ns)[:19] == time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(ns // 10**9))


def test_timestamps_with_an_offset() -> None:
    assert clock.parse("2026-01-31T12:00:00+02:00") == clock.parse("2026-01-31T10:00:00Z")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (61, "About a minute"),
        (7200, "2 hours"),
    ],
)
def test_ages(seconds: int, words: str) -> None:
    assert clock.ago(0, seconds * 10**9) == words


@pytest.mark.parametrize(
    ("text", "number"), [("9", 9), ("KILL", 9), ("sigterm", 15), ("SIGRTMIN+3", 37), ("rtmax-2", 62)]
)
def test_signals(text: str, number: int) -> None:
    assert signals.number(text) == number


@pytest.mark.parametrize("text", ["", "0", "65", "NOPE", "-9", "RTMIN+99", "SIG_DFL", "RTMIN+"])
def test_no_signals(text: str) -> None:
    with pytest.raises(UsageError):
        signals.number(text)


def test_volume_flags() -> None:
    assert mount_forms.from_volume_flag("/a:/b:ro") == MountRequest("bind", "/b", "/a", True, (), True)
    assert mount_forms.from_volume_flag("data:/b") == MountRequest("volume", "/b", "data")
    assert mount_forms.from_volume_flag("/only") == MountRequest("volume", "/only")
    assert mount_forms.from_volume_flag("/a:/b:ro,rslave").options == ("rslave",)


def test_mount_flags() -> None:
    asked = mount_forms.from_mount_flag("type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave")
    assert asked == MountRequest("bind", "/b", "/a", True, ("rslave",))
    assert mount_forms.from_mount_flag("type=tmpfs,dst=/t,tmpfs-size=1m").options == ("size=1048576",)


@pytest.mark.parametrize(
    "text", ["x:/", "a/../..:/..", ":/x", "/x:", "/a:/b:ro,rw", "/a:/b:loud", "..:/.", "a\0:/b"]
)
def test_no_volumes(text: str) -> None:
    with pytest.raises(UsageError):
        mount_forms.from_volume_flag(text)


@given(st.text(max_size=40))
def test_any_mount_text_is_a_mount_or_refused(text: str) -> None:
    for read in (mount_forms.from_volume_flag, mount_forms.from_mount_flag, mount_forms.from_tmpfs_flag):
        try:
            assert read(text).target.startswith("/")
        except UsageError:
            pass


@pytest.mark.parametrize("name", ["", "a", "../x", "a b", "-x", "a/b", "ü" * 3, "x" * 300, "a\n"])
def test_no_names(name: str) -> None:
    with pytest.raises(UsageError):
        checked_name(name)


def test_drawn_names_are_names() -> None:
    assert checked_name(draw_name(0)) and checked_name(draw_name(1))
    assert len(new_id()) == 64
