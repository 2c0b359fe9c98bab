"""Removing containers, so that a kill in the middle leaves either the container or a leftover that is swept."""

from __future__ import annotations

import os
import time

from knarr.engine.container_dir import MAKING, PATIENCE_S, ContainerDir, name_owner, names
from knarr.engine.state import read_state
from knarr.errors import Conflict, KnarrError, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.engine.engine import Engine
    from knarr.host.paths import Paths


def remove(engine: Engine, directory: ContainerDir, *, force: bool = False, volumes: bool = False) -> None:
    """Remove a container that does not run; with `force` kill it first. Raises `Conflict`, `NotFound`."""
    lock = _stopped(engine, directory, force)
    if lock is None:
        return
    try:
        anonymous: tuple[str, ...] = ()
        try:
            config = directory.config()
            name, anonymous = config.name, tuple(config.volumes.values())
        except KnarrError:  # a configuration that cannot be read must not keep a container from being removed
            name = next((n for n in names(engine.paths) if name_owner(engine.paths, n) == directory.id), "")
        discard(engine.paths, directory, name, rootless=engine.facts.euid != 0)
        if volumes:
            from knarr.engine.volumes import remove_anonymous

            for volume in anonymous:
                remove_anonymous(engine, volume)
    finally:
        os.close(lock)


def _stopped(engine: Engine, directory: ContainerDir, force: bool) -> int | None:
    """The lock of a container that does not run any more; `None` when it removed itself (`--rm`)."""
    from knarr.engine.mend import mend

    was_running = False
    deadline = time.monotonic() + PATIENCE_S
    while True:
        if read_state(directory).running:
            was_running = True
            if not force:
                raise Conflict(
                    f"container {directory.id[:12]} is running",
                    hint=f"stop it with `knarr stop {directory.id[:12]}`, or remove it with `knarr rm -f`",
                )
            from knarr.engine.stop import stop

            stop(engine, directory, 0, "KILL")
        try:
            mend(engine, directory)
            return directory.acquire()
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Conflict(
                    f"container {directory.id[:12]} is being started or removed by another command"
                ) from None
        except NotFound:
            if was_running:
                return None
            raise
        time.sleep(0.01)


def discard(paths: Paths, directory: ContainerDir, name: str, *, rootless: bool = False) -> None:
    """Take a container's name away and delete its tree. The caller holds its lock, or it never was complete."""
    if name and name_owner(paths, name) == directory.id:
        remove_name(paths, name)
    going = directory.root + MAKING
    try:
        # From here on no command sees the container; what a kill leaves of it is swept by the next one.
        os.rename(directory.root, going)
    except FileNotFoundError:
        pass
    delete_tree(going, rootless=rootless)
    delete_tree(directory.run)


def delete_tree(path: str, *, rootless: bool = False) -> None:
    """Delete a tree that may hold files of mapped users. Absent is fine."""
    from knarr.host import native
    from knarr.plan.step import Step

    if not os.path.lexists(path):
        return
    if rootless:
        from knarr.host.userns import rmtree_in_userns

        rmtree_in_userns(path)
    else:
        native.execute([Step("rmtree", (path,), "remove")])


def remove_name(paths: Paths, name: str) -> None:
    """Let go of a name. Absent is fine."""
    try:
        os.unlink(f"{paths.root}/names/{name}")
    except FileNotFoundError:
        pass
