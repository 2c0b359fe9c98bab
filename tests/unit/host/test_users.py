"""docker's `user[:group]` against files of an image."""

from __future__ import annotations

from pathlib import Path

import pytest

from knarr.errors import DataError, UsageError
from knarr.host.users import FILE_BYTES, Identity, group_id, identity_in, resolve

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
# a comment
daemon:x:1:2:daemon:/usr/sbin:/usr/sbin/nologin
www:x:33:34::relative:/bin/sh
007:x:1007:1007::/home/bond:/bin/sh
short:x
empty:x:::/:/bin/sh
negative:x:-1:-1::/:/bin/sh
huge:x:4294967295:0::/:/bin/sh
last:x:44:45::/home/last:/bin/sh"""
GROUP = """\
root:x:0:
audio:x:29:www,last
video:x:30:last
web:x:34:www
broken
"""


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", Identity(0, 0, (), "/root", "root")),
        ("0", Identity(0, 0, (), "/root", "root")),
        ("daemon", Identity(1, 2, (), "/usr/sbin", "daemon")),
        ("www", Identity(33, 34, (29, 34), "/", "www")),  # a home that is no path is none
        ("33", Identity(33, 34, (29, 34), "/", "www")),
        ("last", Identity(44, 45, (29, 30), "/home/last", "last")),
        ("last:video", Identity(44, 30, (), "/home/last", "last")),  # a group by hand: no others
        ("last:99", Identity(44, 99, (), "/home/last", "last")),
        (":web", Identity(0, 34, (), "/root", "root")),
        ("1234", Identity(1234, 0, (), "/", "")),
        ("1234:5678", Identity(1234, 5678, (), "/", "")),
        ("1234:audio", Identity(1234, 29, (), "/", "")),
        ("007", Identity(1007, 1007, (), "/home/bond", "007")),  # a name made of digits
        ("44:", Identity(44, 45, (29, 30), "/home/last", "last")),
    ],
)
def test_resolve(user: str, expected: Identity) -> None:
    assert resolve(user, PASSWD, GROUP) == expected


@pytest.mark.parametrize("user", ["nobody", "short", "empty", "negative", "huge", "-1", "root "])
def test_unknown_users(user: str) -> None:
    """Lines without a proper number are no user: an empty uid must not come to mean root."""
    with pytest.raises(UsageError, match=f"unable to find user {user}: no matching entries in passwd file"):
        resolve(user, PASSWD, GROUP)


@pytest.mark.parametrize("user", ["2147483648", "9" * 5000, "0:2147483648"])
def test_numbers_out_of_range(user: str) -> None:
    with pytest.raises(UsageError, match="uids and gids must be in range 0-2147483647"):
        resolve(user, PASSWD, GROUP)


def test_unknown_group() -> None:
    with pytest.raises(UsageError, match="unable to find group nope: no matching entries in group file"):
        resolve("root:nope", PASSWD, GROUP)
    with pytest.raises(UsageError, match="unable to find group nope"):
        group_id("nope", GROUP)


def test_extra_groups_follow_and_are_named_once() -> None:
    assert resolve("last", PASSWD, GROUP, ("audio", "77")).groups == (29, 30, 77)


def test_without_files_only_numbers_work() -> None:
    assert resolve("5:6", "", "") == Identity(5, 6, ())
    assert resolve("", "", "") == Identity(0, 0, ())
    with pytest.raises(UsageError):
        resolve("root", "", "")


def test_from_a_root_filesystem(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    assert identity_in([str(tmp_path)], "www") == Identity(33, 34, (29, 34), "/", "www")
    assert identity_in([str(tmp_path)], "44:30") == Identity(44, 30, (), "/home/last", "last")


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    with (tmp_path / "etc/passwd").open("wb") as file:
        file.truncate(FILE_BYTES + 1)
    with pytest.raises(DataError, match="larger than"):
        identity_in([str(tmp_path)], "root")
