"""Renaming a container: the new name is taken before the old one is let go."""

from __future__ import annotations

import fcntl
import os

from knarr.engine.container_dir import ContainerDir, name_owner, take_name
from knarr.engine.container_names import checked_name
from knarr.errors import Conflict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.engine.engine import Engine


def rename(engine: Engine, directory: ContainerDir, name: str) -> None:
    """Raises `Conflict` when the name is another's, or the container's own already."""
    new = checked_name(name)
    one_at_a_time = os.open(directory.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        config = directory.config()
        if new == config.name:
            raise Conflict(f"the container's name is {name!r} already")
        take_name(engine.paths, new, directory.id)
        directory.write_config(config._replace(name=new, options=config.options._replace(name=new)))
        if name_owner(engine.paths, config.name) == directory.id:
            os.unlink(f"{engine.paths.root}/names/{config.name}")
    finally:
        os.close(one_at_a_time)
