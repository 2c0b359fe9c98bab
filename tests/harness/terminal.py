"""A command at a real terminal: what it prints is read, what is sent is typed.

with Terminal(["knarr", "run", "-it", image, "sh"], env) as terminal:
    terminal.until("# ")
    terminal.type("exit 3\\n")
    assert terminal.end() == 3
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from typing import Any

PATIENCE_S = 60.0


class Terminal:
    """`seen` is all that was printed so far, with the terminal's line ends made plain."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], **identity: Any) -> None:
        self._master, slave = pty.openpty()
        self.resize(24, 80)
        self.process = subprocess.Popen(
            argv,
            env={**env, "TERM": "dumb"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            **identity,
        )
        os.close(slave)
        self._raw = b""
        self._mark = 0

    @property
    def seen(self) -> str:
        return self._raw.decode(errors="replace").replace("\r\n", "\n")

    def until(self, text: str) -> None:
        """Waits, but not for ever, until it has been printed, after what was waited for before."""
        deadline = time.monotonic() + PATIENCE_S
        while (found := self.seen.find(text, self._mark)) < 0:
            assert time.monotonic() < deadline, f"{text!r} was not printed in time: {self.seen!r}"
            assert self._read(0.2), f"ended without printing {text!r}: {self.seen!r}"
        self._mark = found + len(text)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def end(self) -> int:
        """Reads to the end; the exit code."""
        deadline = time.monotonic() + PATIENCE_S
        while self._read(0.2):
            assert time.monotonic() < deadline, f"does not end: {self.seen!r}"
        return self.process.wait(PATIENCE_S)

    def _read(self, timeout_s: float) -> bool:
        if select.select([self._master], [], [], timeout_s)[0]:
            try:
                self._raw += os.read(self._master, 4096)
            except OSError:  # EIO: nobody has the other side open any more
                return False
            return True
        return self.process.poll() is None

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)
