"""`--cidfile`: the file is reserved before anything is made, and written once the id is known."""

from __future__ import annotations

import os

from knarr.errors import Conflict, UsageError


class CidFile:
    """A reserved file, or none when the flag was not given."""

    __slots__ = ("_fd", "_path")

    def __init__(self, path: str, fd: int) -> None:
        self._path = path
        self._fd = fd

    def write(self, container_id: str) -> None:
        if self._fd >= 0:
            os.write(self._fd, container_id.encode())
            os.close(self._fd)
            self._fd = -1

    def give_up(self) -> None:
        """Remove the file again: no container was made."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            os.unlink(self._path)


def reserve(path: str) -> CidFile:
    """Raises `Conflict` when the file is there already."""
    if not path:
        return CidFile("", -1)
    try:
        return CidFile(path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
    except FileExistsError:
        raise Conflict(
            f"container id file found: {path}", hint="remove it, or choose another --cidfile"
        ) from None
    except OSError as e:
        raise UsageError(f"--cidfile {path}: {(e.strerror or str(e)).lower()}") from e
