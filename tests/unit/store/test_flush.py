"""Writing out early: it never fails a pull, and never outlives it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from knarr.store.flush import Flusher, sync, sync_file_system


def flushing() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "flush"]


def test_one_thread_for_all_and_none_afterwards(tmp_path: Path) -> None:
    flusher = Flusher(str(tmp_path))
    assert flushing() == []
    callers = [threading.Thread(target=flusher.soon) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(flushing()) == 1
    flusher.close()
    assert flushing() == []


def test_what_was_never_asked_needs_no_end(tmp_path: Path) -> None:
    Flusher(str(tmp_path)).close()


def test_its_failure_is_for_the_one_that_counts(tmp_path: Path) -> None:
    flusher = Flusher(str(tmp_path / "gone"))
    flusher.soon()
    flusher.close()
    with pytest.raises(FileNotFoundError):
        sync_file_system(str(tmp_path / "gone"))


def test_files_and_directories(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    sync(str(tmp_path / "file"))
    sync(str(tmp_path))
    sync_file_system(str(tmp_path))
