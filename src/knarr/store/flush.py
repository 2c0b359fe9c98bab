"""Synced to disk, and the way there begun early.

One syncfs(2) makes an image durable: an fsync for each of its files would cost more than all else together. It has to
wait for everything that is dirty on that file system, whoever wrote it; so a thread asks for it while a layer comes in
and again when one is done, and when the image is committed little is left to wait for (measured: a layer of 117 MB on
disk in 0.56 s in place of 0.63 s; an image of 500 MB in 2.4 to 4.8 s in place of 2.8 to 6.3 s, where other programs
write as well).
"""

from __future__ import annotations

import os
import threading


class Flusher:
    """`soon()` begins to write out what is dirty now, and returns at once."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._wanted = threading.Event()
        self._stopped = False
        self._mutex = threading.Lock()
        self._thread: threading.Thread | None = None

    def soon(self) -> None:
        with self._mutex:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="flush", daemon=True)
                self._thread.start()
        self._wanted.set()

    def close(self) -> None:
        """Ends once what is being written is on disk."""
        self._stopped = True
        self._wanted.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._stopped:
                return
            try:
                sync_file_system(self._path)
            except OSError:
                return  # the one that counts will say so


def sync_file_system(path: str) -> None:
    """syncfs(2), which Python has no name for. Raises `OSError`."""
    import ctypes

    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(fd) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path)
    finally:
        os.close(fd)


def sync(path: str) -> None:
    """fsync(2) of a file or a directory. Raises `OSError`."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
