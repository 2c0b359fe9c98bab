"""What engines read when a command has failed: `--log FILE --log-format json`, a line per message, as of runc."""

from __future__ import annotations

import os

from knarr.cli.visible import visible
from knarr.errors import UsageError
from knarr.host import clock
from knarr.oci import json

FORMATS = ("text", "json")


class Log:
    """Errors and warnings. They go to standard error as well, in a person's words."""

    __slots__ = ("_debug", "_json", "_path", "_warns")

    def __init__(self, path: str = "", form: str = "text", *, debug: bool = False) -> None:
        if form not in FORMATS:
            raise UsageError(
                f"invalid argument {form!r} for --log-format: must be one of {', '.join(FORMATS)}"
            )
        kind, colon, rest = path.partition(":")
        if colon and kind != "file" and "/" not in kind:
            raise UsageError(f"invalid argument {path!r} for --log: a path, or file:PATH")
        self._path = rest if colon and kind == "file" else path
        self._json = form == "json"
        self._debug = debug
        self._warns = not self._path

    def leave_standard_error(self) -> None:
        """It becomes the workload's: what we say there would be among what that prints, in an engine's log of it."""
        self._warns = self._warns and os.isatty(2)

    def error(self, message: str, hint: str = "") -> None:
        self._write("error", message)
        told = hint and os.isatty(2)  # a person is there; engines read the one line
        _say(f"knarr-runtime: error: {visible(message)}\n" + (f"  {visible(hint)}\n" if told else ""))

    def warn(self, message: str) -> None:
        self._write("warning", message)
        if self._warns:
            _say(f"knarr-runtime: warning: {visible(message)}\n")

    def debug(self, message: str) -> None:
        if self._debug:
            self._write("debug", message)
            if not self._path:
                _say(f"{self._line('debug', message)}\n")

    def _line(self, level: str, message: str) -> str:
        if self._json:
            return json.dumps({"level": level, "msg": message, "time": clock.now()})
        return f"time={json.dumps(clock.now())} level={level} msg={json.dumps(message)}"

    def _write(self, level: str, message: str) -> None:
        if not self._path:
            return
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError:
            return  # it was asked for by an engine; standard error has it too
        try:
            os.write(fd, f"{self._line(level, message)}\n".encode("utf-8", "backslashreplace"))
        except OSError:
            return  # as above: a full disk is no reason to fail
        finally:
            os.close(fd)


def _say(text: str) -> None:
    os.write(2, text.encode("utf-8", "backslashreplace"))
