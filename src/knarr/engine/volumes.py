"""Volumes: directories that outlive containers.

ROOT/volumes/NAME/
  _data/        what is mounted
  filling       present while a container fills it with what its image has there
  anonymous     present when the volume was made for one container, and goes with it on `rm -v` or `--rm`
"""

from __future__ import annotations

import os

from knarr.errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knarr.engine.engine import Engine
    from knarr.host.paths import Paths


def ensure(paths: Paths, name: str) -> str:
    """The data directory of a volume, made when it is missing. Raises `HostError`."""
    directory = f"{paths.root}/volumes/{name}"
    data = f"{directory}/_data"
    try:
        if not os.path.isdir(data):
            os.makedirs(data, 0o755, exist_ok=True)
    except OSError as e:
        raise HostError(f"volume {name}: {(e.strerror or str(e)).lower()}") from e
    return data


def marker_of(data: str) -> str:
    """The file that says that the volume with this data directory is being filled. Pure."""
    return f"{os.path.dirname(data)}/filling"


def keep_as_it_is(data: str) -> None:
    """A volume that is used without being filled first: what a filling that was cut off left in it is its content."""
    try:
        os.unlink(marker_of(data))
    except FileNotFoundError:
        pass


def _touch(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def make_anonymous(paths: Paths, name: str) -> None:
    """A new volume that goes with its container. Raises `HostError`."""
    try:
        os.makedirs(f"{paths.root}/volumes/{name}", 0o755)
        _touch(f"{paths.root}/volumes/{name}/anonymous")
    except OSError as e:
        raise HostError(f"volume {name}: {(e.strerror or str(e)).lower()}") from e
    ensure(paths, name)


def remove_anonymous(engine: Engine, name: str) -> None:
    """Remove a volume that was made for one container; a named one is left alone."""
    from knarr.engine.remove import delete_tree

    directory = f"{engine.paths.root}/volumes/{name}"
    half_made = not os.path.exists(f"{directory}/_data")
    if half_made or os.path.exists(f"{directory}/anonymous"):
        delete_tree(directory, rootless=engine.facts.euid != 0)
