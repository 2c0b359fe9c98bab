"""Mending what a crash left: a container whose lock is free and that still has something of a run.

Every command that lists, starts or removes containers mends; what it does is what the monitor would have done:
execute the tear-down plan that was written before anything was made.
"""

from __future__ import annotations

import os
import time

from knarr.engine.container_dir import (
    MAKING,
    ContainerDir,
    container_ids,
    is_id,
    name_owner,
    names,
    write_file,
)
from knarr.errors import Conflict, NotFound
from knarr.host.clock import now

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.engine.engine import Engine

_ABANDONED_S = 5
_LOST_CODE = 137


def mend(engine: Engine, directory: ContainerDir, lock: int = -1) -> None:
    """Tear down what is left of a run nobody looks after. Does nothing while somebody does."""
    if not os.path.isdir(directory.run):
        return
    own = lock
    if own < 0:
        try:
            own = directory.acquire()
        except BlockingIOError:
            return
        except NotFound:
            own = -1  # removed, but for its run directory
    try:
        _tear_down(engine, directory)
    finally:
        if own >= 0 and own != lock:
            os.close(own)


def _tear_down(engine: Engine, directory: ContainerDir) -> None:
    from knarr.engine.remove import delete_tree
    from knarr.host.native import execute_file

    pid = directory.pid_record()
    ended = directory.exit_record()
    if "started" in pid and ended.get("started") != pid["started"] and os.path.isdir(directory.root):
        lines = f"code {_LOST_CODE}\nsignal 9\noom 0\nstarted {pid['started']}\nfinished {now()}\n"
        try:
            write_file(f"{directory.root}/exit", lines.encode())
        except OSError:
            pass  # a full disk must not keep the rest from being given back
    plan = f"{directory.run}/teardown"
    if os.path.exists(plan):
        execute_file(plan, rootless=engine.facts.euid != 0)
    elif os.path.isdir(f"{engine.paths.run}/networks"):
        from knarr.network.mend import mend as mend_network

        # Killed before the plan was written: what it may have taken of the network is known by its id alone.
        mend_network(engine.paths, lambda other: other != directory.id)
    delete_tree(directory.run)


def mend_all(engine: Engine) -> None:
    """Mend every container, and sweep container directories that were never finished or not wholly removed."""
    try:
        running = [name for name in os.listdir(f"{engine.paths.run}/containers") if is_id(name)]
    except FileNotFoundError:
        running = []
    for container_id in running:
        directory = ContainerDir(engine.paths, container_id)
        if not directory.alive():
            mend(engine, directory)
    for container_id in container_ids(engine.paths):
        directory = ContainerDir(engine.paths, container_id)
        if not os.path.exists(f"{directory.root}/config.json"):
            if not directory.alive():
                _sweep(engine, directory.root, container_id)
        elif os.path.exists(f"{directory.root}/once") and not directory.alive():
            _forget(engine, directory)
    _sweep_half_made(engine)


def _forget(engine: Engine, directory: ContainerDir) -> None:
    """What is left of a `run --rm` that was killed before its tear-down plan was written: it has never run."""
    from knarr.engine.remove import remove

    try:
        remove(engine, directory, volumes=True)
    except (Conflict, NotFound):
        return  # another command is at it


def _sweep_half_made(engine: Engine) -> None:
    parent = f"{engine.paths.root}/containers"
    try:
        half_made = [n for n in os.listdir(parent) if n.endswith(MAKING)]
    except FileNotFoundError:
        return
    for name in half_made:
        if not ContainerDir(engine.paths, name).alive():
            _sweep(engine, f"{parent}/{name}", name.removesuffix(MAKING))


def _sweep(engine: Engine, path: str, container_id: str) -> None:
    """Delete a directory without owner; a young one may belong to a command that is about to lock it."""
    from knarr.engine.remove import delete_tree, remove_name

    try:
        if time.time() - os.stat(path).st_mtime < _ABANDONED_S and not os.path.exists(f"{path}/lock"):
            return
    except FileNotFoundError:
        return
    for name in names(engine.paths):
        if name_owner(engine.paths, name) == container_id:
            remove_name(engine.paths, name)
    delete_tree(path, rootless=engine.facts.euid != 0)
