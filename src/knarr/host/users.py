"""Who a container runs as: docker's `user[:group]`, looked up in the root filesystem's own /etc/passwd and /etc/group.

Their content is the image's, so it is hostile: sizes are bounded, bad lines are no user, and numbers out of range are
refused. How the files are found without leaving the layers is `knarr.host.rootfiles`.
"""

from __future__ import annotations

from knarr.errors import DataError, UsageError
from knarr.host.rootfiles import read_in_root
from knarr.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LARGEST_ID = (1 << 31) - 1  # docker's bound; the kernel's is 2^32 - 2
FILE_BYTES = 4 << 20


class Identity(Record):
    """`home` is "/" and `name` empty for a user that /etc/passwd does not know."""

    uid: int
    gid: int
    groups: tuple[int, ...]  # supplementary, as in the file, then those asked for
    home: str = "/"
    name: str = ""


class _User(Record):
    name: str
    uid: int
    gid: int
    home: str


class _Group(Record):
    name: str
    gid: int
    members: tuple[str, ...]


def identity_in(layers: Sequence[str], user: str, extra_groups: Sequence[str] = ()) -> Identity:
    """Who `user` is ("", "name", "1000", "name:group", "1000:1000") in a root filesystem of these directories.

    `layers` is topmost first; one directory for a root filesystem that is not layered. Raises `UsageError` for a
    name that is not there, `DataError` for files that cannot be read.
    """
    if _numeric(user) and not extra_groups and ":" in user:
        return _plain(user, _text(layers, "/etc/passwd"))
    return resolve(user, _text(layers, "/etc/passwd"), _text(layers, "/etc/group"), extra_groups)


def resolve(user: str, passwd: str, group: str, extra_groups: Sequence[str] = ()) -> Identity:
    """As `identity_in`, from the two files' text. A group given by hand replaces the user's supplementary groups."""
    who, _, wanted_group = user.partition(":")
    known = _find_user(who, passwd)
    if known is None and who and not (who.isascii() and who.isdecimal()):
        raise UsageError(
            f"unable to find user {who}: no matching entries in passwd file",
            hint="give a number, or a user that is in the image's /etc/passwd",
        )
    uid = known.uid if known else _checked(who or "0")
    gid = known.gid if known else 0
    groups: list[int] = []
    if wanted_group:
        gid = group_id(wanted_group, group)
    elif known:
        groups = [g.gid for g in _groups(group) if known.name in g.members]
    groups += [group_id(name, group) for name in extra_groups]
    home = known.home if known and known.home[:1] == "/" else "/"
    return Identity(uid, gid, tuple(dict.fromkeys(groups)), home, known.name if known else "")


def group_id(wanted: str, group: str) -> int:
    """The number of a group given by name or number. Raises `UsageError`."""
    for entry in _groups(group):
        if wanted in (entry.name, str(entry.gid)):
            return entry.gid
    if wanted.isascii() and wanted.isdecimal():
        return _checked(wanted)
    raise UsageError(
        f"unable to find group {wanted}: no matching entries in group file",
        hint="give a number, or a group that is in the image's /etc/group",
    )


def _plain(user: str, passwd: str) -> Identity:
    """`uid:gid`: /etc/group has nothing to say."""
    return resolve(user, passwd, "")


def _numeric(user: str) -> bool:
    return user.isascii() and user.replace(":", "", 1).isdecimal()


def _find_user(who: str, passwd: str) -> _User | None:
    """The first line that has the name or the number, as docker: a name made of digits counts like a number."""
    wanted = who or "0"
    for entry in _users(passwd):
        if str(entry.uid) == wanted or (who and entry.name == who):
            return entry
    return None


def _users(text: str) -> Iterator[_User]:
    for fields in _lines(text):
        if len(fields) >= 4 and (uid := _id(fields[2])) is not None and (gid := _id(fields[3])) is not None:
            yield _User(fields[0], uid, gid, fields[5] if len(fields) > 5 else "")


def _groups(text: str) -> Iterator[_Group]:
    for fields in _lines(text):
        if len(fields) >= 3 and (gid := _id(fields[2])) is not None:
            yield _Group(fields[0], gid, tuple(fields[3].split(",")) if len(fields) > 3 else ())


def _lines(text: str) -> Iterator[list[str]]:
    for line in text.split("\n"):
        line = line.strip()
        if line and line[0] != "#":
            yield line.split(":")


def _id(text: str) -> int | None:
    """A number that can be a user's or a group's. `""` is none: an empty uid must not come to mean root."""
    return (
        int(text)
        if text.isdecimal() and text.isascii() and len(text) < 11 and int(text) <= LARGEST_ID
        else None
    )


def _checked(digits: str) -> int:
    # int() itself refuses thousands of digits, with a ValueError.
    if len(digits) > 20 or int(digits) > LARGEST_ID:
        raise UsageError(f"{digits[:20]}: uids and gids must be in range 0-{LARGEST_ID}")
    return int(digits)


def _text(layers: Sequence[str], path: str) -> str:
    data = read_in_root(layers, path, FILE_BYTES + 1)
    if data is None:
        return ""
    if len(data) > FILE_BYTES:
        raise DataError(f"{path} of the image is larger than {FILE_BYTES >> 20} MiB")
    return data.decode("utf-8", "surrogateescape")
