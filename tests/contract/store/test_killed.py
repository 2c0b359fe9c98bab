"""SIGKILL at every system call that changes something: the state of before or of after, and the next command mends."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from contract.store.archives import all_blobs, entry, layout
from contract.store.conftest import add, audit, files, in_use, names_of
from harness.images import MadeImage, make_image
from harness.kill import kills
from knarr.store.store import Store

SCENARIO = Path(__file__).parent / "scenario.py"
pytestmark = [
    pytest.mark.requires("strace"),
    pytest.mark.skipif(shutil.which("strace") is None, reason="this machine lacks: strace"),
    pytest.mark.timeout(900),
]


@pytest.fixture
def command() -> Any:
    """What `kills` asks of a command line."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    return SimpleNamespace(argv=(sys.executable, str(SCENARIO)), env=env, uid=None, identity={})


def settled(store: Store) -> set[str]:
    """What the next command finds, having swept: only whole images, and names that lead to them."""
    audit(store)
    with store.operation() as writer:
        writer.session.sweep_partial(0)
    left = [name for name in files(store.root) if name.startswith("tmp/")]
    assert left == [], left
    found = names_of(store.images())
    assert len([name for name in files(store.root) if name.startswith("refs/")]) == len(found)
    return found


def test_while_an_image_comes_in(store: Store, image: MadeImage, command: Any, tmp_path: Path) -> None:
    place = tmp_path / "layout"
    for name, data in layout([entry(image.manifest)], all_blobs(image)).items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    for how in kills(command, tmp_path, "ingest", store.root, str(place), most=8):
        names = settled(store)
        assert names in (set(), {"docker.io/library/app:1"}), how
        add(store, image, "app:1")
        assert settled(store) == {"docker.io/library/app:1"}, how
        store.remove("app:1", in_use=in_use())
        store.close()
        assert files(store.root) == [], how


def test_while_an_image_goes(
    store: Store, image: MadeImage, sibling: MadeImage, command: Any, tmp_path: Path
) -> None:
    add(store, sibling, "other:1")
    add(store, image, "app:1")
    store.close()
    for how in kills(command, tmp_path, "remove", store.root, "app:1", most=8):
        assert settled(store) - {"docker.io/library/app:1"} == {"docker.io/library/other:1"}, how
        add(store, image, "app:1")
        store.close()


def test_while_a_name_is_given(store: Store, image: MadeImage, command: Any, tmp_path: Path) -> None:
    add(store, image, "app:1")
    add(store, make_image([]), "retagged:1")
    store.close()
    for how in kills(command, tmp_path, "retag", store.root, "app:1", most=8):
        assert settled(store) == {"docker.io/library/app:1", "docker.io/library/retagged:1"}, how
