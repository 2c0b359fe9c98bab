"""A file of a hostile root filesystem: found as overlayfs would, never outside of it, never by opening a device."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from knarr.errors import DataError
from knarr.host.rootfiles import read_in_root


def layer(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    root.mkdir(exist_ok=True)
    return str(root)


def read(*layers: str, path: str = "/etc/passwd") -> str | None:
    data = read_in_root(layers, path, 1000)
    return None if data is None else data.decode()


def test_the_topmost_layer_wins(tmp_path: Path) -> None:
    low = layer(tmp_path / "low", {"etc/passwd": "low", "etc/group": "low group"})
    top = layer(tmp_path / "top", {"etc/passwd": "top"})
    assert read(top, low) == "top"
    assert read(top, low, path="/etc/group") == "low group"
    assert read(top, low, path="/etc/none") is None
    assert read(top, low, path="/none/passwd") is None


def test_limit(tmp_path: Path) -> None:
    root = layer(tmp_path / "r", {"etc/passwd": "x" * 100})
    assert read_in_root([root], "etc/passwd", 10) == b"x" * 10


def test_whiteout_by_attribute(tmp_path: Path) -> None:
    low = layer(tmp_path / "low", {"etc/passwd": "low"})
    top = layer(tmp_path / "top", {"etc/passwd": ""})
    os.setxattr(tmp_path / "top/etc/passwd", "user.overlay.whiteout", b"")
    assert read(top, low) is None


@pytest.mark.requires("root")
def test_whiteout_by_device(tmp_path: Path) -> None:
    low = layer(tmp_path / "low", {"etc/passwd": "low", "usr/x": "low"})
    top = layer(tmp_path / "top", {"etc/other": ""})
    os.mknod(tmp_path / "top/etc/passwd", 0o020000, os.makedev(0, 0))
    os.mknod(tmp_path / "top/usr", 0o020000, os.makedev(0, 0))
    assert read(top, low) is None
    assert read(top, low, path="/usr/x") is None


def test_opaque_directory_hides_what_is_below(tmp_path: Path) -> None:
    low = layer(tmp_path / "low", {"etc/passwd": "low"})
    top = layer(tmp_path / "top", {"etc/other": ""})
    assert read(top, low) == "low"
    os.setxattr(tmp_path / "top/etc", "user.overlay.opaque", b"y")
    assert read(top, low) is None


def test_a_file_in_the_way_hides_a_directory_below(tmp_path: Path) -> None:
    low = layer(tmp_path / "low", {"etc/passwd": "low"})
    top = layer(tmp_path / "top", {"etc": "a file"})
    assert read(top, low) is None


def test_links_are_resolved_inside(tmp_path: Path) -> None:
    outside = tmp_path / "secret"
    outside.write_text("secret")
    root = layer(tmp_path / "r", {"data/users": "inside", "secret": "the root's own"})
    etc = tmp_path / "r/etc"
    etc.mkdir()
    (etc / "passwd").symlink_to("/data/users")
    (etc / "up").symlink_to("../../../../../secret")
    (etc / "out").symlink_to(str(outside))
    (etc / "dir").symlink_to("../data")
    assert read(root) == "inside"
    assert read(root, path="/etc/up") == "the root's own"  # above the root is the root
    assert read(root, path="/etc/out") is None
    assert read(root, path="/etc/dir/users") == "inside"
    assert read(root, path="/etc/dir/../etc/passwd") == "inside"


def test_a_directory_that_is_a_link_out(tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    (tmp_path / "host/passwd").write_text("host")
    (tmp_path / "r").mkdir()
    (tmp_path / "r/etc").symlink_to(tmp_path / "host")
    assert read(str(tmp_path / "r")) is None


def test_a_link_of_one_layer_leads_through_another(tmp_path: Path) -> None:
    low = layer(tmp_path / "low", {"usr/lib/passwd": "low"})
    top = layer(tmp_path / "top", {})
    (tmp_path / "top/etc").symlink_to("usr/lib")
    assert read(top, low) == "low"


def test_link_loops_end(tmp_path: Path) -> None:
    root = layer(tmp_path / "r", {"etc/x": ""})
    (tmp_path / "r/etc/passwd").symlink_to("passwd")
    with pytest.raises(DataError, match="too many levels of symbolic links"):
        read(root)


def test_what_is_no_file_is_never_opened(tmp_path: Path) -> None:
    root = layer(tmp_path / "r", {"etc/x": ""})
    os.mkfifo(tmp_path / "r/etc/passwd")  # opening it would wait for ever
    (tmp_path / "r/etc/group").mkdir()
    assert read(root) is None
    assert read(root, path="/etc/group") is None
    assert read(root, path="/etc/x/y") is None
    assert read(root, path="/") is None


def test_a_layer_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or directory"):
        read(str(tmp_path / "gone"))


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    low = layer(tmp_path / "low", {"etc/passwd": "low"})
    top = layer(tmp_path / "top", {"usr/x": ""})
    (tmp_path / "top/etc").symlink_to("/no/where")
    before = len(os.listdir("/proc/self/fd"))
    for path in ("/etc/passwd", "/usr/x", "/usr/y", "/usr/x/z", "/none"):
        read(top, low, path=path)
    assert len(os.listdir("/proc/self/fd")) == before
