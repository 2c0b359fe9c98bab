"""Delete a tree of any depth with two descriptors, never following a link.

Directories that are deeper than one level are moved to the top and emptied there: an archive can nest thousands of
them, which is more than descriptors or stack allow.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: str | bytes, *, dir_fd: int | None = None) -> None:
    """Delete `path` and all below it; absent is fine. A directory without rights is given them. Raises `OSError`."""
    try:
        os.unlink(path, dir_fd=dir_fd)
        return
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        pass  # unlink(2): EISDIR on Linux for a directory, EPERM elsewhere
    top = _open(path, dir_fd)
    try:
        aside = os.urandom(12).hex()
        waiting = _empty(top, top, aside, 0)
        made = 0
        while waiting:
            name = waiting.pop()
            directory = _open(name, top)
            try:
                found = _empty(directory, top, aside, made)
            finally:
                os.close(directory)
            made += len(found)
            waiting += found
            os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(path, dir_fd=dir_fd)


def _empty(directory: int, top: int, aside: str, made: int) -> list[str]:
    """Unlink what is in `directory`, move its subdirectories to `top`; their names there."""
    with os.scandir(directory) as entries:
        listed = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    names = []
    for name, is_directory in listed:
        if not is_directory:
            os.unlink(name, dir_fd=directory)
        elif directory == top:
            names.append(name)
        else:
            free = f"{aside}{made}"
            made += 1
            try:
                os.rename(name, free, src_dir_fd=directory, dst_dir_fd=top)
            except PermissionError:
                os.chmod(name, 0o700, dir_fd=directory)  # its own `..` has to be written
                os.rename(name, free, src_dir_fd=directory, dst_dir_fd=top)
            names.append(free)
    return names


def _open(path: str | bytes, dir_fd: int | None) -> int:
    """A directory we may list and change."""
    fd = -1
    try:
        fd = os.open(path, _DIRECTORY, dir_fd=dir_fd)
        if os.fstat(fd).st_mode & 0o300 == 0o300 or os.geteuid() == 0:
            return fd
        os.fchmod(fd, 0o700)
    except PermissionError:
        os.chmod(path, 0o700, dir_fd=dir_fd)
        if fd < 0:
            fd = os.open(path, _DIRECTORY, dir_fd=dir_fd)
    return fd
