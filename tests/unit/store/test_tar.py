"""The tar reader: against tarfile as the writer, GNU tar as the writer, and archives made byte by byte."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knarr.errors import DataError
from knarr.store import tar
from knarr.store.tar import Entry, TarReader

BLOCK = 512
END = bytes(1024)


def header(name: bytes = b"f", kind: bytes = b"0", size: int = 0, **fields: bytes) -> bytes:
    """A ustar header with a right checksum; `fields` replace its fields byte by byte."""
    block = bytearray(BLOCK)
    places = {
        "name": (0, name),
        "mode": (100, b"0000644\0"),
        "uid": (108, b"0000001\0"),
        "gid": (116, b"0000002\0"),
        "size": (124, b"%011o\0" % size if size >= 0 else b""),
        "mtime": (136, b"%011o\0" % 7),
        "kind": (156, kind),
        "link": (157, fields.pop("link", b"")),
        "magic": (257, b"ustar\x0000"),
        "major": (329, b"0000000\0"),
        "minor": (337, b"0000000\0"),
        "prefix": (345, b""),
    }
    for field, data in fields.items():
        places[field] = (places[field][0], data) if field in places else (int(field[1:]), data)
    for at, data in places.values():
        block[at : at + len(data)] = data
    return checked(bytes(block))


def checked(block: bytes) -> bytes:
    blank = block[:148] + b" " * 8 + block[156:]
    return block[:148] + b"%06o\0 " % sum(blank) + block[156:]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def pax(*records: tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    body = b""
    for key, value in records:
        rest = b" %b=%b\n" % (key, value)
        length = len(rest) + 1
        while len(b"%d" % length) + len(rest) != length:
            length += 1
        body += b"%d%b" % (length, rest)
    return header(b"PaxHeaders", kind, len(body)) + padded(body)


def long(data: bytes, kind: bytes) -> bytes:
    return header(b"././@LongLink", kind, len(data) + 1, magic=b"ustar  \0") + padded(data + b"\0")


def feed(data: bytes, step: int = 1 << 20) -> Callable[[int], bytes]:
    stream = io.BytesIO(data)
    return lambda size: stream.read(min(size, step))


def entries(data: bytes, *, step: int = 1 << 20, strict_end: bool = True) -> list[tuple[Entry, bytes]]:
    """Every entry with its contents, holes filled in."""
    reader = TarReader(feed(data, step), strict_end=strict_end)
    found = []
    for entry in reader:
        content = bytearray(entry.size if entry.extents is not None else 0)
        for offset, chunk in reader.extents():
            content[offset : offset + len(chunk)] = chunk
        found.append((entry, bytes(content)))
    return found


def one(data: bytes) -> Entry:
    ((entry, _),) = entries(data + END)
    return entry


# ---- against tarfile


names = st.text(
    st.characters(codec="utf-8", exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=60
)
paths = st.lists(names, min_size=1, max_size=8).map("/".join)
ids = st.one_of(st.integers(0, 70_000), st.integers(0, 2**32 - 2))
kinds = {
    tar.FILE: tarfile.REGTYPE, tar.HARDLINK: tarfile.LNKTYPE, tar.SYMLINK: tarfile.SYMTYPE, tar.CHAR: tarfile.CHRTYPE,
    tar.BLOCK_DEVICE: tarfile.BLKTYPE, tar.DIRECTORY: tarfile.DIRTYPE, tar.FIFO: tarfile.FIFOTYPE,
}  # fmt: skip
members = st.tuples(
    st.sampled_from(list(kinds)), paths, paths, st.integers(0, 0o7777), ids, ids,
    st.integers(0, 2**33), st.binary(max_size=2000), st.integers(0, 4095), st.integers(0, 2**20 - 1),
)  # fmt: skip


@given(
    st.lists(members, max_size=6),
    st.sampled_from((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)),
    st.integers(1, 1500),
)
def test_what_tarfile_writes(given_members: list[tuple[object, ...]], form: int, step: int) -> None:
    out = io.BytesIO()
    expected = []
    with tarfile.TarFile(fileobj=out, mode="w", format=form) as archive:
        for kind, name, link, mode, uid, gid, mtime, data, major, minor in given_members:
            info = tarfile.TarInfo(str(name))
            info.type = kinds[str(kind)]
            info.mode, info.uid, info.gid, info.mtime = mode, uid, gid, mtime  # type: ignore[assignment]
            is_file, is_link = kind == tar.FILE, kind in (tar.HARDLINK, tar.SYMLINK)
            assert isinstance(data, bytes)
            info.size = len(data) if is_file else 0
            info.linkname = str(link) if is_link else ""
            device = (0, 0)
            if kind in (tar.CHAR, tar.BLOCK_DEVICE):
                info.devmajor, info.devminor = device = (major, minor)  # type: ignore[assignment]
            archive.addfile(info, io.BytesIO(data))
            assert isinstance(mtime, int)
            expected.append(
                (
                    str(name).encode(),
                    kind,
                    mode,
                    uid,
                    gid,
                    info.size,
                    mtime * 10**9,
                    info.linkname.encode(),
                    device,
                    data if is_file else b"",
                )
            )
    found = [
        (e.name.rstrip(b"/"), e.kind, e.mode, e.uid, e.gid, e.size, e.mtime_ns, e.link, e.device, content)
        for e, content in entries(out.getvalue(), step=step)
    ]
    assert found == [(n.rstrip(b"/"), *rest) for n, *rest in expected]


@given(st.binary(max_size=4096))
def test_garbage_is_refused_or_read_but_never_fatal(data: bytes) -> None:
    try:
        entries(data)
    except DataError:
        pass


@given(st.integers(0, BLOCK * 4), st.integers(1, 255))
def test_a_damaged_byte_never_escapes(at: int, flip: int) -> None:
    data = bytearray(pax((b"path", b"x" * 120)) + header(b"f", size=5) + padded(b"hello") + END)
    data[at] ^= flip
    try:
        entries(bytes(data))
    except DataError:
        pass


# ---- against GNU tar


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    deep = root / ("d" * 90) / ("e" * 90) / ("f" * 90)
    deep.mkdir(parents=True)
    (deep / ("n" * 200)).write_text("long")
    (root / "s").symlink_to("x" * 150)
    (root / "ümlaut").write_text("ü")
    (root / "a").write_text("twice")
    os.link(root / "a", root / "b")
    os.mkfifo(root / "fifo")
    os.utime(root / "a", ns=(0, 1_234_567_890_123_456_789))
    with (root / "sparse").open("wb") as file:
        for at in (1 << 20, 5 << 20, 9 << 20):
            file.seek(at)
            file.write(b"island")
        file.truncate(12 << 20)
    (root / "empty-sparse").touch()
    os.truncate(root / "empty-sparse", 3 << 20)
    return root


FORMS = {
    "v7": ["--format=v7", "--exclude=*/dddd*", "--exclude=./s", "--exclude=fifo"],
    "oldgnu": ["--format=oldgnu", "--sparse"],
    "gnu": ["--format=gnu", "--sparse"],
    "ustar": ["--format=ustar", "--exclude=*/ffff*", "--exclude=./s", "--exclude=./ümlaut"],
    "posix": ["--format=posix"],
    "sparse-0.0": ["--format=posix", "--sparse", "--sparse-version=0.0"],
    "sparse-0.1": ["--format=posix", "--sparse", "--sparse-version=0.1"],
    "sparse-1.0": ["--format=posix", "--sparse", "--sparse-version=1.0"],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("step", [BLOCK - 1, 1 << 20])
def test_what_gnu_tar_writes(tree: Path, form: str, step: int) -> None:
    program = shutil.which("tar")
    assert program
    made = subprocess.run(
        [program, *FORMS[form], "--sort=name", "-C", str(tree), "-cf", "-", "."],
        stdout=subprocess.PIPE, check=True, env={"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"},
    ).stdout  # fmt: skip
    seen: dict[str, str] = {}
    for entry, content in entries(made, step=step):
        name = entry.name.decode().rstrip("/")
        path = tree / name
        there = path.lstat()
        seen[name] = entry.kind
        assert entry.mode == there.st_mode & 0o7777, name
        assert (entry.uid, entry.gid) == (there.st_uid, there.st_gid)
        exact = form.startswith(("posix", "sparse"))
        assert (
            entry.mtime_ns == there.st_mtime_ns if exact else entry.mtime_ns // 10**9 == int(there.st_mtime)
        )
        if entry.kind == tar.FILE:
            assert content == path.read_bytes(), name
            assert entry.size == there.st_size
        elif entry.kind == tar.SYMLINK:
            assert entry.link.decode() == os.readlink(path)
    assert sorted((seen["./a"], seen["./b"])) == sorted((tar.FILE, tar.HARDLINK))
    assert form in ("v7",) or seen["./fifo"] == tar.FIFO
    assert seen["./sparse"] == tar.FILE
    if "sparse" in form or form in ("gnu", "oldgnu"):
        assert len(made) < 1 << 20, "the archive is a sparse one"


# ---- byte by byte


def test_base_256_and_negative_times() -> None:
    big = one(header(uid=b"\x80\0\0\0\xff\xff\xff\xfe", mtime=b"\xff" * 12))
    assert (big.uid, big.mtime_ns) == (0xFFFFFFFE, -1_000_000_000)


def test_a_prefix_is_joined() -> None:
    assert one(header(b"leaf", prefix=b"some/where")).name == b"some/where/leaf"


def test_gnu_has_no_prefix_but_times_there() -> None:
    assert one(header(b"leaf", magic=b"ustar  \0", prefix=b"12345670123\0")).name == b"leaf"


def test_star_keeps_times_behind_its_prefix() -> None:
    found = one(header(b"leaf", prefix=b"where" + bytes(126) + b"00000000001 ", _508=b"tar\0"))
    assert found.name == b"where/leaf"


def test_signed_checksums_of_old_writers() -> None:
    block = bytearray(header(b"\xff\xfe"))
    signed = sum(b - 256 if b > 127 else b for b in bytes(block[:148]) + b" " * 8 + bytes(block[156:]))
    block[148:156] = b"%06o\0 " % signed
    assert one(bytes(block)).name == b"\xff\xfe"


def test_pax_overrides_and_an_empty_value_does_not() -> None:
    found = one(
        pax(
            (b"path", b"p"), (b"linkpath", b"l"), (b"uid", b"4000000000"), (b"gid", b""), (b"mtime", b"-1.25"),
            (b"SCHILY.xattr.user.a", b"\0=\n\xff"), (b"uname", b"nobody"),
        )
        + header(b"f", b"2", link=b"x")
    )  # fmt: skip
    assert found == Entry(
        b"p", tar.SYMLINK, 0o644, 4_000_000_000, 2, 0, -1_250_000_000, b"l", xattrs={b"user.a": b"\0=\n\xff"}
    )


def test_global_records_hold_until_they_are_taken_back() -> None:
    data = pax((b"uid", b"9"), kind=b"g") + header(b"a") + pax((b"uid", b"5")) + header(b"b")
    data += pax((b"uid", b""), kind=b"g") + header(b"c")
    assert [e.uid for e, _ in entries(data + END)] == [9, 5, 1]


def test_pax_size_counts_and_not_the_headers() -> None:
    data = pax((b"size", b"3")) + header(size=0) + padded(b"abc")
    assert entries(data + END)[0][1] == b"abc"


def test_gnu_long_names_and_links() -> None:
    data = (
        long(b"n" * 300, b"L")
        + long(b"l" * 300, b"K")
        + header(b"short", b"2", link=b"short", magic=b"ustar  \0")
    )
    found = one(data)
    assert (found.name, found.link) == (b"n" * 300, b"l" * 300)


def test_what_is_no_file_has_no_data_whatever_its_size_says() -> None:
    for kind in b"1", b"2", b"3", b"4", b"5", b"6":
        assert [e.size for e, _ in entries(header(b"x", kind, size=700) + header(b"y") + END)] == [0, 0]


def test_v7_directories_end_in_a_slash() -> None:
    assert one(header(b"d/", b"\0", magic=bytes(8))).kind == tar.DIRECTORY


def test_labels_are_passed_over_and_dumped_directories_keep_their_place() -> None:
    data = (
        header(b"label", b"V")
        + header(b"d/", b"D", size=600)
        + bytes(1024)
        + header(b"f", size=2)
        + padded(b"ok")
    )
    assert [(e.name, e.kind, c) for e, c in entries(data + END)][1:] == [(b"f", tar.FILE, b"ok")]


def test_many_extension_blocks_of_old_gnu_sparse() -> None:
    pairs = [(i * 1024, 1) for i in range(60)]

    def slots(some: list[tuple[int, int]]) -> bytes:
        return b"".join(b"%011o\0%011o\0" % pair for pair in some)

    first = header(
        b"s",
        b"S",
        size=60,
        magic=b"ustar  \0",
        _386=slots(pairs[:4]),
        _482=b"\1",
        _483=b"%011o\0" % (60 * 1024),
    )
    more = b"".join(
        (slots(pairs[i : i + 21]).ljust(504, b"\0") + (b"\1" if i + 21 < 60 else b"\0")).ljust(512, b"\0")
        for i in range(4, 60, 21)
    )
    ((entry, content),) = entries(first + more + padded(b"x" * 60) + END)
    assert entry.size == 60 * 1024
    assert content == (b"x" + bytes(1023)) * 60


def sparse_file(ranges: bytes) -> bytes:
    records = ((b"GNU.sparse.map", ranges), (b"GNU.sparse.size", b"9"))
    return pax(*records) + header(size=4) + bytes(BLOCK) + END


BAD = {
    "checksum": b"x" + header()[1:] + END,
    "number": header(mode=b"00_0644\0") + END,
    "negative number": header(uid=b"-000001\0") + END,
    "letters": header(size=-1, mtime=b"0x12\0") + END,
    "size past all": header(_124=b"\x80" + b"\xff" * 11) + END,
    "negative size": header(_124=b"\xff" * 12) + END,
    "unknown type": header(kind=b"Q") + END,
    "multi-volume": header(kind=b"M") + END,
    "cut in a header": header()[:200],
    "cut in data": header(size=600) + bytes(512),
    "cut in padding": header(size=3) + b"abc",
    "no end mark": header(),
    "half an end mark": header() + bytes(512),
    "end behind a pax header": pax((b"path", b"x")) + END,
    "a record's length": header(b"p", b"x", 8) + padded(b"9 a=bcd\n") + header() + END,
    "a record without end": header(b"p", b"x", 8) + padded(b"8 a=bcde") + header() + END,
    "a record without length": header(b"p", b"x", 8) + padded(b"a=bcdef\n") + header() + END,
    "a record without equals": header(b"p", b"x", 8) + padded(b"8 abcde\n") + header() + END,
    "a huge pax header": header(b"p", b"x", 1 << 30) + END,
    "a huge long name": header(b"p", b"L", 1 << 30) + END,
    "pax size no number": pax((b"size", b"1e3")) + header() + END,
    "pax mtime no time": pax((b"mtime", b"now")) + header() + END,
    "sparse overlap": sparse_file(b"0,2,1,2"),
    "sparse past the end": sparse_file(b"8,4"),
    "sparse short of data": sparse_file(b"0,2"),
    "sparse odd": sparse_file(b"0"),
    "sparse without size": pax((b"GNU.sparse.map", b"0,1")) + header(size=1) + bytes(512) + END,
    "sparse 2.0": pax((b"GNU.sparse.major", b"2"), (b"GNU.sparse.minor", b"0")) + header() + END,
    "sparse 1.0 without map": pax(
        (b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"9")
    ) + header(size=512) + b"x" * 512 + END,
    "sparse 1.0 with too many": pax(
        (b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"9")
    ) + header(size=512) + padded(b"99999999999\n") + END,
    "sparse 0.0 out of order": pax(
        (b"GNU.sparse.numbytes", b"1"), (b"GNU.sparse.offset", b"0"), (b"GNU.sparse.size", b"9")
    ) + header(size=1) + bytes(512) + END,
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD)
def test_bad_archives_are_refused(fault: str) -> None:
    with pytest.raises(DataError):
        entries(BAD[fault])


def test_a_layer_may_end_without_its_mark() -> None:
    assert len(entries(header(), strict_end=False)) == 1
    assert entries(b"", strict_end=False) == []
    with pytest.raises(DataError):
        entries(header()[:100], strict_end=False)


def test_what_follows_the_end_is_read_for_the_digest() -> None:
    stream = io.BytesIO(header() + END + b"x" * 5000)
    assert len(list(TarReader(stream.read))) == 1
    assert stream.read() == b""


def test_leaping_over_contents_finds_the_same() -> None:
    data = b"".join(header(b"%d" % i, size=3000) + padded(bytes([i]) * 3000) for i in range(5)) + END
    stream = io.BytesIO(data)
    leaps: list[int] = []

    def leap(count: int) -> None:
        leaps.append(count)
        stream.seek(count, os.SEEK_CUR)

    reader = TarReader(lambda n: stream.read(min(n, 700)), leap=leap)
    for i, _ in enumerate(reader):
        assert data[reader.position : reader.position + 3000] == bytes([i]) * 3000
    assert leaps


def test_contents_are_bounded() -> None:
    reader = TarReader(feed(header(size=10) + padded(b"0123456789") + END))
    for _ in reader:
        with pytest.raises(DataError):
            reader.contents(9, "it")
        assert reader.contents(10, "it") == b"0123456789"
