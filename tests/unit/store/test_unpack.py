"""Unpacking: what a layer says, what is made of it, and that nothing an archive says reaches beyond its directory."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from knarr.errors import DataError, HostError
from knarr.store.removal import remove_tree
from knarr.store.tar import TarReader
from knarr.store.unpack import Unpacked, unpack, warnings

ME = (os.geteuid(), os.getegid())


def member(
    name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **fields: object
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = len(data)
    info.uid, info.gid = ME
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def directory(name: str, **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, tarfile.DIRTYPE, **fields)


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, tarfile.SYMTYPE, linkname=target)


def hard(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, tarfile.LNKTYPE, linkname=target)


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.TarFile(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as made:
        for info, data in members:
            made.addfile(info, io.BytesIO(data))
    return out.getvalue()


class Room:
    """A layer's directory, with something outside of it that must stay as it is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.layer = path / "layer"
        self.outside = path / "outside"
        self.layer.mkdir()
        self.outside.mkdir()
        (self.outside / "secret").write_text("secret")

    def unpack(self, *members: tuple[tarfile.TarInfo, bytes], max_entries: int = 1000) -> Unpacked:
        fd = os.open(self.layer, os.O_RDONLY)
        try:
            reader = TarReader(io.BytesIO(archive(*members)).read)
            return unpack(reader, fd, userxattr=True, max_entries=max_entries)
        finally:
            os.close(fd)
            assert os.listdir(self.path) == ["layer", "outside"] or set(os.listdir(self.path)) == {
                "layer",
                "outside",
            }
            assert os.listdir(self.outside) == ["secret"]
            assert (self.outside / "secret").read_text() == "secret"
            assert (self.outside / "secret").stat().st_nlink == 1

    def tree(self) -> dict[str, str]:
        """Relative path → content, `-> target` of a link, `/` of a directory, `wh` of a whiteout."""
        found = {}
        for base, folders, files in os.walk(self.layer):
            for name in (*folders, *files):
                path = Path(base, name)
                found[str(path.relative_to(self.layer))] = shown(path)
        return found

    def opaque(self, name: str) -> bool:
        return "user.overlay.opaque" in os.listxattr(self.layer / name)


def shown(path: Path) -> str:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return f"-> {os.readlink(path)}"
    if stat.S_ISDIR(mode):
        return "/"
    if stat.S_ISCHR(mode):
        return "wh" if path.lstat().st_rdev == 0 else "device"
    return path.read_text() if stat.S_ISREG(mode) else "fifo"


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    (tmp_path / "room").mkdir()
    yield Room(tmp_path / "room")
    remove_tree(str(tmp_path / "room"))  # deeper than shutil's stack


# ---- attributes


def test_files_directories_links(room: Room) -> None:
    result = room.unpack(
        directory("d", mode=0o1777, mtime=5),
        member("d/f", data=b"content", mode=0o4711, mtime=1.5, pax_headers={"mtime": "1.123456789"}),
        link("d/s", "../anywhere"),
        hard("d/h", "d/f"),
        member("d/p", tarfile.FIFOTYPE, mode=0o600),
    )
    assert result == Unpacked(5, 7, 0, 0, 0)
    assert room.tree() == {
        "d": "/",
        "d/f": "content",
        "d/s": "-> ../anywhere",
        "d/h": "content",
        "d/p": "fifo",
    }
    file, folder = (room.layer / "d/f").stat(), (room.layer / "d").stat()
    assert (stat.S_IMODE(file.st_mode), file.st_mtime_ns, file.st_nlink) == (0o4711, 1_123_456_789, 2)
    assert (stat.S_IMODE(folder.st_mode), folder.st_mtime) == (0o1777, 5), "times outlive what is made inside"


def test_a_directory_nobody_may_write_is_filled(room: Room) -> None:
    room.unpack(
        directory("d", mode=0o500), directory("d/e", mode=0), member("d/e/f", data=b"x"), member("d/g")
    )
    assert stat.S_IMODE((room.layer / "d").stat().st_mode) == 0o500
    assert stat.S_IMODE((room.layer / "d/e").stat().st_mode) == 0
    for name in "d/e", "d":
        (room.layer / name).chmod(0o700)


