"""One container on disk: names are taken atomically, the lock tells who lives, a question disturbs nobody."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from knarr.engine.container_dir import (
    ContainerConfig,
    ContainerDir,
    container_ids,
    create_dir,
    find,
    name_owner,
    take_name,
)
from knarr.engine.options import ContainerOptions, MountRequest
from knarr.engine.state import read_state
from knarr.errors import Conflict, NotFound
from knarr.host.paths import Paths

ID = "ab" * 32
OTHER = "ac" * 32


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    for name in ("root/containers", "root/names", "run/containers"):
        (tmp_path / name).mkdir(parents=True)
    return Paths(f"{tmp_path}/root", f"{tmp_path}/run", ())


def config(name: str = "one") -> ContainerConfig:
    options = ContainerOptions(
        "busybox", ("true",), mounts=(MountRequest("bind", "/b", "/a"),), entrypoint=None
    )
    return ContainerConfig(
        ID, name, "2026-01-01T00:00:00.000000000Z", "sha256:0", "busybox", ("/l",), options
    )


def test_a_configuration_reads_back(paths: Paths) -> None:
    directory, lock = create_dir(paths, ID)
    directory.write_config(config())
    assert directory.config() == config()
    os.close(lock)


def test_the_lock_is_seen_without_being_taken(paths: Paths) -> None:
    directory, lock = create_dir(paths, ID)
    assert directory.alive()
    with pytest.raises(BlockingIOError):
        directory.acquire()
    os.close(lock)
    assert not directory.alive()
    again = directory.acquire()
    assert directory.alive()
    os.close(again)


def test_a_child_that_inherits_the_lock_keeps_it(paths: Paths) -> None:
    directory, lock = create_dir(paths, ID)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    os.close(lock)
    assert directory.alive()
    os.close(writer)
    os.waitpid(child, 0)
    assert not directory.alive()


def test_names_are_taken_once_and_are_free_when_their_container_is_gone(paths: Paths) -> None:
    _, lock = create_dir(paths, ID)
    take_name(paths, "one", ID)
    with pytest.raises(Conflict, match="already in use"):
        take_name(paths, "one", OTHER)
    os.close(lock)
    os.rename(f"{paths.root}/containers/{ID}", f"{paths.root}/gone")
    take_name(paths, "one", OTHER)
    assert name_owner(paths, "one") == OTHER


def test_finding(paths: Paths) -> None:
    for identity in (ID, OTHER):
        _, lock = create_dir(paths, identity)
        os.close(lock)
    take_name(paths, "one", ID)
    assert find(paths, "one").id == find(paths, ID).id == find(paths, "ab").id == ID
    with pytest.raises(Conflict):
        find(paths, "a")
    for wrong in ("zz", "", "..", "a/b", "x\0"):
        with pytest.raises(NotFound):
            find(paths, wrong)


def test_half_made_containers_are_not_listed(paths: Paths) -> None:
    os.mkdir(f"{paths.root}/containers/{ID}~")
    assert container_ids(paths) == []


def test_states_from_files_and_lock(paths: Paths) -> None:
    directory, lock = create_dir(paths, ID)
    assert read_state(directory).status == "starting"
    os.close(lock)
    assert read_state(directory).status == "created"
    Path(f"{directory.root}/exit").write_text(
        "code 3\nsignal 0\noom 1\nfinished 2026-01-01T00:00:00.000000000Z\n"
    )
    state = read_state(directory)
    assert (state.status, state.exit_code, state.oom_killed) == ("exited", 3, True)


def test_removed_under_our_hands(paths: Paths) -> None:
    gone = ContainerDir(paths, ID)
    assert not gone.alive()
    with pytest.raises(NotFound):
        gone.acquire()
    with pytest.raises(NotFound):
        gone.config()
