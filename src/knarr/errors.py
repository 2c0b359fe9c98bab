"""Every error a user can see: its family, its exit code, its hint.

Families: *you asked for something wrong* (`UsageError`), *it isn't there* or *is already there*
(`NotFound`, `Conflict`), *the host can't* (`HostError`), *the other side misbehaved* (`RemoteError`),
*the data is damaged or hostile* (`DataError`). Anything that is not a `KnarrError` is our bug and keeps
its traceback. Messages are lower case and name the object, then the cause; the hint is the next command to type.
"""

from __future__ import annotations


class KnarrError(Exception):
    """Base of all errors knarr raises on purpose. `exit_code` is what `knarr run` exits with."""

    exit_code = 125

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(KnarrError):
    """The request is wrong: a bad flag, a bad reference, options that exclude each other."""


class NotFound(KnarrError):
    """No such object."""

    def __init__(self, kind: str, name: str, *, hint: str = "") -> None:
        super().__init__(f"no such {kind}: {name}", hint=hint)
        self.kind = kind
        self.name = name


class Conflict(KnarrError):
    """The object is already there, or is in a state that forbids the request."""


class HostError(KnarrError):
    """This machine lacks something, or refused a system call."""


class RemoteError(KnarrError):
    """A registry (or another server) refused, lied, stalled or answered nonsense."""

    def __init__(self, message: str, *, hint: str = "", status: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class DataError(KnarrError):
    """A document, archive or blob is damaged, hostile, or not what its digest says."""


class StepFailed(HostError):
    """A step of a plan failed in the executor. `errno` is the kernel's."""

    def __init__(self, message: str, *, errno: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.errno = errno


class CommandNotFound(KnarrError):
    """The container's command does not exist in its root filesystem."""

    exit_code = 127


class CommandNotExecutable(KnarrError):
    """The container's command exists but cannot be executed."""

    exit_code = 126