def test_the_umask_and_setgid_directories_change_nothing(room: Room) -> None:
    room.layer.chmod(0o2777)
    before = os.umask(0o077)
    try:
        room.unpack(member("a", mode=0o666), directory("d", mode=0o777), member("e/f", mode=0o777))
    finally:
        os.umask(before)
    modes = {name: stat.S_IMODE((room.layer / name).stat().st_mode) for name in ("", "a", "d", "e", "e/f")}
    assert modes == {"": 0o755, "a": 0o666, "d": 0o777, "e": 0o755, "e/f": 0o777}


def test_the_root_has_an_entry_too(room: Room) -> None:
    room.unpack(directory("./", mode=0o711, mtime=3), member("./a"))
    assert stat.S_IMODE(room.layer.stat().st_mode) == 0o711
    assert room.layer.stat().st_mtime == 3


def test_xattrs_but_not_overlays_own(room: Room) -> None:
    keys = {"user.mine": "value", "user.overlay.redirect": "/etc", "trusted.overlay.opaque": "y"}
    headers = {f"SCHILY.xattr.{key}": value for key, value in keys.items()}
    result = room.unpack(member("f", pax_headers=headers), directory("d", pax_headers=headers))
    assert result.xattrs_lost == 4
    assert os.listxattr(room.layer / "f") == os.listxattr(room.layer / "d") == ["user.mine"]


def test_what_was_lost_is_told_in_one_line_each() -> None:
    assert warnings([Unpacked(9, 9, 0, 0, 0)]) == []
    lines = warnings([Unpacked(9, 9, 2, 0, 1), Unpacked(9, 9, 1, 0, 4)])
    assert [line.split()[:3] for line in lines] == [["3", "device", "nodes"], ["5", "extended", "attributes"]]


def test_strange_times(room: Room) -> None:
    times = ("-5.5", "99999999999999999", "0")
    room.unpack(*(member(f"f{i}", pax_headers={"mtime": time}) for i, time in enumerate(times)))
    assert (room.layer / "f0").stat().st_mtime_ns == -5_500_000_000


