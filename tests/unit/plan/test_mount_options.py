"""Options of a mount, sorted: attributes, propagation, kind, data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knarr.errors import UsageError
from knarr.plan.mount_options import (
    ATIME,
    ATTRIBUTES,
    MS_PRIVATE,
    MS_REC,
    NOATIME,
    NODEV,
    NOEXEC,
    NOSUID,
    NOTHING,
    PROPAGATION,
    RDONLY,
    SUPERBLOCK,
    Options,
    read_options,
)

WORDS = (
    *ATTRIBUTES,
    *(f"r{w}" for w in ATTRIBUTES),
    *SUPERBLOCK,
    *NOTHING,
    "bind",
    "rbind",
    "size=1m",
    "idmap",
)


def read(*words: str) -> Options:
    return read_options(words, "mounts[0]")


def test_attributes_and_data() -> None:
    got = read("nosuid", "noexec", "nodev", "ro", "size=64m", "mode=1777")
    assert got.attr_set == NOSUID | NOEXEC | NODEV | RDONLY
    assert (got.attr_clear, got.data) == (0, ("size=64m", "mode=1777"))


@pytest.mark.parametrize(("first", "then", "on", "off"), [("ro", "rw", 0, RDONLY), ("rw", "ro", RDONLY, 0)])
def test_the_later_word_wins(first: str, then: str, on: int, off: int) -> None:
    got = read(first, then)
    assert (got.attr_set, got.attr_clear) == (on, off)


def test_an_access_time_mode_clears_the_whole_field() -> None:
    got = read("strictatime", "noatime")
    assert (got.attr_set, got.attr_clear) == (NOATIME, ATIME)
    assert read("noatime", "relatime")[:2] == (0, ATIME)


def test_recursive_attributes_are_kept_apart() -> None:
    got = read("rbind", "rro", "rnosuid", "exec")
    assert (got.rec_set, got.attr_set, got.attr_clear) == (RDONLY | NOSUID, 0, NOEXEC)
    assert (got.bind, got.recursive) == (True, True)


def test_propagation() -> None:
    assert read("rprivate").propagation == MS_PRIVATE | MS_REC
    with pytest.raises(UsageError, match=r"mounts\[0\]\.options: slave contradicts"):
        read("rshared", "slave")


def test_idmap_and_copy_up() -> None:
    assert read("bind", "ridmap").idmap_recursive
    assert read("idmap").idmap
    assert not read("idmap").idmap_recursive
    assert read("tmpcopyup").copy_up


@given(st.lists(st.sampled_from(WORDS), max_size=12))
def test_no_attribute_is_both_set_and_cleared(words: list[str]) -> None:
    got = read(*words)
    assert not got.attr_set & got.attr_clear & ~ATIME
    assert not got.rec_set & got.rec_clear & ~ATIME
    for on, off in ((got.attr_set, got.attr_clear), (got.rec_set, got.rec_clear)):
        # mount_setattr(2): EINVAL for a part of the field, or for a mode without clearing it.
        assert off & ATIME in (0, ATIME)
        assert not on & ATIME or off & ATIME == ATIME


@given(st.lists(st.text(max_size=8), max_size=6))
def test_any_words_are_read(words: list[str]) -> None:
    known = {*WORDS, *PROPAGATION, "remount", "tmpcopyup", "ridmap"}
    unknown = [w for w in words if w not in known]
    if not any(w in PROPAGATION for w in words):
        assert list(read(*words).data) == [w for w in unknown if w not in SUPERBLOCK]
