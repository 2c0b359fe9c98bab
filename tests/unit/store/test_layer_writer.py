"""Writing layers: deterministic, everything comes back through our reader, tarfile and GNU tar."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import socket
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knarr.store import tar
from knarr.store.layer_writer import Look, write_layer
from knarr.store.tar import Entry, TarReader
from knarr.store.tar_writer import TarWriter
from knarr.store.unpack import unpack


def written(directory: Path, look: Look = Look()) -> bytes:  # noqa: B008  # a value
    out = io.BytesIO()
    fd = os.open(directory, os.O_RDONLY)
    try:
        write_layer(fd, out.write, look)
    finally:
        os.close(fd)
    return out.getvalue()


def made_again(layer: bytes, path: Path) -> Path:
    path.mkdir()
    fd = os.open(path, os.O_RDONLY)
    try:
        unpack(TarReader(io.BytesIO(layer).read), fd, userxattr=True)
    finally:
        os.close(fd)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    deep = root / ("d" * 120) / ("é" * 60)
    deep.mkdir(parents=True)
    (deep / "file").write_text("deep")
    (root / "bin").mkdir(mode=0o1777)
    (root / "bin/tool").write_bytes(bytes(range(256)) * 5000)
    (root / "bin/tool").chmod(0o4755)
    os.link(root / "bin/tool", root / "bin/alias")
    (root / "link").symlink_to("x" * 300)
    os.mkfifo(root / "pipe")
    os.utime(root / "bin/tool", ns=(0, 1_600_000_000_123_456_789))
    os.utime(root / "link", ns=(0, -1_500_000_000), follow_symlinks=False)
    os.setxattr(root / "bin/tool", "user.note", b"\0binary=\n")
    with (
        contextlib.chdir(root),
        socket.socket(socket.AF_UNIX) as sock,
    ):  # the path may be too long for an address
        sock.bind("socket")
    return root


def facts(root: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for base, folders, files in os.walk(root):
        for name in sorted((*folders, *files)):
            path = Path(base, name)
            there = path.lstat()
            if stat.S_ISSOCK(there.st_mode):
                continue
            content = path.read_bytes() if stat.S_ISREG(there.st_mode) else None
            target = os.readlink(path) if stat.S_ISLNK(there.st_mode) else None
            attributes = {
                k: os.getxattr(path, k)
                for k in os.listxattr(path, follow_symlinks=False)
                if k.startswith("user")
            }
            found[str(path.relative_to(root))] = (
                there.st_mode, there.st_uid, there.st_gid, there.st_mtime_ns, content, target, attributes,
            )  # fmt: skip
    return found


def test_everything_comes_back(tree: Path, tmp_path: Path) -> None:
    layer = written(tree)
    again = made_again(layer, tmp_path / "again")
    assert facts(again) == facts(tree)
    assert (again / "bin/tool").stat().st_ino == (again / "bin/alias").stat().st_ino
    assert written(again) == layer, "and gives the same layer"


def test_tarfile_and_gnu_tar_read_it(tree: Path, tmp_path: Path) -> None:
    layer = written(tree)
    with tarfile.TarFile(fileobj=io.BytesIO(layer)) as archive:
        infos = {info.name: info for info in archive.getmembers()}
    assert infos["bin/tool"].linkname == "bin/alias"
    assert infos["bin/alias"].mtime == pytest.approx(1_600_000_000.123456789)
    assert infos["link"].linkname == "x" * 300
    program = shutil.which("tar")
    assert program
    place = tmp_path / "gnu"
    place.mkdir()
    subprocess.run([program, "-C", str(place), "-xpf", "-"], input=layer, check=True)
    assert {k: v[:-1] for k, v in facts(place).items()} == {k: v[:-1] for k, v in facts(tree).items()}  # type: ignore[index]


def test_owner_and_time_can_be_fixed(tree: Path) -> None:
    layer = written(tree, Look(owner=(5, 6), newest_ns=1_000_000_000))
    entries = list(TarReader(io.BytesIO(layer).read))
    assert {(e.uid, e.gid) for e in entries} == {(5, 6)}
    assert max(e.mtime_ns for e in entries) == 1_000_000_000
    assert [e.name for e in entries] == sorted(e.name for e in entries)


def test_overlays_form_becomes_whiteouts_again(tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    (upper / "d").mkdir(parents=True)
    (upper / "d/new").touch()
    os.mknod(upper / "gone", stat.S_IFCHR | 0o600, os.makedev(0, 0))
    os.setxattr(upper / "d", "user.overlay.opaque", b"y")
    os.setxattr(upper / "d", "user.overlay.origin", b"z")
    entries = list(TarReader(io.BytesIO(written(upper)).read))
    assert [(e.name, e.kind, dict(e.xattrs)) for e in entries] == [
        (b"d/", tar.DIRECTORY, {}), (b"d/.wh..wh..opq", tar.FILE, {}), (b"d/new", tar.FILE, {}),
        (b".wh.gone", tar.FILE, {}),
    ]  # fmt: skip
    again = made_again(written(upper), tmp_path / "again")
    assert written(again) == written(upper)


numbers = st.integers(-(10**12), 10**12)
entries_ = st.builds(
    Entry,
    name=st.binary(min_size=1, max_size=300).filter(lambda n: b"\0" not in n and not n.endswith(b"/")),
    kind=st.sampled_from([tar.FILE, tar.SYMLINK, tar.HARDLINK, tar.FIFO, tar.CHAR]),
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 2**32 - 2),
    gid=st.integers(0, 2**32 - 2),
    size=st.just(0),
    mtime_ns=st.one_of(numbers, numbers.map(lambda n: n * 10**9)),
    link=st.binary(max_size=300).filter(lambda n: b"\0" not in n),
    device=st.tuples(st.integers(0, 4095), st.integers(0, 2**20 - 1)),
    xattrs=st.dictionaries(
        st.sampled_from([b"user.a", b"user.\xff", b"security.capability"]), st.binary(max_size=99)
    ),
)


@given(st.lists(st.tuples(entries_, st.binary(max_size=1500)), max_size=5))
def test_round_trip(given_entries: list[tuple[Entry, bytes]]) -> None:
    out = io.BytesIO()
    writer = TarWriter(out.write)
    expected = []
    for given_entry, data in given_entries:
        entry = given_entry
        if entry.kind == tar.FILE:
            entry = entry._replace(size=len(data))
        if entry.kind != tar.CHAR:
            entry = entry._replace(device=(0, 0))
        writer.entry(entry)
        if entry.kind == tar.FILE:
            writer.data(data)
        expected.append((entry, data if entry.kind == tar.FILE else b""))
    writer.close()
    reader = TarReader(io.BytesIO(out.getvalue()).read)
    assert [(entry, b"".join(reader.chunks())) for entry in reader] == expected