@pytest.mark.requires("root")
def test_owners_and_devices_as_root(room: Room) -> None:
    result = room.unpack(
        member("f", uid=1234, gid=4321, mode=0o6755),
        member("c", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        member("s", tarfile.SYMTYPE, linkname="x", uid=7, gid=8),
        directory("d", uid=9, gid=10),
    )
    assert (result.devices_skipped, result.owners_lost) == (0, 0)
    owners = {n: (s.st_uid, s.st_gid) for n in "fcsd" if (s := (room.layer / n).lstat())}
    assert owners == {"f": (1234, 4321), "c": ME, "s": (7, 8), "d": (9, 10)}
    assert stat.S_IMODE((room.layer / "f").stat().st_mode) == 0o6755, "setuid outlives the change of owner"
    assert (room.layer / "c").stat().st_rdev == os.makedev(1, 3)
    assert stat.S_IMODE((room.layer / "c").stat().st_mode) == 0o666


def test_a_sparse_file_stays_sparse(room: Room) -> None:
    out = io.BytesIO()
    with tarfile.TarFile(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as made:
        info, data = member(
            "x", data=b"abcdef",
            pax_headers={"GNU.sparse.map": "0,3,1000000,3", "GNU.sparse.size": "2000000", "GNU.sparse.name": "f"},
        )  # fmt: skip
        made.addfile(info, io.BytesIO(data))
    fd = os.open(room.layer, os.O_RDONLY)
    unpack(TarReader(io.BytesIO(out.getvalue()).read), fd, userxattr=True)
    os.close(fd)
    content = (room.layer / "f").read_bytes()
    assert content == b"abc" + bytes(999_997) + b"def" + bytes(999_997)
    assert (room.layer / "f").stat().st_blocks * 512 < 100_000


# ---- the same name twice


def test_the_later_entry_wins(room: Room) -> None:
    room.unpack(
        member("a", data=b"1"), member("a", data=b"2"),
        directory("b"), member("b/c", data=b"x"), member("b", data=b"file now"),
        member("d", data=b"x"), directory("d"), member("d/e", data=b"y"),
        link("l", "/etc"), directory("l"), member("l/f", data=b"z"),
        directory("m"), member("m/keep", data=b"k"), directory("m", mode=0o700),
        link("n", "m"), member("n", data=b"no link any more"),
    )  # fmt: skip
    assert room.tree() == {
        "a": "2", "b": "file now", "d": "/", "d/e": "y", "l": "/", "l/f": "z", "m": "/", "m/keep": "k",
        "n": "no link any more",
    }  # fmt: skip
    assert stat.S_IMODE((room.layer / "m").stat().st_mode) == 0o700


def test_a_directory_that_came_back_is_another_one(room: Room) -> None:
    room.unpack(
        directory("a"), member("a/b/c"), link("a", "x"), directory("x"), member("a/b/d", data=b"in x")
    )
    assert room.tree() == {"a": "-> x", "x": "/", "x/b": "/", "x/b/d": "in x"}


# ---- whiteouts


def test_whiteouts_and_opaque_directories(room: Room) -> None:
    room.unpack(
        member(".wh.gone"), directory("d"), member("d/.wh..wh..opq"), member("d/f"), member("e/.wh.x"),
        member(".wh..wh.plnk"), member(".wh..wh.orph/y"), member(".wh..wh..opq"),
    )  # fmt: skip
    assert room.tree() == {"gone": "wh", "d": "/", "d/f": "", "e": "/", "e/x": "wh"}
    assert room.opaque("d")
    assert room.opaque(".")
    assert not room.opaque("e")


def test_a_whiteout_speaks_of_the_layers_below_only(room: Room) -> None:
    room.unpack(
        member("a", data=b"a"), member(".wh.a"),
        member(".wh.b"), member("b", data=b"b"),
        directory("c"), member("c/x", data=b"x"), member(".wh.c"),
        member(".wh.d"), directory("d"), member("d/y", data=b"y"),
        member(".wh.e"), member("e/f/g", data=b"z"),
        directory("plain"),
    )  # fmt: skip
    assert room.tree() == {
        "a": "a", "b": "b", "c": "/", "c/x": "x", "d": "/", "d/y": "y", "e": "/", "e/f": "/", "e/f/g": "z",
        "plain": "/",
    }  # fmt: skip
    assert [room.opaque(name) for name in ("c", "d", "e", "plain")] == [True, True, True, False]


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "d/.wh.."])
def test_whiteouts_of_nothing_are_refused(room: Room, name: str) -> None:
    with pytest.raises(DataError, match="whiteout"):
        room.unpack(member(name))


# ---- attacks


def test_links_on_the_way_are_resolved_inside(room: Room) -> None:
    outside = str(room.outside)
    room.unpack(
        directory("usr/lib"), link("lib", "usr/lib"), member("lib/a", data=b"a"),
        link("abs", "/usr"), member("abs/lib/b", data=b"b"),
        link("up", "../../../../usr"), member("up/c", data=b"c"),
        link("out", outside), member("out/secret", data=b"inside"),
        link("rel", "../outside"), member("rel/secret", data=b"also inside"),
        link("chain", "lib"), link("usr/lib/deeper", "../../abs"), member("chain/deeper/d", data=b"d"),
    )  # fmt: skip
    tree = room.tree()
    assert tree["usr/lib/a"] == "a"
    assert tree["usr/lib/b"] == "b"
    assert tree["usr/c"] == "c"
    assert tree["usr/d"] == "d"
    assert tree[f"{outside.lstrip('/')}/secret"] == "inside"
    assert tree["outside/secret"] == "also inside"


def test_what_is_at_the_end_of_a_path_is_never_followed(room: Room) -> None:
    secret = str(room.outside / "secret")
    room.unpack(
        link("f", secret), member("f", data=b"new"),
        link("d", str(room.outside)), directory("d", mode=0o777),
        link("p", secret), member("p", tarfile.FIFOTYPE),
        link("l", secret), link("l", "x"),
        link("h", secret), member("t", data=b"t"), hard("h", "t"),
    )  # fmt: skip
    assert room.tree() == {"f": "new", "d": "/", "p": "fifo", "l": "-> x", "h": "t", "t": "t"}


