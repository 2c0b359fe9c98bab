"""Deleting trees."""

from __future__ import annotations

import os
from pathlib import Path

from knarr.store.removal import remove_tree


def test_all_kinds_go_and_nothing_else(tmp_path: Path) -> None:
    keep = tmp_path / "keep"
    keep.mkdir()
    (keep / "file").touch()
    tree = tmp_path / "tree"
    for number in range(3):
        (tree / f"a{number}" / "b" / "c").mkdir(parents=True)
        (tree / f"a{number}" / "b" / "file").touch()
    (tree / "a0/link").symlink_to(keep)
    (tree / "to-file").symlink_to(keep / "file")
    os.mkfifo(tree / "a1/fifo")
    for closed in (tree / "a2/b/c", tree / "a2/b", tree / "a2"):
        closed.chmod(0)
    remove_tree(str(tree))
    assert os.listdir(tmp_path) == ["keep"]
    assert os.listdir(keep) == ["file"]


def test_absent_is_fine_and_a_file_is_a_tree(tmp_path: Path) -> None:
    remove_tree(str(tmp_path / "nothing"))
    (tmp_path / "file").touch()
    remove_tree(str(tmp_path / "file"))
    (tmp_path / "link").symlink_to(tmp_path)
    remove_tree(str(tmp_path / "link"))
    assert os.listdir(tmp_path) == []


def test_deeper_than_any_path(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    top = os.dup(here)
    for _ in range(3000):
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    remove_tree("d", dir_fd=top)
    os.close(top)
    assert os.listdir(tmp_path) == []