ESCAPES: dict[str, Iterable[tuple[tarfile.TarInfo, bytes]]] = {
    "dot dot": [member("../outside/new")],
    "dot dot inside": [member("a/../../outside/new")],
    "dot dot at the end": [directory("a/..")],
    "a hard link outward": [hard("x", "../outside/secret")],
    "an absolute hard link": [hard("x", "/outside/secret")],
    "a hard link through a link": [link("o", "../outside"), hard("x", "o/secret")],
    "a hard link through an absolute link": [link("o", "/proc/self/cwd"), hard("x", "o/secret")],
    "a hard link to nothing": [hard("x", "")],
    "a hard link to itself": [hard("x", "x")],
    "a hard link to a directory": [directory("d"), hard("x", "d")],
    "a hard link to the root": [hard("x", ".")],
    "a loop": [link("a", "b"), link("b", "a"), member("a/x")],
    "a link to itself": [link("a", "a"), member("a/x")],
    "below a file": [member("f"), member("f/x")],
    "below a link to a file": [member("f"), link("l", "f"), member("l/x")],
    "below a fifo": [member("p", tarfile.FIFOTYPE), member("p/x")],
    "a file as the root": [member(".")],
    "a link as the root": [link("./", "/etc")],
    "a long component": [member("x" * 256)],
    "a long path": [member("x/" * 2100)],
    "a long link": [link("l", "x" * 5000)],
    "a path that grows by links": [link("l", "y/" * 2000), member("l/l2/" + "z/" * 1000 + "x")],
    "an owner that means nobody": [member("f", pax_headers={"uid": "4294967295"})],
    "a device of no kernel": [member("c", tarfile.CHRTYPE, devmajor=0o777777, devminor=1)],
    "more entries than allowed": [member(f"f{i}") for i in range(1001)],
}  # fmt: skip


@pytest.mark.parametrize("attack", ESCAPES)
def test_attacks_are_refused(room: Room, attack: str) -> None:
    with pytest.raises(DataError):
        room.unpack(*ESCAPES[attack])


def test_a_nul_in_a_name(room: Room) -> None:
    with pytest.raises(DataError, match="NUL"):
        room.unpack(member("f", pax_headers={"path": "a\0b"}))


def test_deep_trees_are_made_and_replaced(room: Room) -> None:
    """More directories than descriptors, deeper than the interpreter's stack."""
    room.unpack(member("d/" * 1500 + "f"), directory("e"), member("d", data=b"gone"))
    assert room.tree() == {"d": "gone", "e": "/"}


def test_more_directories_than_descriptors(room: Room) -> None:
    names = [f"d{i}" for i in range(300)]
    room.unpack(*(directory(n) for n in names), *(member(f"{n}/f", data=n.encode()) for n in names * 2))
    assert {n: room.tree()[f"{n}/f"] for n in names} == {n: n for n in names}


step_names = st.sampled_from(
    ["a", "b", "c", "..", ".", "", "/", ".wh.a", ".wh.b", ".wh..wh..opq", "outside", "secret"]
)
step_paths = st.lists(step_names, min_size=1, max_size=4).map("/".join)
step_targets = step_paths.map(lambda path: "../" * path.count("a") + path)
step_kinds = st.sampled_from(
    [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
steps = st.lists(st.tuples(step_kinds, step_paths, step_targets), max_size=12)
counter = iter(range(1 << 30))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(steps)
def test_no_sequence_of_entries_leaves_the_directory(
    tmp_path: Path, given_steps: list[tuple[bytes, str, str]]
) -> None:
    place = tmp_path / str(next(counter))
    place.mkdir()
    room = Room(place)
    members = [
        member(name, kind, b"data" if kind == tarfile.REGTYPE else b"", linkname=target)
        for kind, name, target in given_steps
    ]
    try:
        room.unpack(*members)
    except DataError:
        pass


def test_no_descriptor_is_left(room: Room) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(DataError):
        room.unpack(directory("a/b"), member("a/b/c"), hard("x", "nothing"))
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.requires("root")
def test_a_full_disk(tmp_path: Path) -> None:
    from harness.machine import mount

    place = tmp_path / "small"
    place.mkdir()
    mount("tmpfs", str(place), "tmpfs", 0, "size=1m")
    try:
        room = Room(place)
        with pytest.raises(HostError, match=r"unpack '.*': no space left on device") as caught:
            room.unpack(*(member(f"f{i}", data=b"x" * 100_000) for i in range(20)))
        assert "knarr rmi" in caught.value.hint
    finally:
        subprocess.run(["umount", str(place)], check=True)
